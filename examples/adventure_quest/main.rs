//! A small game, told by its events. `cargo run --example adventure_quest`
//!
//! Without arguments it plays the story on a SQLite file in a temporary folder. `--database-url`
//! names another database; `--players` and `--moves` let a crowd walk through the castle instead.

mod crowd;
mod story;

use std::{error::Error, process::ExitCode};

use clap::Parser;
use es_core::{Chain, Project, ProjectionStore, SnapshotStore};
use examples::{
    RoomOccupancy,
    database::{self, Database},
    room_occupancy::WhoIsWhere,
};
use tracing_subscriber::EnvFilter;

/// Plays a small game on an event store.
#[derive(Parser)]
struct Args {
    /// Where the events are kept: postgres://user@host/database, or a SQLite file.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// How many players walk through the castle.
    #[arg(long, default_value_t = 0)]
    players: u32,
    /// How many moves each of them makes.
    #[arg(long, default_value_t = 100, requires = "players")]
    moves: u32,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adventure_quest: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    // Lives as long as the game: dropping it deletes the folder.
    let folder = tempfile::tempdir()?;
    let address = match &args.database_url {
        Some(url) => url.clone(),
        None => folder
            .path()
            .join("adventure_quest.db")
            .to_string_lossy()
            .into_owned(),
    };
    match database::open(&address, "public").await? {
        Database::Sqlite(store) => {
            println!("Adventure Quest on SQLite\n");
            play(store, &args).await
        }
        Database::Postgres(store) => {
            println!("Adventure Quest on Postgres\n");
            play(store, &args).await
        }
    }
}

async fn play<S>(store: S, args: &Args) -> Result<(), Failure>
where
    S: ProjectionStore + SnapshotStore + WhoIsWhere + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    match args.players {
        0 => story::tell(store).await,
        players => crowd::walk(store, players, args.moves).await,
    }
}
