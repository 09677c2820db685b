//! Long-running processes that keep read models, and others that write events and give orders.
//!
//! ```text
//! cargo run --example projection_daemon -- run          # in two terminals
//! cargo run --example projection_daemon -- write --moves 10000
//! cargo run --example projection_daemon -- check
//! cargo run --example projection_daemon -- tell divide explorers 6
//! ```
//!
//! Start `run` in two terminals and see how they share the work; then `write` in a third. Kill one of the
//! two (`kill -9`): the other takes its work over within two seconds, and nothing is lost or done twice.
//! Start it again: the work is shared again. Ctrl-C finishes the batches in hand. `check` compares a read
//! model with a fold over the events. `tell` pauses, resumes, divides and retries.

mod check;
mod run;
mod table;
mod tell;
mod write;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use es_core::{Chain, Project, ProjectionStore, SnapshotStore};
use examples::{
    Explorers, RoomOccupancy,
    database::{self, Database},
    room_occupancy::WhoIsWhere,
};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

/// Keeps the read model `room_occupancy` up to date.
#[derive(Parser)]
struct Args {
    /// postgres://user@host/database, or a SQLite file.
    #[arg(long, global = true, default_value = "castle.db", value_name = "URL")]
    database_url: String,
    /// The Postgres schema that holds the tables.
    #[arg(long, global = true, default_value = "public")]
    schema: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the daemon until Ctrl-C or SIGTERM.
    Run {
        /// How long a killed daemon keeps the next one waiting, in milliseconds.
        #[arg(long, default_value_t = 1_500)]
        lease_ms: u64,
    },
    /// Appends events: players enter the castle and walk through it.
    Write {
        /// How many players.
        #[arg(long, default_value_t = 4)]
        players: u32,
        /// How many moves each of them makes.
        #[arg(long, default_value_t = 100)]
        moves: u32,
        /// Moves this one player instead; several processes may move the same one.
        #[arg(long, conflicts_with = "players", value_name = "UUID")]
        player: Option<Uuid>,
    },
    /// Tells the daemons what to do.
    Tell {
        #[command(subcommand)]
        command: tell::Command,
    },
    /// Waits for the daemon's checkpoint to reach the end, then compares the read model with a fold
    /// over the events.
    Check,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match start(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("projection_daemon: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn start(args: Args) -> Result<(), Failure> {
    match database::open(&args.database_url, &args.schema).await? {
        Database::Sqlite(store) => perform(store, args.task).await,
        Database::Postgres(store) => perform(store, args.task).await,
    }
}

async fn perform<S>(store: S, task: Task) -> Result<(), Failure>
where
    S: ProjectionStore + SnapshotStore + WhoIsWhere + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
    Explorers: Project<S::Connection>,
{
    match task {
        Task::Run { lease_ms } => run::until_stopped(store, Duration::from_millis(lease_ms)).await,
        Task::Write {
            moves,
            player: Some(id),
            ..
        } => write::together(store, id, moves).await,
        Task::Write { players, moves, .. } => write::walk(store, players, moves).await,
        Task::Check => check::compare(&store).await,
        Task::Tell { command } => tell::tell(store, command).await,
    }
}
