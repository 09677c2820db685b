//! How cost grows with the log, with a stream, and with the number of tasks.

use std::sync::Arc;

use fastrand::Rng;
use uuid::Uuid;

use crate::{
    backend::{Backend, Sides},
    compare::Plan,
    measure::{Round, Summary},
    side::{Result, Side},
    table::{Table, number, time, whole},
    workloads::{append, command, rehydrate},
};

const LOGS: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const STREAMS: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
const TASKS: [usize; 4] = [1, 4, 16, 64];

/// The length of the streams that fill a log.
const FILL: u32 = 100;
/// How many of them are loaded.
const SAMPLE: usize = 1_000;
/// How often ours takes a snapshot.
const SNAPSHOT_EVERY: u32 = 100;

pub(crate) async fn run(plan: &Plan, ten_million: bool) -> Result<()> {
    let mut table = Table::new([
        "what",
        "with",
        "backend",
        "ours (per s)",
        "p50",
        "p99",
        "floor (per s)",
        "p50",
        "p99",
        "ratio",
    ]);
    let logs = &LOGS[..LOGS.len() - usize::from(!ten_million)];
    for &backend in &plan.backends {
        log(backend, logs, plan, &mut table).await?;
        stream(backend, plan, &mut table).await?;
        tasks(backend, plan, &mut table).await?;
    }
    println!("\n{table}");
    Ok(())
}

async fn log(backend: Backend, logs: &[u32], plan: &Plan, table: &mut Table) -> Result<()> {
    let sides = backend.open(0).await?;
    let mut rng = Rng::with_seed(plan.seed);
    let mut streams = [Vec::new(), Vec::new()];
    let mut filled = 0;
    for &events in logs {
        eprintln!("a log of {events} events on {}", backend.name());
        for (side, streams) in both(&sides).into_iter().zip(&mut streams) {
            for _ in (filled..events).step_by(FILL as usize) {
                streams.push(command::seed(side, FILL, &mut rng).await?);
            }
        }
        filled = events;
        let with = format!("{} events in the log", whole(events));
        let mut appends = Vec::new();
        let mut loads = Vec::new();
        for (side, streams) in both(&sides).into_iter().zip(&streams) {
            appends.push(append::round(side, 1, 1, plan.time, plan.seed).await?);
            let sample = sample(streams, &mut rng);
            loads.push(rehydrate::loads(side, sample, FILL, plan.time, plan.seed).await?);
        }
        row(table, ["append 1 event", &with, backend.name()], appends);
        row(
            table,
            ["load a stream of 100", &with, backend.name()],
            loads,
        );
    }
    Ok(())
}

async fn stream(backend: Backend, plan: &Plan, table: &mut Table) -> Result<()> {
    let sides = backend.open(SNAPSHOT_EVERY).await?;
    for length in STREAMS {
        eprintln!("streams of {length} events on {}", backend.name());
        let with = format!("{} events in the stream", whole(length));
        let mut loads = Vec::new();
        let mut commands = Vec::new();
        for side in both(&sides) {
            loads.push(rehydrate::round(side, length, plan.time, plan.seed).await?);
            commands.push(command::round(side, length, plan.time, plan.seed).await?);
        }
        row(table, ["rehydrate", &with, backend.name()], loads);
        row(
            table,
            ["command, ours with snapshots", &with, backend.name()],
            commands,
        );
    }
    Ok(())
}

async fn tasks(backend: Backend, plan: &Plan, table: &mut Table) -> Result<()> {
    let sides = backend.open(0).await?;
    for tasks in TASKS {
        eprintln!("{tasks} tasks on {}", backend.name());
        let mut appends = Vec::new();
        for side in both(&sides) {
            appends.push(append::round(side, tasks, 1, plan.time, plan.seed).await?);
        }
        let with = format!("{tasks} at a time");
        row(table, ["append 1 event", &with, backend.name()], appends);
    }
    Ok(())
}

fn both(sides: &Sides) -> [&Arc<dyn Side>; 2] {
    [sides.ours(), sides.floor()]
}

fn sample(streams: &[Uuid], rng: &mut Rng) -> Vec<Uuid> {
    rng.choose_multiple(streams.iter().copied(), SAMPLE)
}

/// `rounds`: ours, and the floor.
fn row(table: &mut Table, [what, with, backend]: [&str; 3], rounds: Vec<Round>) {
    let measured: Vec<_> = rounds
        .into_iter()
        .map(|round| {
            let mut summary = Summary::default();
            summary.add(round);
            (summary.rate(), summary.percentiles().map(time))
        })
        .collect();
    let [(ours, [p50, p99]), (floor, [floor_p50, floor_p99])] = measured.as_slice() else {
        return;
    };
    table.row([
        what.to_owned(),
        with.to_owned(),
        backend.to_owned(),
        number(*ours),
        p50.clone(),
        p99.clone(),
        number(*floor),
        floor_p50.clone(),
        floor_p99.clone(),
        number(ours / floor),
    ]);
}
