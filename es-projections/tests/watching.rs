//! What a daemon tells of itself: statuses, health, tokens, metrics; and how it is stopped.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use es_core::{
    Blocker, BoxError, EventStore, Horizon, Letters, MemoryModels, MemoryStore, Position, Project,
    Projection, ProjectionId, ProjectionStore, Recorded,
};
use es_projections::{
    Complaint, Daemon, DaemonHandle, External, FailureKind, OnFailure, Options, Settings, State,
    Token, WaitError,
};
use metrics_util::{
    CompositeKey, MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};
use support::{
    Cues, Diary, Diary2, Flaky, Ledger, Noted, Op, Oracle, PATIENCE, foreign, note, reach,
    settings, stream, until,
};

async fn start<S>(store: &S, cues: &Cues, settings: Settings) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection = MemoryModels> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings);
    daemon.run(Oracle(cues.clone())).start().await.unwrap()
}

/// Complains soon, and comes round more often than that.
fn watchful() -> Settings {
    settings()
        .with_lease_ttl(Duration::from_millis(40))
        .with_stall_after(Duration::from_millis(400))
}

async fn until_green<S: ProjectionStore + 'static>(daemon: &DaemonHandle<S>) {
    until("it is well", async || daemon.health().is_green()).await;
}

async fn until_complaint<S: ProjectionStore + 'static>(
    daemon: &DaemonHandle<S>,
    is_meant: impl Fn(&Complaint) -> bool,
) {
    let complains = async || daemon.health().complaints.iter().any(&is_meant);
    until("it complains", complains).await;
    assert!(daemon.health().to_string().starts_with("red: "));
}

#[tokio::test]
async fn a_status_tells_where_a_projection_is_and_who_runs_it() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    note(&store, &stream(), 0..300).await;
    let gate = cues.gate();
    let options = Options::default().with_batch_events(100);
    let settings = settings().with_node_name("here").with_options(options);
    let daemon = start(&store, &cues, settings).await;
    gate.entered().await;
    let known = async || daemon.status("oracle").unwrap().head == Position::new(300);
    until("it knows the end of the log", known).await;

    let status = daemon.status("oracle").unwrap();
    assert_eq!(status.state, State::CatchingUp);
    assert_eq!((status.position, status.lag()), (Position::START, 300));
    assert!(
        status.behind.is_some_and(|behind| behind > Duration::ZERO),
        "{status:?}"
    );
    assert_eq!(status.time_left, None, "nobody knows the speed");
    assert_eq!(status.owners, ["here"]);
    assert_eq!(status.projection, ProjectionId::new("oracle", 1));

    let second = cues.gate();
    gate.open();
    second.entered().await;
    let status = daemon.status("oracle").unwrap();
    assert_eq!(status.lag(), 200);
    assert_eq!(status.events_applied, 100);
    assert!(
        status.time_left.is_some_and(|left| left > Duration::ZERO),
        "{status:?}"
    );
    assert!(status.events_per_second > 1.0, "{status:?}");
    let line = status.to_string();
    assert!(
        line.starts_with("oracle v1: catching up at 100 of 300, 100 events applied"),
        "{line}"
    );

    second.open();
    let live = async || daemon.status("oracle").unwrap().state == State::Live;
    until("it is live", live).await;
    let status = daemon.status("oracle").unwrap();
    assert_eq!((status.lag(), status.behind), (0, Some(Duration::ZERO)));
    assert_eq!((status.parked, status.time_left), (0, None));
    assert!(status.active);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_never_ran_lags_by_the_whole_log_and_nothing_lags_by_less_than_nothing() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let daemon = start(&store, &cues, settings()).await;
    daemon.projections().pause("oracle").await.unwrap();
    note(&store, &stream(), 0..7).await;
    let seen = async || {
        let status = daemon.status("oracle").unwrap();
        (status.state, status.lag()) == (State::Paused, 7)
    };
    until("it lags by all events", seen).await;
    daemon.projections().resume("oracle").await.unwrap();
    // Its position is known at once, the end of the log only now and then.
    for number in 0..20 {
        let last = note(&store, &stream(), [number]).await;
        reach(&daemon, "oracle", last.position).await;
        let status = daemon.status("oracle").unwrap();
        assert!(status.head >= last.position, "{status}");
        assert_eq!(status.lag(), 0);
    }
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_quiet_daemon_is_well_and_one_with_a_failed_projection_is_not() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let daemon = start(&store, &cues, watchful()).await;
    let last = note(&store, &stream(), 0..3).await;
    reach(&daemon, "oracle", last.position).await;
    let patience = watchful().stall_after + Duration::from_millis(100);
    let bad_news = tokio::time::timeout(patience, async {
        while daemon.health().is_green() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(bad_news.await.is_err(), "{}", daemon.health());
    assert_eq!(daemon.health().to_string(), "green");

    cues.fail_at(7);
    let last = note(&store, &stream(), [7]).await;
    daemon
        .wait_until_within("oracle", last.position, PATIENCE)
        .await
        .unwrap_err();
    until_complaint(&daemon, |complaint| {
        matches!(complaint, Complaint::Failed { .. })
    })
    .await;
    let written = async || {
        !store.standings(None).await.unwrap()[0]
            .lifecycle
            .is_running()
    };
    until("it is written down", written).await;
    cues.repair();
    daemon.projections().resume("oracle").await.unwrap();
    until_green(&daemon).await;

    let monitor = daemon.monitor();
    daemon.shutdown().await.unwrap();
    assert_eq!(monitor.health().complaints, [Complaint::Stopped]);
}

/// Nothing else happens in the store, and the batch is the only one.
#[tokio::test]
async fn a_handler_that_hangs_is_told() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let gate = cues.gate();
    let daemon = start(&store, &cues, watchful()).await;
    let last = note(&store, &stream(), [1]).await;
    gate.entered().await;
    let stands_still = |complaint: &Complaint| matches!(complaint, Complaint::StandsStill { shard: 0, since, .. } if *since > watchful().stall_after);
    until_complaint(&daemon, stands_still).await;
    gate.open();
    reach(&daemon, "oracle", last.position).await;
    until_green(&daemon).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_told() {
    let (store, cues) = (Flaky::default(), Cues::default());
    let daemon = start(&store, &cues, watchful()).await;
    until_green(&daemon).await;
    store.break_down([Op::Beat]);
    let no_pulse = |complaint: &Complaint| matches!(complaint, Complaint::NoPulse { error: Some(error), .. } if error.contains("connection reset"));
    until_complaint(&daemon, no_pulse).await;
    store.mend();
    until_green(&daemon).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_horizon_that_stands_still_is_told_with_the_one_who_holds_it() {
    let (store, cues) = (Flaky::default(), Cues::default());
    let daemon = start(&store, &cues, watchful()).await;
    until_green(&daemon).await;
    let blocker = Blocker {
        pid: Some(4711),
        name: "the nightly import".to_owned(),
        age: Duration::from_secs(90),
    };
    store.pretend(Some(Horizon {
        settled: Position::START,
        end: Position::new(5),
        blocker: Some(blocker.clone()),
    }));
    let held = |complaint: &Complaint| {
        let text = complaint.to_string();
        matches!(complaint, Complaint::HorizonStandsStill { .. })
            && text.contains("`the nightly import`, pid 4711")
    };
    until_complaint(&daemon, held).await;
    assert_eq!(daemon.status("oracle").unwrap().blocker, Some(blocker));

    store.pretend(None);
    until_green(&daemon).await;
    assert_eq!(daemon.status("oracle").unwrap().blocker, None);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn work_that_nobody_does_is_told() {
    let (store, cues) = (Flaky::default(), Cues::default());
    store.break_down([Op::Acquire]);
    let daemon = start(&store, &cues, watchful()).await;
    let last = note(&store, &stream(), [1]).await;
    let stuck = |complaint: &Complaint| matches!(complaint, Complaint::NoProgress { .. });
    until_complaint(&daemon, stuck).await;
    store.mend();
    reach(&daemon, "oracle", last.position).await;
    until_green(&daemon).await;
    daemon.shutdown().await.unwrap();
}

/// The new version waits for people: what it would take over from has parked an event.
#[tokio::test]
async fn what_is_served_and_run_by_nobody_is_told() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    cues.fail_at(2);
    note(&store, &stream(), [1, 2]).await;
    let last = note(&store, &stream(), [3]).await.position;
    let park = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let old = Daemon::new(store.clone()).settings(settings());
    let old = old
        .run_with(Diary(cues.clone()), park)
        .start()
        .await
        .unwrap();
    reach(&old, "diary", last).await;
    old.shutdown().await.unwrap();

    cues.repair();
    let new = Daemon::new(store.clone()).settings(watchful());
    let new = new.run(Diary2(cues.clone())).start().await.unwrap();
    let not_run = |complaint: &Complaint| matches!(complaint, Complaint::NotRun { projection, .. } if projection.version == 1);
    until_complaint(&new, not_run).await;
    let told = new.status("diary v2").unwrap().last_error.unwrap();
    assert!(told.contains("retry or discard"), "{told}");

    let letters = Letters::of(ProjectionId::new("diary", 1));
    let letters = store.dead_letters(&letters, 10).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.event_id).collect();
    new.projections().discard("diary v1", &ids).await.unwrap();
    until_green(&new).await;
    assert!(new.status("diary v2").unwrap().active);
    new.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_token_brings_a_client_back_to_what_it_has_written() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let daemon = start(&store, &cues, settings()).await;
    let stream = stream();
    let first = Token::from(note(&store, &stream, [1]).await);
    let second = Token::from(note(&store, &stream, [2, 3]).await);
    let header = first.and(second).to_string();

    let token: Token = header.parse().unwrap();
    daemon.wait_for("oracle", token, PATIENCE).await.unwrap();
    assert_eq!(store.model::<Ledger>().await.count, 3);
    let early = Token::from(Position::new(4));
    let waited = daemon
        .wait_for("oracle", early, Duration::from_millis(5))
        .await;
    assert!(
        matches!(&waited, Err(WaitError::TimedOut { reached, .. }) if *reached == token.position()),
        "{waited:?}"
    );
    daemon.shutdown().await.unwrap();
}

/// All tasks run on this thread, which has a recorder of its own.
#[tokio::test]
async fn metrics_are_recorded() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let parking = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let daemon = start(&store, &cues, settings().with_options(parking)).await;
    cues.fail_at(3);
    note(&store, &stream(), 0..3).await;
    let last = note(&store, &stream(), [3]).await;
    reach(&daemon, "oracle", last.position).await;
    let beaten = async || {
        // Reading takes away what was counted so far, so only a gauge is waited for.
        daemon
            .status("oracle")
            .is_some_and(|status| status.head == last.position)
    };
    until("the node knows the end of the log", beaten).await;
    tokio::time::sleep(settings().lease_ttl / 2).await;
    daemon.shutdown().await.unwrap();

    let seen = snapshotter.snapshot().into_hashmap();
    let find = |kind, name: &'static str| {
        let labels = vec![metrics::Label::new("projection", "oracle v1")];
        let key = metrics::Key::from_parts(name, labels);
        let found = seen.get(&CompositeKey::new(kind, key));
        &found.unwrap_or_else(|| panic!("{name} was not recorded")).2
    };
    let counter = |name| find(MetricKind::Counter, name);
    assert_eq!(
        counter("es_projection_events_total"),
        &DebugValue::Counter(3)
    );
    let errors = counter("es_projection_errors_total");
    assert!(matches!(errors, DebugValue::Counter(1..)), "{errors:?}");
    let gauge = |name| find(MetricKind::Gauge, name);
    for (name, value) in [
        ("es_projection_position", 4.0),
        ("es_projection_head", 4.0),
        ("es_projection_lag", 0.0),
        ("es_projection_behind_seconds", 0.0),
        ("es_projection_parked", 1.0),
        ("es_projection_failed", 0.0),
    ] {
        assert_eq!(gauge(name), &DebugValue::Gauge(value.into()), "{name}");
    }
    let batches = find(MetricKind::Histogram, "es_projection_batch_seconds");
    assert!(matches!(batches, DebugValue::Histogram(times) if !times.is_empty()));
    let blocked = metrics::Key::from_name("es_projection_horizon_blocked_seconds");
    assert!(seen.contains_key(&CompositeKey::new(MetricKind::Gauge, blocked)));
}

#[tokio::test]
async fn a_handler_that_hangs_is_rolled_back_by_a_shutdown_within_bounds() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let last = note(&store, &stream(), 0..5).await;
    let gate = cues.gate();
    let daemon = start(&store, &cues, settings()).await;
    gate.entered().await;
    let stopping = daemon.shutdown_within(Duration::from_millis(20));
    let stopped = tokio::time::timeout(PATIENCE, stopping).await;
    stopped.unwrap().unwrap();
    assert_eq!(store.model::<Ledger>().await.count, 0);

    let daemon = start(&store, &cues, settings()).await;
    reach(&daemon, "oracle", last.position).await;
    assert_eq!(store.model::<Ledger>().await.count, 5);
    daemon.shutdown().await.unwrap();
}

/// Never comes back, and counts who is inside.
#[derive(Projection, Clone, Default)]
#[projection(name = "tar_pit", version = 1, events(Noted))]
struct TarPit(Arc<AtomicUsize>);

struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Project<External> for TarPit {
    async fn project(&self, _: &mut External, _: &[Recorded<TarPitEvent>]) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(Arc::clone(&self.0));
        std::future::pending().await
    }
}

/// Seen to fail when only the shard that is waited for is aborted.
#[tokio::test]
async fn no_shard_outlives_a_shutdown_within_bounds() {
    let store = MemoryStore::new();
    for number in 0..40 {
        note(&store, &stream(), [number]).await;
    }
    let tar_pit = TarPit::default();
    let daemon = Daemon::new(store.clone()).settings(settings());
    let options = Options::default().with_shards(4);
    let daemon = daemon.run_external(tar_pit.clone(), options);
    let daemon = daemon.start().await.unwrap();
    let inside = || tar_pit.0.load(Ordering::SeqCst);
    until("all are inside", async || inside() == 4).await;
    daemon
        .shutdown_within(Duration::from_millis(5))
        .await
        .unwrap();
    until("all are out", async || inside() == 0).await;
}

#[tokio::test]
async fn a_deadlock_is_not_the_events_fault_however_often_it_comes() {
    let (store, cues) = (Flaky::default(), Cues::default());
    cues.deadlock_times_at(1, 10);
    let last = note(&store, &stream(), 0..3).await;
    let options = Options::default()
        .with_handler_retries(1)
        .on_failure(OnFailure::Park);
    let daemon = start(&store, &cues, settings().with_options(options)).await;
    reach(&daemon, "oracle", last.position).await;
    assert_eq!(store.inner.model::<Ledger>().await.batches, [3]);
    assert_eq!(cues.calls(), 11);
    assert_eq!(daemon.status("oracle").unwrap().parked, 0);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wait_for_what_others_want_is_answered_and_a_failure_keeps_its_kind() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let daemon = start(&store, &cues, settings()).await;
    let last = foreign(&store).await;
    reach(&daemon, "oracle", last.position).await;
    cues.panic_at(1);
    let last = note(&store, &stream(), [1]).await;
    let waited = daemon
        .wait_until_within("oracle", last.position, PATIENCE)
        .await;
    let Err(WaitError::Failed { source, .. }) = waited else {
        panic!("{waited:?}");
    };
    assert_eq!(source.kind, FailureKind::Panicked);
    let error = daemon.shutdown().await.unwrap_err();
    assert_eq!(error.failures, [(ProjectionId::new("oracle", 1), source)]);
    assert_eq!(store.settled().await.unwrap(), last.position);
}
