//! W7: how long after an append its event is in the read model, at a steady and moderate rate.

use std::{collections::HashMap, time::Duration};

use es_core::{
    BoxError, EventStore, ExpectedVersion, NewEvent, Position, Project, Projection,
    ProjectionStore, Recorded, StreamId, Version,
};
use es_projections::Daemon;
use fastrand::Rng;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use uuid::Uuid;

use crate::{
    backend::Backend,
    child::{self, Other, Task},
    compare::Plan,
    measure::{Round, Summary},
    place::{Opened, Place},
    player,
    rooms::{RoomOccupancy, RoomOccupancyEvent},
    side::Result,
    table::{Table, time},
};

const EVERY: Duration = Duration::from_millis(5);
const APPENDS: u32 = 2_000;
const PLAYERS: u32 = 100;

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let mut table = Table::new([
        "workload",
        "backend",
        "processes",
        "p50",
        "p95",
        "p99",
        "to reach (p50, p99)",
    ]);
    for processes in [1, 2] {
        for &backend in &plan.backends {
            eprintln!("W7 live, processes: {processes}, on {}", backend.name());
            let fresh = backend.fresh().await?;
            let round = match fresh.place.open().await? {
                Opened::Postgres(store) => measure(store, &fresh.place, processes, plan).await?,
                Opened::Sqlite(store) => measure(store, &fresh.place, processes, plan).await?,
            };
            check(&fresh.place).await?;
            let mut summary = Summary::default();
            summary.add(round);
            let [p50, p95, p99] = summary.within([50, 95, 99]).map(time);
            table.row([
                format!("W7 append to read model, each {}", time(EVERY)),
                backend.name().to_owned(),
                processes.to_string(),
                p50,
                p95,
                p99,
                to_reach(processes, backend).to_owned(),
            ]);
        }
    }
    println!("\n{table}");
    Ok(())
}

fn to_reach(processes: u32, backend: Backend) -> &'static str {
    match (processes, backend) {
        (1, _) => "≤ 1.5 ms, ≤ 5 ms",
        (_, Backend::Postgres) => "≤ 10 ms, ≤ 30 ms",
        (_, Backend::Sqlite) => "≤ 20 ms (how often it looks)",
    }
}

async fn check(place: &Place) -> Result<()> {
    let found = place.players_and_moves("room_occupancy").await?;
    match found == (PLAYERS.into(), APPENDS.into()) {
        true => Ok(()),
        false => Err(format!("{found:?} players and moves in the read model").into()),
    }
}

async fn measure<S>(store: S, place: &Place, processes: u32, plan: &Plan) -> Result<Round>
where
    S: ProjectionStore + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    let mut writer = Writer::new(store.clone(), plan.seed).await?;
    match processes {
        1 => alone(store, &mut writer).await,
        _ => together(place, &mut writer).await,
    }
}

/// The daemon is in the process that appends, which then waits for it.
async fn alone<S>(store: S, writer: &mut Writer<S>) -> Result<Round>
where
    S: ProjectionStore + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    let name = RoomOccupancy::NAME;
    let daemon = Daemon::new(store.clone())
        .run(RoomOccupancy)
        .start()
        .await?;
    daemon.wait_until(name, store.settled().await?).await?;
    let mut round = Round::default();
    for _ in 0..APPENDS {
        let position = writer.append().await?;
        let appended = Instant::now();
        daemon.wait_until(name, position).await?;
        round.latencies.push(appended.elapsed());
    }
    daemon.shutdown().await?;
    Ok(round)
}

/// When an event was appended or seen, by its position; since 1970.
type Times = HashMap<u64, Duration>;

/// The daemon is in another process. What it has seen in its read model, and when, by the clock that both
/// have, is compared in the end: nobody waits for anybody.
async fn together<S: EventStore>(place: &Place, writer: &mut Writer<S>) -> Result<Round> {
    let mut other = Other::start(&Task::Follow(place.clone()))?;
    let _: u64 = other.hear().await?;
    let mut appended = Times::new();
    let mut last = 0;
    for _ in 0..APPENDS {
        last = writer.append().await?.get();
        appended.insert(last, child::now());
    }
    other.tell(&last).await?;
    let seen: Times = other.hear().await?;
    let latency = |(position, appended): (u64, Duration)| {
        let seen = seen.get(&position).ok_or("an event was not seen")?;
        // The other one may be quicker than the answer to the one who appended.
        Ok(seen.saturating_sub(appended))
    };
    Ok(Round {
        elapsed: Duration::ZERO,
        latencies: appended.into_iter().map(latency).collect::<Result<_>>()?,
    })
}

/// In the other process: follows the log until it is told where that ends.
pub(crate) async fn follow(place: &Place) -> Result<()> {
    match place.open().await? {
        Opened::Postgres(store) => follow_on(store).await,
        Opened::Sqlite(store) => follow_on(store).await,
    }
}

async fn follow_on<S>(store: S) -> Result<()>
where
    S: ProjectionStore + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    let (met, mut coming) = mpsc::unbounded_channel();
    let daemon = Daemon::new(store.clone())
        .run(Observed { met })
        .start()
        .await?;
    let monitor = daemon.monitor();
    let settled = store.settled().await?;
    monitor.wait_until(Observed::NAME, settled).await?;
    child::say(&settled.get())?;
    let watcher = tokio::spawn(async move {
        let mut seen = Times::new();
        while let Some(position) = coming.recv().await {
            monitor.wait_until(Observed::NAME, position).await?;
            seen.entry(position.get()).or_insert_with(child::now);
        }
        Ok::<_, BoxError>(seen)
    });
    let mut line = String::new();
    BufReader::new(tokio::io::stdin())
        .read_line(&mut line)
        .await?;
    let last = Position::new(serde_json::from_str(&line)?);
    daemon.wait_until(Observed::NAME, last).await?;
    // With the daemon goes the projection, and with that the watcher's last event.
    daemon.shutdown().await?;
    child::say(&watcher.await??)
}

/// Tells which events it meets, before they are in the read model.
#[derive(Debug)]
struct Observed {
    met: mpsc::UnboundedSender<Position>,
}

impl Projection for Observed {
    const NAME: &'static str = RoomOccupancy::NAME;
    type Event = RoomOccupancyEvent;
}

impl<C: Send> Project<C> for Observed
where
    RoomOccupancy: Project<C>,
{
    async fn set_up(&self, db: &mut C) -> std::result::Result<(), BoxError> {
        RoomOccupancy.set_up(db).await
    }

    async fn project(
        &self,
        db: &mut C,
        events: &[Recorded<RoomOccupancyEvent>],
    ) -> std::result::Result<(), BoxError> {
        RoomOccupancy.project(db, events).await?;
        for event in events {
            self.met.send(event.record.position)?;
        }
        Ok(())
    }
}

/// Moves a random player at each tick.
struct Writer<S> {
    store: S,
    players: Vec<(StreamId, Version)>,
    rng: Rng,
    ticks: Interval,
}

impl<S: EventStore> Writer<S> {
    async fn new(store: S, seed: u64) -> Result<Self> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rng = Rng::with_seed(seed);
        let mut players = Vec::new();
        for _ in 0..PLAYERS {
            let stream = StreamId::new("player", Uuid::now_v7());
            let created = NewEvent::encode(&player::created(&mut rng))?;
            let appended = store
                .append(&stream, ExpectedVersion::NoStream, &[created])
                .await?;
            players.push((stream, appended.version));
        }
        Ok(Self {
            store,
            players,
            rng,
            ticks,
        })
    }

    async fn append(&mut self) -> Result<Position> {
        self.ticks.tick().await;
        let index = self.rng.usize(..self.players.len());
        let (stream, version) = &mut self.players[index];
        let moved = NewEvent::encode(&player::moved(&mut self.rng))?;
        let expected = ExpectedVersion::Exact(*version);
        let appended = self.store.append(stream, expected, &[moved]).await?;
        *version = appended.version;
        Ok(appended.position)
    }
}
