//! A new version beside the old one, deployed while everything goes on.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use es_core::{
    BoxError, EventStore, Lifecycle, Position, Project, Projection, ProjectionStore, Recorded,
    Standing,
};
use es_projections::{Daemon, Options, Projections, State};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    bench::{Bench, Db},
    diary::{Diary, Diary2, folded, outbox, pages, reach, settings, start, until_complete},
    process::Process,
    support::{Cues, Noted, note, stream, until},
};

/// Small batches, so that a version can be met on its way.
fn slowly() -> Options {
    Options::default().with_batch_events(8)
}

fn both<S>(daemon: Daemon<S>) -> Daemon<S>
where
    S: ProjectionStore<Connection: Db> + 'static,
{
    daemon
        .settings(settings())
        .run_with(Diary::default(), slowly())
        .run_with(Diary2::default(), slowly())
}

async fn row(store: &impl ProjectionStore, version: u32) -> Option<Standing> {
    let rows = store.standings(Some("diary")).await.unwrap().into_iter();
    rows.into_iter()
        .find(|row| row.shard.projection.version == version)
}

async fn until_active(store: &impl ProjectionStore, version: u32) {
    let active = async || row(store, version).await.is_some_and(|row| row.active);
    until(&format!("version {version} is served"), active).await;
}

/// Version 1 has applied some history, and readers look at it through the view that it made.
async fn history<B: Bench>(bench: &B) {
    let daemon = start(bench, &Cues::default(), Options::default()).await;
    let streams = [stream(), stream(), stream()];
    let mut last = Position::START;
    for round in 0..30 {
        for stream in &streams {
            last = note(bench.store(), stream, [round]).await.position;
        }
    }
    reach(&daemon, last).await;
    daemon.shutdown().await.unwrap();
}

/// Appends until it is told to stop.
async fn load(store: &impl EventStore, stop: &AtomicBool) -> Position {
    let streams = [stream(), stream()];
    let mut last = Position::START;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        last = note(store, &streams[number % 2], [1]).await.position;
        sleep(Duration::from_millis(2)).await;
    }
    last
}

/// What the served view holds never gets less.
async fn read(bench: &impl Bench, stop: &AtomicBool) -> usize {
    let (mut before, mut looks) = (90, 0);
    while !stop.load(Ordering::Relaxed) {
        let served = bench.number("SELECT CAST(sum(events) AS BIGINT) FROM pages");
        let served = served.await;
        assert!(served >= before, "from {before} back to {served}");
        (before, looks) = (served, looks + 1);
        sleep(Duration::from_millis(1)).await;
    }
    looks
}

/// Case 31: built under load, killed twice on its way. Seen to fail when it may pass the version in charge,
/// when it inherits no marks of silence, when it is served before it has caught up, and when the checkpoint
/// is committed before the read model.
pub(crate) async fn rebuild_while_writing<B: Bench>() {
    let bench = B::new().await;
    history(&bench).await;
    let stop = AtomicBool::new(false);
    let deploy = async {
        for rebuilt in [20, 50] {
            let killed = Process::start(&bench, both).await;
            let on_its_way = async || {
                let row = row(bench.store(), 2).await.unwrap();
                row.position >= Position::new(rebuilt) || row.active
            };
            until("it is on its way", on_its_way).await;
            killed.kill();
        }
        let daemon = Process::start(&bench, both).await;
        until_active(bench.store(), 2).await;
        sleep(Duration::from_millis(50)).await;
        stop.store(true, Ordering::Relaxed);
        daemon
    };
    let (daemon, last, looks) =
        tokio::join!(deploy, load(bench.store(), &stop), read(&bench, &stop));
    assert!(looks > 20, "nobody looked");
    reach(&daemon.daemon, last).await;
    until_complete(&bench, "pages_2", &Cues::default()).await;
    let new = pages(&bench, "pages").await;
    assert_eq!(new, pages(&bench, "pages_2").await);

    // The way back: the old model, brought up to date, is the same.
    let people = Projections::new(bench.store().clone());
    people.resume("diary v1").await.unwrap();
    people.promote("diary v1").await.unwrap();
    until_active(bench.store(), 1).await;
    until_complete(&bench, "pages_1", &Cues::default()).await;
    assert_eq!(pages(&bench, "pages").await, new);
}

/// Counts which number of one aggregate came after which number of another.
#[derive(Projection, Default)]
#[projection(name = "neighbours", version = 1, events(Noted))]
struct Neighbours;

impl<C: Db> Project<C> for Neighbours {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        let tables =
            "CREATE TABLE IF NOT EXISTS neighbours (pair TEXT PRIMARY KEY, times INT NOT NULL);
            CREATE TABLE IF NOT EXISTS latest (one INT PRIMARY KEY, id TEXT, number INT)";
        db.change(tables.to_owned()).await?;
        Ok(())
    }

    async fn project(
        &self,
        db: &mut C,
        events: &[Recorded<NeighboursEvent>],
    ) -> Result<(), BoxError> {
        let mut pairs = String::new();
        for Recorded { event, record } in events {
            let NeighboursEvent::Noted(Noted { number }) = event;
            let id = record.aggregate_id;
            write!(
                pairs,
                "INSERT INTO neighbours SELECT latest.number || '-{number}', 1 FROM latest
                  WHERE latest.id <> '{id}'
                 ON CONFLICT (pair) DO UPDATE SET times = neighbours.times + 1;
                 INSERT INTO latest VALUES (1, '{id}', {number})
                 ON CONFLICT (one) DO UPDATE SET id = '{id}', number = {number};"
            )?;
        }
        db.change(pairs).await?;
        Ok(())
    }

    async fn clear(&self, db: &mut C) -> Result<(), BoxError> {
        db.change("DELETE FROM neighbours; DELETE FROM latest".to_owned())
            .await?;
        Ok(())
    }
}

/// Case 32: the order across aggregates is the same each time, however the batches fall. Seen to fail when
/// pages are sorted by aggregate, and when a reset keeps the rows.
pub(crate) async fn rebuild_deterministic<B: Bench>() {
    let bench = B::new().await;
    let daemon = async |events| {
        let daemon = Daemon::new(bench.store().clone()).settings(settings());
        let options = Options::default().with_batch_events(events);
        let daemon = daemon.run_with(Neighbours, options);
        daemon.start().await.unwrap()
    };
    let rows = async || {
        let pairs = bench.rows("SELECT pair, CAST(times AS BIGINT) FROM neighbours ORDER BY pair");
        let latest = bench.rows("SELECT id, CAST(number AS BIGINT) FROM latest");
        (pairs.await, latest.await)
    };
    let live = daemon(7).await;
    let streams = [stream(), stream(), stream()];
    let append = async |writer: usize| {
        let mut last = Position::START;
        for round in 0..40 {
            last = note(bench.store(), &streams[writer], [round % 5])
                .await
                .position;
        }
        last
    };
    let (a, b, c) = tokio::join!(append(0), append(1), append(2));
    let last = a.max(b).max(c);
    live.wait_until("neighbours", last).await.unwrap();
    live.projections().pause("neighbours").await.unwrap();
    live.shutdown().await.unwrap();
    let built_live = rows().await;
    assert_eq!(built_live, counted(bench.store()).await);

    let people = Projections::new(bench.store().clone());
    people.reset(&Neighbours).await.unwrap();
    assert_eq!(rows().await, (Vec::new(), Vec::new()));
    people.resume("neighbours").await.unwrap();
    let rebuilt = daemon(1_000).await;
    rebuilt.wait_until("neighbours", last).await.unwrap();
    assert_eq!(rows().await, built_live);
    rebuilt.shutdown().await.unwrap();
}

/// The same as a fold of the log.
async fn counted(store: &impl EventStore) -> (Vec<(String, i64)>, Vec<(String, i64)>) {
    let page = store.read_log(&es_core::Filter::All, Position::START, 1_000);
    let (mut pairs, mut latest) = (BTreeMap::<String, i64>::new(), None::<(Uuid, u32)>);
    for record in page.await.unwrap().events {
        let event: NeighboursEvent = record.decode().unwrap();
        let NeighboursEvent::Noted(Noted { number }) = event;
        if let Some((id, before)) = latest
            && id != record.aggregate_id
        {
            *pairs.entry(format!("{before}-{number}")).or_default() += 1;
        }
        latest = Some((record.aggregate_id, number));
    }
    let latest = latest.map(|(id, number)| (id.to_string(), i64::from(number)));
    (pairs.into_iter().collect(), latest.into_iter().collect())
}

/// Case 40: the outbox has a key that refuses what it has, so an effect too many would stop the projection.
/// Seen to fail when a rebuild emits, when the marks of silence reach too far, and when the checkpoint is
/// committed before the read model.
pub(crate) async fn side_effects_once<B: Bench>() {
    let bench = B::new().await;
    history(&bench).await;
    let told = outbox(&bench).await;
    let daemon = Process::start(&bench, |daemon| {
        let wait = slowly().with_promote(false);
        let daemon = daemon.settings(settings());
        daemon
            .run_with(Diary::default(), slowly())
            .run_with(Diary2::default(), wait)
    });
    let daemon = daemon.await;
    let log = folded(bench.store(), &Cues::default()).await;
    let rebuilt = async || pages(&bench, "pages_2").await == log;
    until("the new version is rebuilt", rebuilt).await;
    assert_eq!(outbox(&bench).await, told, "none in the rebuild");
    daemon
        .daemon
        .projections()
        .promote("diary v2")
        .await
        .unwrap();
    until_active(bench.store(), 2).await;
    daemon.kill();

    let stream = stream();
    for number in 0..4 {
        let killed = Process::start(&bench, both).await;
        note(bench.store(), &stream, [number; 20]).await;
        let begun = async || {
            let pages = outbox(&bench).await;
            let told = pages.get(&stream.aggregate_id.to_string());
            told.is_some_and(|told| told.0 > number * 20)
        };
        until("some effects are there", begun).await;
        killed.kill();
    }
    let daemon = start_both(&bench).await;
    until_complete(&bench, "pages_2", &Cues::default()).await;
    assert_eq!(
        row(bench.store(), 1).await.unwrap().lifecycle,
        Lifecycle::Retired
    );
    daemon.shutdown().await.unwrap();
}

async fn start_both<B: Bench>(bench: &B) -> es_projections::DaemonHandle<B::Store> {
    both(Daemon::new(bench.store().clone()))
        .start()
        .await
        .unwrap()
}

/// Case A6: three nodes get the new program one by one, while appends go on. Seen to fail when the old
/// version is not retired, when the marks of silence reach too far, and when the new one may pass the
/// version in charge.
pub(crate) async fn rolling_deploy<B: Bench>() {
    let bench = B::new().await;
    history(&bench).await;
    let old = |daemon: Daemon<B::Store>| {
        daemon
            .settings(settings())
            .run_with(Diary::default(), slowly())
    };
    let stop = AtomicBool::new(false);
    let deploy = async {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(Process::start(&bench, old).await);
        }
        for _ in 0..3 {
            nodes.remove(0).kill();
            nodes.push(Process::start(&bench, both).await);
        }
        until_active(bench.store(), 2).await;
        let retired = pages(&bench, "pages_1").await;
        sleep(Duration::from_millis(50)).await;
        stop.store(true, Ordering::Relaxed);
        (nodes, retired)
    };
    let ((nodes, retired), last) = tokio::join!(deploy, load(bench.store(), &stop));
    for node in &nodes {
        reach(&node.daemon, last).await;
        assert_eq!(
            node.daemon.status("diary v1").unwrap().state,
            State::Retired
        );
    }
    until_complete(&bench, "pages_2", &Cues::default()).await;
    assert_eq!(
        pages(&bench, "pages_1").await,
        retired,
        "nobody rewrites it"
    );
}
