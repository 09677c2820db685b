//! Measures the framework against hand-written SQL: see the README.

#[cfg(feature = "allocations")]
mod allocations;
mod backend;
mod child;
mod compare;
#[cfg(test)]
mod fairness;
mod floors;
mod growth;
mod live;
mod machine;
#[cfg(feature = "projections")]
mod many;
mod measure;
mod ours;
mod place;
mod player;
mod push;
mod replay;
mod rooms;
mod side;
mod table;
mod workloads;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use es_core::Chain;

use crate::{backend::Backend, compare::Plan, side::Result};

/// Measures the framework against hand-written SQL, in one run.
#[derive(Parser)]
struct Options {
    /// Only these workloads, for example W1,W4
    #[arg(long, value_delimiter = ',', ignore_case = true, value_parser = ["W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8"])]
    only: Vec<String>,
    /// Only this database
    #[arg(long)]
    backend: Option<Backend>,
    /// How often ours and the floors take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn is
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many events W6 replays
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// For all that is random but the ids
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How cost grows with the log, a stream, and the number of tasks, instead of the table
    #[arg(long)]
    growth: bool,
    /// With --growth: a log of 10 million events, too
    #[arg(long, requires = "growth")]
    ten_million: bool,
    /// What NOTIFY costs 16 writers, instead of the table
    #[arg(long, conflicts_with_all = ["growth", "allocations"])]
    push: bool,
    /// Many projections on one log, instead of the table; needs the feature `projections`
    #[arg(long, conflicts_with_all = ["growth", "push", "allocations"])]
    projections: bool,
    /// How a replay gains from shards, instead of the table
    #[arg(long, conflicts_with_all = ["growth", "push", "projections", "allocations"])]
    shards: bool,
    /// Count allocations instead; needs the feature `allocations`
    #[arg(long, conflicts_with = "growth")]
    allocations: bool,
    /// What the process that started this one wants of it
    #[arg(long, hide = true)]
    task: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    if let Some(task) = options.task {
        return child::run(&task).await;
    }
    let plan = Plan {
        only: options.only,
        backends: match options.backend {
            Some(backend) => vec![backend],
            None => vec![Backend::Postgres, Backend::Sqlite],
        },
        rounds: options.rounds,
        time: Duration::try_from_secs_f64(options.seconds)?,
        seed: options.seed,
        events: options.events,
    };
    machine::describe(&plan.backends, plan.seed).await?;
    let result = if options.allocations {
        count_allocations(&plan).await
    } else if options.push {
        push::run(&plan).await
    } else if options.growth {
        growth::run(&plan, options.ten_million).await
    } else if options.projections {
        many_projections(&plan).await
    } else if options.shards {
        replay::shards(&plan).await
    } else {
        println!("- {} rounds of {} s a side", plan.rounds, options.seconds);
        tables(&plan).await
    };
    if plan.backends.contains(&Backend::Postgres) {
        backend::clean_postgres().await?;
    }
    result
}

async fn tables(plan: &Plan) -> Result<()> {
    if workloads::ALL
        .iter()
        .any(|workload| plan.wants(workload.id()))
    {
        compare::run(plan).await?;
    }
    if plan.wants("W6") {
        replay::run(plan).await?;
    }
    if plan.wants("W7") {
        live::run(plan).await?;
    }
    Ok(())
}

#[cfg(feature = "allocations")]
async fn count_allocations(plan: &Plan) -> Result<()> {
    allocations::run(plan).await
}

#[cfg(not(feature = "allocations"))]
async fn count_allocations(_: &Plan) -> Result<()> {
    Err("this build does not count allocations: run cargo with --features allocations".into())
}

#[cfg(feature = "projections")]
async fn many_projections(plan: &Plan) -> Result<()> {
    many::run(plan).await
}

#[cfg(not(feature = "projections"))]
async fn many_projections(_: &Plan) -> Result<()> {
    Err("this build has no hundred projections: run cargo with --features projections".into())
}
