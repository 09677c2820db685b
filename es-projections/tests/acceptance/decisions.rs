//! Pauses, rewinds and stops; waits that end; streams that are erased.

use std::{sync::Arc, time::Duration};

use es_core::{
    BoxError, EventStore, Lifecycle, Position, Project, Projection, ProjectionId, ProjectionStore,
    Recorded, StreamErased, Version,
};
use es_projections::{
    CommandError, Daemon, DaemonHandle, OnFailure, Options, Projections, State, WaitError,
};
use tokio::time::sleep;

use crate::{
    bench::{Bench, Db},
    diary::{
        Diary, folded, outbox, pages, reach, settings, start, start_on, tell, until_complete,
        write_again,
    },
    support::{Cues, Noted, PATIENCE, foreign, note, stream, until},
};

/// Bears repetition: passes over what it has.
#[derive(Projection)]
#[projection(name = "scrap", version = 1, repeatable, events(Noted))]
struct Scrap;

impl<C: Db> Project<C> for Scrap {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        let tables = "CREATE TABLE IF NOT EXISTS scrap (
                id TEXT PRIMARY KEY, version INT NOT NULL, events INT NOT NULL);
            CREATE TABLE IF NOT EXISTS outbox (
                id TEXT NOT NULL, version INT NOT NULL, PRIMARY KEY (id, version))";
        db.change(tables.to_owned()).await?;
        Ok(())
    }

    async fn project(&self, db: &mut C, events: &[Recorded<ScrapEvent>]) -> Result<(), BoxError> {
        write_again(db, "scrap", events.iter().map(|event| &event.record)).await
    }

    async fn emit(&self, db: &mut C, events: &[Recorded<ScrapEvent>]) -> Result<(), BoxError> {
        tell(db, events.iter().map(|event| &event.record)).await
    }
}

async fn scrap<S>(store: &S) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection: Db> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings());
    daemon.run(Scrap).start().await.unwrap()
}

/// Case A13: every decision outlives the daemons that heard of it, and is refused where it would corrupt.
/// Seen to fail when a pause is not stored, when a checkpoint is moved under an owner or beyond the log,
/// and when the marks of silence are left out.
pub(crate) async fn pause_resume_rewind_survive<B: Bench>() {
    let bench = B::new().await;
    let (store, stream, id) = (bench.store(), stream(), ProjectionId::new("scrap", 1));
    let early = note(store, &stream, 0..3).await.position;
    sleep(Duration::from_millis(5)).await;
    let late = note(store, &stream, 3..6).await.position;
    let fourth = store
        .read_stream(&stream, Version::new(3), 1)
        .await
        .unwrap();
    let daemon = scrap(store).await;
    daemon
        .wait_until_within("scrap", late, PATIENCE)
        .await
        .unwrap();
    let people = Projections::new(store.clone());
    let refused = people.rewind_to("scrap", fourth[0].created_at).await;
    assert!(
        matches!(refused, Err(CommandError::Busy { .. })),
        "{refused:?}"
    );
    people.pause("scrap").await.unwrap();
    daemon.shutdown().await.unwrap();

    let nodes = [scrap(store).await, scrap(&bench.again().await).await];
    for node in &nodes {
        let paused = async || node.status("scrap").unwrap().state == State::Paused;
        until("the pause is known", paused).await;
    }
    let last = note(store, &stream, [6]).await.position;
    let waited = nodes[0].wait_until_within("scrap", last, PATIENCE).await;
    assert!(
        matches!(waited, Err(WaitError::NotRunning { .. })),
        "{waited:?}"
    );
    let to = people
        .rewind_to("scrap", fourth[0].created_at)
        .await
        .unwrap();
    assert_eq!(to, early);
    let [node, other] = nodes;
    node.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), Some(early));

    let daemon = scrap(store).await;
    people.resume("scrap").await.unwrap();
    daemon
        .wait_until_within("scrap", last, PATIENCE)
        .await
        .unwrap();
    assert_eq!(daemon.status("scrap").unwrap().events_applied, 4);
    people.pause("scrap").await.unwrap();
    let beyond = people.set_checkpoint("scrap", Position::new(1_000)).await;
    assert!(beyond.is_err(), "there is no such position");
    people
        .set_checkpoint("scrap", Position::START)
        .await
        .unwrap();
    daemon.shutdown().await.unwrap();
    let rows = store.standings(Some("scrap")).await.unwrap();
    assert_eq!(rows[0].lifecycle, Lifecycle::Paused);
    assert_eq!(rows[0].position, Position::START);

    people.resume("scrap").await.unwrap();
    let daemon = scrap(&bench.again().await).await;
    daemon
        .wait_until_within("scrap", last, PATIENCE)
        .await
        .unwrap();
    assert_eq!(daemon.status("scrap").unwrap().events_applied, 7);
    let log = folded(store, &Cues::default()).await;
    assert_eq!(pages(&bench, "scrap").await, log);
    assert_eq!(outbox(&bench).await, log, "no effect came again");
    daemon.shutdown().await.unwrap();
}

/// Case A14: within its bounds a stop finishes the batch in hand; beyond them the batch is rolled back.
/// Seen to fail when a stop aborts at once, when it never does, and when the node does not leave or keeps
/// its shards.
pub(crate) async fn graceful_stop<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let (store, stream) = (bench.store(), stream());
    let last = note(store, &stream, 0..5).await.position;
    let gate = cues.gate();
    // With a lease of an hour only what was given back can be taken.
    let hour = settings().with_lease_ttl(Duration::from_secs(3600));
    let daemon = Daemon::new(store.clone()).settings(hour);
    let daemon = daemon.run(Diary(cues.clone())).start().await.unwrap();
    gate.entered().await;
    let stop = tokio::spawn(daemon.shutdown_within(PATIENCE));
    sleep(Duration::from_millis(30)).await;
    assert!(!stop.is_finished(), "a batch is in hand");
    gate.open();
    stop.await.unwrap().unwrap();
    let rows = store.standings(Some("diary")).await.unwrap();
    assert_eq!((rows[0].position, rows[0].owner), (last, None));
    // Not only because the node is gone.
    let owned = "SELECT count(*) FROM projection_shards WHERE owner IS NOT NULL";
    assert_eq!(bench.number(owned).await, 0);

    let last = note(store, &stream, 5..10).await.position;
    let gate = cues.gate();
    let next = start(&bench, &cues, Options::default()).await;
    gate.entered().await;
    let stop = next.shutdown_within(Duration::from_millis(20));
    let stopped = tokio::time::timeout(PATIENCE, stop).await;
    stopped.expect("it stops all the same").unwrap();
    let kept = pages(&bench, "pages_1").await;
    assert_eq!(kept[&stream.aggregate_id.to_string()], (5, 5));

    let next = start(&bench, &cues, Options::default()).await;
    reach(&next, last).await;
    until_complete(&bench, "pages_1", &cues).await;
    next.shutdown().await.unwrap();
}

/// Case A17. Seen to fail when the board does not learn the head of the log, and when it is not raised to
/// the position.
pub(crate) async fn fully_behind<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let (store, id) = (bench.store(), ProjectionId::new("diary", 1));
    note(store, &stream(), 0..7).await;
    assert_eq!(store.checkpoint(&id).await.unwrap(), None);
    let people = Projections::new(store.clone());
    let unknown = people.reached("diary", Position::new(1), PATIENCE).await;
    assert!(
        matches!(unknown, Err(CommandError::Unknown { .. })),
        "{unknown:?}"
    );

    // It cannot begin.
    let gate = cues.gate();
    let daemon = start(&bench, &cues, Options::default()).await;
    gate.entered().await;
    let behind = async || daemon.status("diary").unwrap().lag() == 7;
    until("it lags by all events", behind).await;
    assert!(daemon.status("diary").unwrap().behind.is_some());
    gate.open();
    for number in 0..50 {
        let last = note(store, &stream(), [number]).await.position;
        reach(&daemon, last).await;
        let status = daemon.status("diary").unwrap();
        assert!(status.position <= status.head, "{status}");
        assert_eq!(status.lag(), 0, "{status}");
    }
    until_complete(&bench, "pages_1", &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Case A18: with success, at its time, or with the projection's own error. Seen to fail when a new
/// position wakes nobody, when waiters pass over a final state, and when the end of the daemon is not told.
pub(crate) async fn wait_until_ends<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let store = bench.store();
    let daemon = Arc::new(start(&bench, &cues, Options::default()).await);
    let mut waiters = Vec::new();
    for _ in 0..4 {
        let (store, daemon) = (store.clone(), Arc::clone(&daemon));
        waiters.push(tokio::spawn(async move {
            for number in 100..120 {
                let last = note(&store, &stream(), [number]).await.position;
                reach(&daemon, last).await;
            }
        }));
    }
    for waiter in waiters {
        waiter.await.unwrap();
    }
    let last = foreign(store).await.position;
    reach(&daemon, last).await;

    let short = Duration::from_millis(20);
    let future = Position::new(last.get() + 1_000);
    let waited = daemon.wait_until_within("diary", future, short).await;
    assert!(
        matches!(waited, Err(WaitError::TimedOut { .. })),
        "{waited:?}"
    );
    let waited = daemon.wait_until("scrap", last).await;
    assert!(
        matches!(waited, Err(WaitError::Unknown { .. })),
        "{waited:?}"
    );

    cues.fail_at(2);
    let monitor = daemon.monitor();
    let waiter = tokio::spawn(async move { monitor.wait_until("diary", future).await });
    note(store, &stream(), [2]).await;
    let waited = tokio::time::timeout(PATIENCE, waiter)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(&waited, Err(WaitError::Failed { source, .. }) if source.message.contains("note 2")),
        "{waited:?}"
    );
    cues.repair();
    daemon.projections().resume("diary").await.unwrap();
    until_complete(&bench, "pages_1", &cues).await;

    let monitor = daemon.monitor();
    let waiter = tokio::spawn(async move { monitor.wait_until("diary", future).await });
    let daemon = Arc::into_inner(daemon).expect("the waiters are gone");
    daemon.shutdown().await.unwrap();
    let waited = tokio::time::timeout(PATIENCE, waiter)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(waited, Err(WaitError::Stopped { .. })),
        "{waited:?}"
    );
}

/// Case A19: erased at the start, in the middle and at the end, before the projection came there. Seen to
/// fail when erased events are decoded, and when the checkpoint stays at the last event of a page.
pub(crate) async fn erased_streams_do_not_stall<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let store = bench.store();
    let streams: Vec<_> = (0..9).map(|_| stream()).collect();
    for number in 0..5 {
        for stream in &streams {
            note(store, stream, [number]).await;
        }
    }
    let mut last = Position::START;
    for erased in [0, 4, 8] {
        let tombstone = StreamErased::new("asked to", "the officer");
        let erased = store.erase(&streams[erased], &tombstone).await.unwrap();
        last = erased.position;
    }
    let options = Options::default()
        .with_batch_events(2)
        .on_failure(OnFailure::Stop);
    let daemon = start_on(store, &cues, options, "one").await;
    reach(&daemon, last).await;
    let status = daemon.status("diary").unwrap();
    assert_eq!((status.lag(), status.events_applied), (0, 30), "{status}");
    until_complete(&bench, "pages_1", &cues).await;
    daemon.shutdown().await.unwrap();
    let id = ProjectionId::new("diary", 1);
    assert_eq!(store.checkpoint(&id).await.unwrap(), Some(last));
}
