//! Starting, following, waiting and stopping.

mod support;

use std::time::Duration;

use es_core::{
    BoxError, Chain, MemoryModels, MemoryStore, Position, Project, Projection, ProjectionId,
    ProjectionStore, Recorded, Transient,
};
use es_projections::{Daemon, FailureKind, Options, Settings, StartError, State, View, WaitError};
use support::{
    Bystander, Cues, Fault, Flaky, Foreign, Ledger, Noted, Op, Oracle, Seen, foreign, note, reach,
    settings, stream,
};

#[tokio::test]
async fn catches_up_in_pages_then_follows() {
    let store = MemoryStore::new();
    let (a, b) = (stream(), stream());
    note(&store, &a, 0..5).await;
    let past = note(&store, &b, 0..3).await;

    let settings = settings().with_options(Options::default().with_batch_events(3));
    let daemon = Daemon::new(store.clone())
        .settings(settings)
        .run(Oracle::default());
    let daemon = daemon.start().await.unwrap();
    daemon.wait_until("oracle", past.position).await.unwrap();
    assert_eq!(store.model::<Ledger>().await.batches, [3, 3, 2]);

    let new = note(&store, &a, 5..7).await;
    daemon.wait_until("oracle", new.position).await.unwrap();
    assert_eq!(store.model::<Ledger>().await.count, 10);

    let status = daemon.status("oracle").unwrap();
    assert_eq!((status.events_applied, status.lag()), (10, 0), "{status:?}");
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_applies_nothing_twice() {
    let store = MemoryStore::new();
    let stream = stream();
    for round in 0..3 {
        let daemon = Daemon::new(store.clone())
            .run(Oracle::default())
            .start()
            .await
            .unwrap();
        let appended = note(&store, &stream, [round, round]).await;
        daemon
            .wait_until("oracle", appended.position)
            .await
            .unwrap();
        daemon.shutdown().await.unwrap();
        note(&store, &stream, [round]).await;
    }

    let ledger = store.model::<Ledger>().await;
    assert_eq!(ledger.count, 8, "the last event has not been seen yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_share_the_work_and_hand_it_over() {
    let store = MemoryStore::new();
    let settings = settings().with_options(Options::default().with_batch_events(2));
    let mut daemons = Vec::new();
    for _ in 0..2 {
        let daemon = Daemon::new(store.clone()).settings(settings.clone());
        daemons.push(daemon.run(Oracle::default()).start().await.unwrap());
    }

    let streams = [stream(), stream(), stream()];
    let mut last = Position::START;
    for round in 0..20 {
        for stream in &streams {
            last = note(&store, stream, [round]).await.position;
        }
    }
    for daemon in &daemons {
        daemon.wait_until("oracle", last).await.unwrap();
    }
    assert_eq!(store.model::<Ledger>().await.count, 60);
    let states: Vec<_> = daemons
        .iter()
        .map(|d| d.status("oracle").unwrap().state)
        .collect();
    assert!(
        states.contains(&State::StandingBy),
        "one must wait: {states:?}"
    );

    let waiting = states
        .iter()
        .position(|state| *state == State::StandingBy)
        .unwrap();
    let standby = daemons.swap_remove(waiting);
    daemons.remove(0).shutdown().await.unwrap();
    let after = note(&store, &streams[0], [99]).await;
    standby.wait_until("oracle", after.position).await.unwrap();
    let status = standby.status("oracle").unwrap();
    assert_eq!(status.events_applied, 1, "{status:?}");
    assert_eq!(store.model::<Ledger>().await.count, 61);
    standby.shutdown().await.unwrap();
}

#[tokio::test]
async fn foreign_events_satisfy_a_wait_without_a_write() {
    let store = Flaky::default();
    let hour = Duration::from_secs(3600);
    let settings =
        settings().with_options(Options::default().with_checkpoint_every(hour, 1_000_000));
    let daemon = Daemon::new(store.clone())
        .settings(settings)
        .run(Oracle::default());
    let daemon = daemon.start().await.unwrap();

    let mut last = Position::START;
    for _ in 0..50 {
        last = foreign(&store).await.position;
        daemon.wait_until("oracle", last).await.unwrap();
    }

    let writes = store.count(Op::Begin);
    assert!(writes <= 1, "wrote the checkpoint {writes} times");
    daemon.shutdown().await.unwrap();
    let oracle = ProjectionId::new("oracle", 1);
    let checkpoint = store.checkpoint(&oracle).await.unwrap();
    assert_eq!(checkpoint, Some(last), "the shutdown saves what was read");
}

/// Seen to take a tenth of a second when nobody tells the runner that somebody waits.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_foreign_events_waits_no_longer_than_for_others() {
    let store = MemoryStore::new();
    let view = View::<Seen>::default();
    let daemon = Daemon::new(store.clone()).run(Oracle::default());
    let daemon = daemon.run_view(Sight, &view).start().await.unwrap();
    let first = foreign(&store).await.position;
    reach(&daemon, "oracle", first).await;
    reach(&daemon, "sight", first).await;

    for name in ["oracle", "sight", "oracle", "sight"] {
        let appended = foreign(&store).await;
        let begun = tokio::time::Instant::now();
        reach(&daemon, name, appended.position).await;
        assert!(begun.elapsed() < Duration::from_millis(20), "{name}");
    }
    daemon.shutdown().await.unwrap();
}

#[derive(Projection)]
#[projection(name = "sight", version = 1, events(Noted))]
struct Sight;

impl Project<Seen> for Sight {
    async fn project(
        &self,
        seen: &mut Seen,
        events: &[Recorded<SightEvent>],
    ) -> Result<(), BoxError> {
        seen.0 += events.len();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_events_are_checkpointed_in_time() {
    let store = Flaky::default();
    let daemon = Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap();
    let first = foreign(&store).await;
    daemon.wait_until("oracle", first.position).await.unwrap();
    let second = foreign(&store).await;
    daemon.wait_until("oracle", second.position).await.unwrap();

    store.counted(Op::Commit, 2).await; // The second after the interval, in paused time.

    let checkpoint = store
        .checkpoint(&ProjectionId::new("oracle", 1))
        .await
        .unwrap();
    assert_eq!(checkpoint, Some(second.position));
}

#[tokio::test]
async fn an_idle_projection_keeps_its_lease() {
    let store = Flaky::default();
    let settings = settings().with_lease_ttl(Duration::from_millis(300));
    let daemon = Daemon::new(store.clone())
        .settings(settings)
        .run(Oracle::default());
    let daemon = daemon.start().await.unwrap();

    store.counted(Op::Beat, 20).await; // Five times as long as the lease.

    let standings = store.standings(Some("oracle")).await.unwrap();
    assert!(standings[0].owner.is_some(), "{standings:?}");
    assert_eq!(store.count(Op::Acquire), 1);
    daemon.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_never_misses_the_wake_up() {
    let store = MemoryStore::new();
    let daemon = Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap();
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let (store, monitor) = (store.clone(), daemon.monitor());
            tokio::spawn(async move {
                let stream = stream();
                for number in 0..50 {
                    let appended = note(&store, &stream, [number]).await;
                    monitor
                        .wait_until("oracle", appended.position)
                        .await
                        .unwrap();
                    let seen = store.model::<Ledger>().await.versions[&stream.aggregate_id];
                    assert_eq!(seen, number + 1, "a reader must see its own write");
                }
            })
        })
        .collect();

    for waiter in waiters {
        waiter.await.unwrap();
    }
    daemon.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_it_cannot_succeed() {
    let store = MemoryStore::new();
    let daemon = Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap();
    let never = Position::new(1_000);

    let unknown = daemon.wait_until("orcale", never).await.unwrap_err();
    assert!(unknown.to_string().contains("`oracle v1`"), "{unknown}");
    let late = daemon
        .wait_until_within("oracle v1", never, Duration::from_secs(1))
        .await;
    assert!(matches!(late, Err(WaitError::TimedOut { .. })), "{late:?}");

    let monitor = daemon.monitor();
    let (waited, stopped) = tokio::join!(monitor.wait_until("oracle", never), daemon.shutdown());
    stopped.unwrap();
    assert!(
        matches!(waited, Err(WaitError::Stopped { .. })),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_shutdown_finishes_the_batch_in_hand_and_gives_the_lease_back() {
    let store = MemoryStore::new();
    let appended = note(&store, &stream(), 0..3).await;
    let cues = Cues::default();
    let gate = cues.gate();
    let daemon = Daemon::new(store.clone())
        .run(Oracle(cues))
        .start()
        .await
        .unwrap();
    gate.entered().await;

    let shutdown = tokio::spawn(daemon.shutdown());
    tokio::task::yield_now().await;
    assert!(!shutdown.is_finished(), "a batch is in hand");
    gate.open();
    shutdown.await.unwrap().unwrap();
    assert_eq!(store.model::<Ledger>().await.count, 3);

    let next = Daemon::new(store.clone())
        .settings(no_patience())
        .run(Oracle::default());
    let next = next.start().await.unwrap();
    reach(&next, "oracle", appended.position).await;
    let after = note(&store, &stream(), [3]).await;
    reach(&next, "oracle", after.position).await;
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn dropping_the_handle_stops_the_daemon_after_its_batch() {
    let store = MemoryStore::new();
    note(&store, &stream(), 0..3).await;
    let cues = Cues::default();
    let gate = cues.gate();
    let daemon = Daemon::new(store.clone())
        .run(Oracle(cues))
        .start()
        .await
        .unwrap();
    let monitor = daemon.monitor();
    gate.entered().await;

    drop(daemon);
    gate.open();

    let end = monitor.wait_until("oracle", Position::new(1_000)).await;
    assert!(matches!(end, Err(WaitError::Stopped { .. })), "{end:?}");
    assert_eq!(store.model::<Ledger>().await.count, 3);
}

#[tokio::test]
async fn a_projection_is_given_once() {
    let daemon = Daemon::new(MemoryStore::new())
        .run(Oracle::default())
        .run(Bystander);
    let error = daemon.run(Oracle::default()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Duplicate { .. }), "{error}");
}

#[derive(Projection)]
#[projection(name = "roofless", version = 1, events(Noted))]
struct Roofless(bool);

impl Project<MemoryModels> for Roofless {
    async fn set_up(&self, models: &mut MemoryModels) -> Result<(), BoxError> {
        models.model_mut::<Seen>().0 = 7;
        match self.0 {
            true => Err(Transient::new("no tiles today").into()),
            false => Err("no tiles".into()),
        }
    }

    async fn project(
        &self,
        _: &mut MemoryModels,
        _: &[Recorded<RooflessEvent>],
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_set_up_starts_nothing_and_leaves_nothing() {
    let store = MemoryStore::new();
    note(&store, &stream(), [1]).await;

    let error = Daemon::new(store.clone())
        .run(Bystander)
        .run(Roofless(false))
        .start()
        .await
        .unwrap_err();

    assert!(matches!(&error, StartError::SetUp { source, .. } if source.to_string() == "no tiles"));
    assert!(!error.is_retryable());
    let later = Daemon::new(store.clone()).run(Roofless(true)).start().await;
    assert!(later.unwrap_err().is_retryable());
    assert_eq!(store.model::<Seen>().await, Seen(0));
    let bystander = store
        .checkpoint(&ProjectionId::new("bystander", 1))
        .await
        .unwrap();
    assert_eq!(bystander, Some(Position::START), "known, and not run");
}

mod grown {
    use super::*;

    /// As the oracle, but wanting more events.
    #[derive(Projection)]
    #[projection(name = "oracle", version = 1, events(Noted, Foreign))]
    pub(super) struct Grown;

    impl Project<MemoryModels> for Grown {
        async fn project(
            &self,
            _: &mut MemoryModels,
            _: &[Recorded<GrownEvent>],
        ) -> Result<(), BoxError> {
            Ok(())
        }
    }
}

#[tokio::test]
async fn other_event_types_need_a_new_version() {
    let store = MemoryStore::new();
    Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap()
        .shutdown()
        .await
        .unwrap();
    let appended = note(&store, &stream(), [1]).await;
    let first = Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap();
    first.wait_until("oracle", appended.position).await.unwrap();
    first.shutdown().await.unwrap();

    let old = Daemon::new(store.clone()).run(Oracle::default());
    let old = old.start().await.unwrap();
    let error = Daemon::new(store.clone())
        .run(grown::Grown)
        .start()
        .await
        .unwrap_err();

    assert!(!error.is_retryable());
    let told = Chain(&error).to_string();
    assert!(told.contains("raise its version"), "{told}");
    let appended = note(&store, &stream(), [1]).await;
    reach(&old, "oracle", appended.position).await;
    old.shutdown().await.unwrap();
}

/// Seen to end with batches of one event when the wait for the store counted: 16, 8, 4, 2 and so on.
#[tokio::test]
async fn batches_stay_large_when_it_is_the_store_that_takes_long() {
    let store = Flaky::default();
    store.slow_down(Op::Begin, Duration::from_millis(60));
    let last = note(&store, &stream(), 0..64).await.position;
    let options = Options::default()
        .with_batch_events(16)
        .with_batch_time(Duration::from_millis(40));
    let daemon = Daemon::new(store.clone())
        .settings(settings().with_options(options))
        .run(Oracle::default());
    let daemon = daemon.start().await.unwrap();

    reach(&daemon, "oracle", last).await;

    assert_eq!(store.inner.model::<Ledger>().await.batches, [16; 4]);
    daemon.shutdown().await.unwrap();
}

/// Takes two milliseconds for each event; the server has patience for four events.
#[derive(Projection)]
#[projection(name = "sluggish", version = 1, events(Noted))]
struct Sluggish;

impl Project<MemoryModels> for Sluggish {
    async fn project(
        &self,
        models: &mut MemoryModels,
        events: &[Recorded<SluggishEvent>],
    ) -> Result<(), BoxError> {
        for _ in events {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if events.len() > 4 {
            return Err(Transient::new("the statement took too long").into());
        }
        models.model_mut::<Seen>().0 += events.len();
        Ok(())
    }
}

/// Seen to try the same batch for ever when one that failed has the same size when it comes again.
#[tokio::test]
async fn a_batch_that_takes_longer_than_the_server_bears_gets_smaller() {
    let store = MemoryStore::new();
    let last = note(&store, &stream(), 0..32).await.position;
    let options = Options::default().with_batch_time(Duration::from_millis(10));
    let daemon = Daemon::new(store.clone())
        .settings(settings().with_options(options))
        .run(Sluggish);
    let daemon = daemon.start().await.unwrap();

    reach(&daemon, "sluggish", last).await;

    assert_eq!(store.model::<Seen>().await, Seen(32));
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_diverged_checkpoint_stops_the_projection() {
    let store = Flaky::with([(Op::Acquire, Fault::Diverged)]);
    let appended = note(&store, &stream(), [1]).await;
    let daemon = Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap();

    let error = daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();

    let failure = daemon.status("oracle").unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Diverged, "{error}");
    assert_eq!(store.inner.model::<Ledger>().await.count, 0);
    daemon.shutdown().await.unwrap_err();
}

/// A daemon that looks once in a quarter of an hour: it must get the lease the first time.
fn no_patience() -> Settings {
    settings().with_lease_ttl(Duration::from_secs(3600))
}
