//! Telling the daemons what to do, from a process of its own.

use clap::Subcommand;
use es_core::ProjectionStore;
use es_projections::Projections;
use uuid::Uuid;

use crate::Failure;

/// What can be said. It is kept in the database: every daemon obeys within a second, also one that is
/// started later.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows where every shard stands.
    List,
    /// Tells a projection to wait.
    Pause {
        /// Which.
        name: String,
    },
    /// Lets it go on.
    Resume {
        /// Which.
        name: String,
    },
    /// Divides it into another number of shards.
    Divide {
        /// Which.
        name: String,
        /// How many.
        shards: u32,
    },
    /// Tries its parked events again.
    Retry {
        /// Which.
        name: String,
        /// Only those of this aggregate.
        aggregate: Option<Uuid>,
    },
}

pub(crate) async fn tell<S: ProjectionStore>(store: S, command: Command) -> Result<(), Failure> {
    let projections = Projections::new(store);
    match command {
        Command::List => list(&projections).await?,
        Command::Pause { name } => projections.pause(&name).await?,
        Command::Resume { name } => projections.resume(&name).await?,
        Command::Divide { name, shards } => projections.divide(&name, shards).await?,
        Command::Retry { name, aggregate } => {
            let letters = projections.retry(&name, aggregate).await?;
            println!("{letters} parked events will be tried again");
        }
    }
    Ok(())
}

async fn list<S: ProjectionStore>(projections: &Projections<S>) -> Result<(), Failure> {
    for row in projections.list().await? {
        let served = if row.active { "served" } else { "" };
        println!(
            "{:<24} {:<12} {:>9} {served}",
            row.shard.to_string(),
            row.lifecycle.to_string(),
            row.position.to_string(),
        );
        if let Some(failure) = row.failure {
            println!("  {failure}");
        }
    }
    Ok(())
}
