//! How much memory is asked for, by a global allocator that counts.
//!
//! The allocations of the drivers count; those inside SQLite, which is C, do not.

use std::{alloc::System, sync::Arc};

use fastrand::Rng;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

use crate::{
    compare::Plan,
    measure::{Operation, count},
    side::{Result, Side},
    table::{Table, number, whole},
    workloads::{append::Append, command},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const APPENDS: u32 = 1_000;
const BATCH: u32 = 100;
const LENGTH: u32 = 10_000;

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let mut table = Table::new(["per event", "backend", "side", "allocations", "bytes"]);
    for &backend in &plan.backends {
        let sides = backend.open(0).await?;
        for side in &sides.all {
            let mut row = |what: String, stats: Stats, events: u32| {
                let per_event = |number: usize| count(number) / f64::from(events);
                table.row([
                    what,
                    backend.name().to_owned(),
                    side.name().to_owned(),
                    number(per_event(stats.allocations + stats.reallocations)),
                    number(per_event(stats.bytes_allocated)),
                ]);
            };
            let stats = appends(side, 1, plan.seed).await?;
            row("append 1".to_owned(), stats, APPENDS);
            let stats = appends(side, BATCH, plan.seed).await?;
            row(format!("append {BATCH}"), stats, APPENDS * BATCH);
            let stats = rehydration(side, plan.seed).await?;
            row(format!("rehydrate {}", whole(LENGTH)), stats, LENGTH);
        }
    }
    println!("\n{table}");
    Ok(())
}

async fn appends(side: &Arc<dyn Side>, batch: u32, seed: u64) -> Result<Stats> {
    let mut append = Append::new(side, batch, seed);
    // Statements are prepared, pools filled, and our own buffers grown.
    append.prepare().await?;
    append.run().await?;
    let region = Region::new(ALLOCATOR);
    for _ in 0..APPENDS {
        append.prepare().await?;
        append.run().await?;
    }
    Ok(region.change())
}

async fn rehydration(side: &Arc<dyn Side>, seed: u64) -> Result<Stats> {
    let stream = command::seed(side, LENGTH, &mut Rng::with_seed(seed)).await?;
    side.load(stream).await?;
    let region = Region::new(ALLOCATOR);
    side.load(stream).await?;
    Ok(region.change())
}
