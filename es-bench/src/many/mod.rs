//! Many projections on one log: what they share, and what they cost the writers.

mod counted;
mod counter;

use std::{sync::Arc, time::Instant};

use es_core::{
    Event, EventStore, ExpectedVersion, NewEvent, Position, ProjectionStore, StreamId, Version,
};
use es_projections::{Daemon, DaemonHandle};
use es_sqlx::rows::RunSql;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::{
    counted::{Counted, Reads},
    counter::with_counters,
};
use crate::{
    backend::Backend,
    compare::Plan,
    measure::{self, Operation, Summary, Until, count},
    place::{Opened, Place},
    player::{self, PlayerMoved},
    replay::log::Log,
    side::Result,
    table::{Table, number, time, whole},
};

/// The log that all of them read.
const EVENTS: u32 = 100_000;
const NUMBERS: [usize; 3] = [1, 10, counter::MOST];

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let mut replays = Table::new([
        "projections",
        "backend",
        "log (events per s)",
        "applied (per s)",
        "reads of the log",
        "events read",
    ]);
    let mut appends = Table::new([
        "append 1 event",
        "backend",
        "alone (per s)",
        "p50",
        "p99",
        "beside them (per s)",
        "p50",
        "p99",
        "ratio",
        "of best",
    ]);
    for &backend in &plan.backends {
        for projections in NUMBERS {
            eprintln!("{projections} projections on {}", backend.name());
            let log = Log::fill(backend, EVENTS, plan.seed).await?;
            let (rate, reads) = match log.fresh.place.open().await? {
                Opened::Postgres(store) => replay(store, projections).await?,
                Opened::Sqlite(store) => replay(store, projections).await?,
            };
            check(&log.fresh.place, projections).await?;
            replays.row([
                projections.to_string(),
                backend.name().to_owned(),
                number(rate),
                number(rate * count(projections)),
                whole(reads.calls()),
                whole(reads.events()),
            ]);
        }
        let log = Log::fill(backend, 1, plan.seed).await?;
        let sides = match log.fresh.place.open().await? {
            Opened::Postgres(store) => idle(store, plan).await?,
            Opened::Sqlite(store) => idle(store, plan).await?,
        };
        compare(sides, backend, &mut appends);
    }
    println!("\n{replays}\n{appends}");
    println!(
        "- the {} projections beside do not want what is appended",
        counter::MOST
    );
    Ok(())
}

/// How many events of the log all of them passed in a second, and how often the log was read.
async fn replay<S>(store: S, projections: usize) -> Result<(f64, Arc<Reads>)>
where
    S: ProjectionStore + 'static,
    S::Connection: RunSql,
{
    let reads = Arc::new(Reads::default());
    let daemon = Daemon::new(Counted::new(store, Arc::clone(&reads)));
    let started = Instant::now();
    let daemon = with_counters(daemon, projections).start().await?;
    all_at(&daemon, Position::new(EVENTS.into())).await?;
    let elapsed = started.elapsed();
    daemon.shutdown().await?;
    Ok((f64::from(EVENTS) / elapsed.as_secs_f64(), reads))
}

async fn all_at<S>(daemon: &DaemonHandle<S>, position: Position) -> Result<()>
where
    S: ProjectionStore + 'static,
{
    for status in daemon.statuses() {
        let name = status.projection.to_string();
        daemon.wait_until(&name, position).await?;
    }
    Ok(())
}

/// Whether each of them has counted all events.
async fn check(place: &Place, projections: usize) -> Result<()> {
    let tables: Vec<_> = (0..projections)
        .map(|number| format!("SELECT events FROM {}", counter::table(number)))
        .collect();
    let tables = tables.join(" UNION ALL ");
    let query = format!("SELECT min(events), max(events) FROM ({tables}) counters");
    let found = place.two_numbers(query).await?;
    match found == (EVENTS.into(), EVENTS.into()) {
        true => Ok(()),
        false => Err(format!("the projections counted {found:?} events").into()),
    }
}

/// One writer without any projection, and beside all of them, in turns.
async fn idle<S>(store: S, plan: &Plan) -> Result<[Summary; 2]>
where
    S: ProjectionStore + Clone + 'static,
    S::Connection: RunSql,
{
    let [mut alone, mut beside] = [Summary::default(), Summary::default()];
    for _ in 0..plan.rounds {
        let round = measure::run(vec![Writer::new(&store, plan.seed)], Until::Busy(plan.time));
        alone.add(round.await?);
        let daemon = with_counters(Daemon::new(store.clone()), counter::MOST);
        let daemon = daemon.start().await?;
        all_at(&daemon, store.settled().await?).await?;
        let round = measure::run(vec![Writer::new(&store, plan.seed)], Until::Busy(plan.time));
        beside.add(round.await?);
        daemon.shutdown().await?;
    }
    Ok([alone, beside])
}

fn compare([mut alone, mut beside]: [Summary; 2], backend: Backend, table: &mut Table) {
    let [p50, p99] = alone.percentiles().map(time);
    let [beside_p50, beside_p99] = beside.percentiles().map(time);
    table.row([
        "alone, and beside projections".to_owned(),
        backend.name().to_owned(),
        number(alone.rate()),
        p50,
        p99,
        number(beside.rate()),
        beside_p50,
        beside_p99,
        number(beside.rate() / alone.rate()),
        number(beside.best() / alone.best()),
    ]);
}

/// What no projection wants.
#[derive(Event, Serialize, Deserialize, Debug)]
#[serde(transparent)]
struct PlayerDreamt(PlayerMoved);

/// Appends to one stream, of which it knows the version.
struct Writer<S> {
    store: S,
    stream: StreamId,
    version: Version,
    rng: Rng,
}

impl<S: Clone> Writer<S> {
    fn new(store: &S, seed: u64) -> Self {
        Self {
            store: store.clone(),
            stream: StreamId::new("player", Uuid::now_v7()),
            version: Version::new(0),
            rng: Rng::with_seed(seed),
        }
    }
}

impl<S: EventStore + 'static> Operation for Writer<S> {
    async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        let dreamt = NewEvent::encode(&PlayerDreamt(player::moved(&mut self.rng)))?;
        let expected = ExpectedVersion::Exact(self.version);
        let appended = self.store.append(&self.stream, expected, &[dreamt]).await?;
        self.version = appended.version;
        Ok(())
    }
}
