//! W6: a whole log, replayed into a read model of one row for each player.

mod floors;
pub(crate) mod log;
pub(crate) mod ours;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::{
    floors::{Floor, TABLE, postgres, sqlite_rusqlite::Rusqlite, sqlite_sqlx::Sqlx},
    log::Log,
    ours::Replayed,
};
use crate::{
    backend::Backend,
    compare::Plan,
    measure::{Round, Summary},
    place::Place,
    side::Result,
    table::{Table, number, whole},
};

const MEMORY: &str = "≤ 64 MiB";

/// How the read model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handler {
    /// The rows of a batch are loaded and saved together.
    Rows,
    /// A statement for each batch, the one of the floors.
    InOne,
    /// A statement for each event.
    ByEvent,
}

/// What our side is to replay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) handler: Handler,
    pub(crate) shards: u32,
    /// How many events there are.
    pub(crate) end: u32,
}

impl Handler {
    fn title(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::InOne => "a statement for each batch",
            Self::ByEvent => "a statement for each event",
        }
    }

    /// Where each event is a trip to the database a tenth of the log is enough.
    fn events(self, events: u32) -> u32 {
        match self {
            Self::Rows | Self::InOne => events,
            Self::ByEvent => (events / 10).max(1),
        }
    }

    /// The ratio that the design asks for, to each floor.
    fn to_reach(self, backend: Backend) -> [&'static str; 2] {
        match (self, backend) {
            (Self::Rows | Self::InOne, Backend::Postgres) => ["≥ 1.5", ""],
            (Self::Rows | Self::InOne, Backend::Sqlite) => ["≥ 1.0", ""],
            (Self::ByEvent, Backend::Postgres) => ["≥ 1.0", ""],
            (Self::ByEvent, Backend::Sqlite) => ["", ""],
        }
    }

    /// First the floor that ratios are about.
    async fn floors(self, place: &Place) -> Result<Vec<Box<dyn Floor>>> {
        Ok(match (place, self) {
            (Place::Postgres { schema }, Self::Rows | Self::InOne) => vec![
                Box::new(postgres::Loop::open(schema, self).await?),
                Box::new(postgres::Ahead::open(schema).await?),
            ],
            (Place::Postgres { schema }, Self::ByEvent) => {
                vec![Box::new(postgres::Loop::open(schema, self).await?)]
            }
            (Place::Sqlite { file }, _) => vec![
                Box::new(Sqlx::open(file, self).await?),
                Box::new(Rusqlite::open(file, self)?),
            ],
        })
    }
}

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let mut table = Table::new([
        "workload",
        "backend",
        "ours (per s)",
        "memory",
        "floor",
        "floor (per s)",
        "ratio",
        "of best",
        "to reach",
    ]);
    for handler in [Handler::Rows, Handler::InOne, Handler::ByEvent] {
        for &backend in &plan.backends {
            compare(handler, backend, plan, &mut table).await?;
        }
    }
    println!("\n{table}");
    println!("- memory: the most our process had in use; to reach at 1 M events: {MEMORY}");
    Ok(())
}

/// Ours, floor, ours, floor …, all on one log.
async fn compare(handler: Handler, backend: Backend, plan: &Plan, table: &mut Table) -> Result<()> {
    let events = handler.events(plan.events);
    let what = format!("W6 replay {} events, {}", whole(events), handler.title());
    eprintln!("{what} on {}", backend.name());
    let log = Log::fill(backend, events, plan.seed).await?;
    let floors = handler.floors(&log.fresh.place).await?;
    let order = Order {
        handler,
        shards: 1,
        end: events,
    };
    let mut ours = Summary::default();
    let mut memory = None;
    let mut summaries: Vec<Summary> = floors.iter().map(|_| Summary::default()).collect();
    for _ in 0..plan.rounds {
        let turn = our_turn(&log, order).await?;
        ours.add(once(turn.time));
        memory = memory.max(turn.memory);
        for (floor, summary) in floors.iter().zip(&mut summaries) {
            floor.reset().await?;
            let started = Instant::now();
            floor.replay().await?;
            summary.add(once(started.elapsed()));
            log.check(TABLE).await?;
        }
    }
    let to_reach = handler.to_reach(backend);
    for ((floor, summary), to_reach) in floors.iter().zip(summaries).zip(to_reach) {
        table.row([
            what.clone(),
            backend.name().to_owned(),
            number(ours.rate() * f64::from(events)),
            mebibytes(memory),
            floor.name().to_owned(),
            number(summary.rate() * f64::from(events)),
            number(ours.rate() / summary.rate()),
            number(ours.best() / summary.best()),
            to_reach.to_owned(),
        ]);
    }
    Ok(())
}

/// W6 with the projection divided into shards.
pub(crate) async fn shards(plan: &Plan) -> Result<()> {
    let mut table = Table::new([
        "shards",
        "backend",
        "events (per s)",
        "to one shard",
        "memory",
    ]);
    for &backend in &plan.backends {
        let log = Log::fill(backend, plan.events, plan.seed).await?;
        let mut turns = [1, 2, 4].map(|shards| (shards, Summary::default(), None));
        for _ in 0..plan.rounds {
            for (shards, summary, memory) in &mut turns {
                eprintln!("{shards} shards on {}", backend.name());
                let order = Order {
                    handler: Handler::Rows,
                    shards: *shards,
                    end: plan.events,
                };
                let turn = our_turn(&log, order).await?;
                summary.add(once(turn.time));
                *memory = turn.memory.max(*memory);
            }
        }
        let one = turns[0].1.rate();
        for (shards, summary, memory) in &turns {
            table.row([
                shards.to_string(),
                backend.name().to_owned(),
                number(summary.rate() * f64::from(plan.events)),
                number(summary.rate() / one),
                mebibytes(*memory),
            ]);
        }
    }
    println!("\n{table}");
    Ok(())
}

async fn our_turn(log: &Log, order: Order) -> Result<Replayed> {
    let turn = ours::turn(&log.fresh.place, order).await?;
    log.check("room_occupancy").await?;
    Ok(turn)
}

/// A round of one operation.
fn once(time: Duration) -> Round {
    Round {
        elapsed: time,
        latencies: vec![time],
    }
}

fn mebibytes(kibibytes: Option<u32>) -> String {
    kibibytes.map_or("unknown".to_owned(), |memory| {
        format!("{:.0} MiB", f64::from(memory) / 1024.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Opened;

    const EVENTS: u32 = 3_500;

    /// Seen to fail when a floor counts one move for each player of a page, and when ours does not save its
    /// rows.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_sides_end_with_the_same_read_model() {
        let log = Log::fill(Backend::Sqlite, EVENTS, 1).await.expect("a log");
        let place = &log.fresh.place;
        for handler in [Handler::Rows, Handler::InOne, Handler::ByEvent] {
            for floor in handler.floors(place).await.expect("the floors open") {
                floor.reset().await.expect("an empty read model");
                let replayed = floor.replay().await;
                assert!(replayed.is_ok(), "{}: {replayed:?}", floor.name());
                let checked = log.check(TABLE).await;
                assert!(checked.is_ok(), "{}: {checked:?}", floor.name());
            }
            for shards in [1, 2] {
                let order = Order {
                    handler,
                    shards,
                    end: EVENTS,
                };
                place.reset().await.expect("an empty read model");
                let Opened::Sqlite(store) = place.open().await.expect("our store") else {
                    panic!("a store on SQLite");
                };
                ours::replay(store, order).await.expect("a replay");
                log.check("room_occupancy").await.expect("ours");
            }
        }
    }
}
