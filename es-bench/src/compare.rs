//! The table: every workload, ours against the floors.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::{Backend, Sides},
    measure::Summary,
    side::{Result, Side},
    table::{Table, number, time},
    workloads::{ALL, Workload},
};

pub(crate) struct Plan {
    /// The ids of the workloads; empty for all.
    pub(crate) only: Vec<String>,
    pub(crate) backends: Vec<Backend>,
    pub(crate) rounds: u32,
    /// How long each side runs in each round.
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// How many events are replayed.
    pub(crate) events: u32,
}

impl Plan {
    /// Whether a workload is wanted.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.eq_ignore_ascii_case(id))
    }
}

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let mut table = Table::new([
        "workload",
        "backend",
        "ours (per s)",
        "p50",
        "p99",
        "floor",
        "floor (per s)",
        "p50",
        "p99",
        "ratio",
        "of best",
        "to reach",
    ]);
    let mut notes = Vec::new();
    for workload in ALL {
        if !plan.wants(workload.id()) {
            continue;
        }
        for &backend in &plan.backends {
            eprintln!(
                "{} {} on {}",
                workload.id(),
                workload.title(),
                backend.name()
            );
            let sides = backend.open(workload.snapshot_every()).await?;
            let sides = match workload {
                Workload::Append {
                    tasks: 2..,
                    batch: 1,
                } => sides.with_grouped()?,
                _ => sides,
            };
            let summaries = interleave(workload, &sides.all, plan).await?;
            report(workload, backend, &sides, summaries, &mut table);
            let given_up = sides.ours().given_up();
            if given_up > 0 {
                notes.push(format!(
                    "{} on {}: {given_up} commands gave up after their retries and were called again",
                    workload.id(),
                    backend.name()
                ));
            }
        }
    }
    println!("\n{table}");
    for note in notes {
        println!("- {note}");
    }
    Ok(())
}

/// Ours, floor, ours, floor …: what disturbs the machine disturbs them all.
pub(crate) async fn interleave(
    workload: Workload,
    sides: &[Arc<dyn Side>],
    plan: &Plan,
) -> Result<Vec<Summary>> {
    let warm_up = plan.time / 4;
    for side in sides {
        workload.round(side, warm_up, plan.seed).await?;
    }
    let mut summaries: Vec<Summary> = sides.iter().map(|_| Summary::default()).collect();
    for round in 1..=plan.rounds {
        let seed = plan.seed.wrapping_add(u64::from(round) << 32);
        for (side, summary) in sides.iter().zip(&mut summaries) {
            summary.add(workload.round(side, plan.time, seed).await?);
        }
    }
    Ok(summaries)
}

fn report(
    workload: Workload,
    backend: Backend,
    sides: &Sides,
    summaries: Vec<Summary>,
    table: &mut Table,
) {
    let events = workload.events_per_operation();
    let mut measured = sides.all.iter().zip(summaries).map(|(side, mut summary)| {
        let [p50, p99] = summary.percentiles().map(time);
        let rates = [summary.rate(), summary.best()].map(|rate| rate * events);
        (side.name(), rates, p50, p99)
    });
    let Some((_, [ours, ours_best], p50, p99)) = measured.next() else {
        return;
    };
    for (index, (name, [floor, floor_best], floor_p50, floor_p99)) in measured.enumerate() {
        table.row([
            format!("{} {}", workload.id(), workload.title()),
            backend.name().to_owned(),
            number(ours),
            p50.clone(),
            p99.clone(),
            name.to_owned(),
            number(floor),
            floor_p50,
            floor_p99,
            number(ours / floor),
            number(ours_best / floor_best),
            match index {
                0 => workload.to_reach(backend).to_owned(),
                _ => String::new(),
            },
        ]);
    }
}
