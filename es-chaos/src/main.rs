//! Seeded chaos for the daemon: writers and daemons are processes that are killed, frozen, drained and
//! restarted, the server crashes, versions replace each other under load; at the end every event that was
//! acknowledged must be in the log once, in every read model, and have had its effect once.
//!
//! ```text
//! cargo run -p es-chaos -- --backend sqlite --seconds 60
//! cargo run -p es-chaos -- --backend postgres --seconds 60 --seed 7
//! ```

mod account;
mod args;
mod check;
mod cluster;
mod daemon;
mod database;
mod faults;
mod folder;
mod orders;
mod process;
mod projections;
mod read_model;
mod schedule;
mod supervisor;
mod tables;
mod totals;
mod writer;

use std::process::ExitCode;

use clap::Parser;
use es_core::{BoxError, Chain};
use es_sqlx::{PgStore, SqliteStore};
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Args, Backend, Plan, Role},
    cluster::Cluster,
    folder::Folder,
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    match args.role {
        Some(Role::Writer(part)) => child(match args.backend {
            Backend::Sqlite => writer::run::<SqliteStore>(part).await,
            Backend::Postgres => writer::run::<PgStore>(part).await,
        }),
        Some(Role::Daemon(part)) => child(match args.backend {
            Backend::Sqlite => daemon::run::<SqliteStore>(part).await,
            Backend::Postgres => daemon::run::<PgStore>(part).await,
        }),
        None => chaos(args.plan()).await,
    }
}

/// The supervisor reads the exit code and keeps the log.
fn child(ended: Result<(), BoxError>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn chaos(plan: Plan) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("error"))
        .with_writer(std::io::stderr)
        .init();
    println!("{plan}");
    match run(&plan).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {}", Chain(&*error));
            eprintln!("seed {}; again: {}", plan.seed, plan.command());
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: &Plan) -> Result<(), BoxError> {
    let folder = Folder::create()?;
    let ended = match plan.backend {
        Backend::Sqlite => {
            let url = folder.path("log.db").display().to_string();
            supervisor::run::<SqliteStore>(plan, &folder, &url, None).await
        }
        Backend::Postgres => {
            let cluster = Cluster::start()?;
            let url = cluster.url();
            supervisor::run::<PgStore>(plan, &folder, &url, Some(&cluster)).await
        }
    };
    if ended.is_err() {
        eprintln!("logs of the processes: {}", folder.keep().display());
    }
    ended
}
