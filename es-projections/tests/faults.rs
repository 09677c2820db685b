//! Failing handlers, failing stores, frozen owners.

mod support;

use std::{sync::Arc, time::Duration};

use es_core::{EventStore, Lifecycle, MemoryStore, Position, ProjectionStore};
use es_projections::{Daemon, FailureKind, Options, Settings, State, WaitError};
use support::{
    Bystander, Cues, Fault, Flaky, Gate, Ledger, Op, Oracle, Seen, damaged, note, reach, settings,
    stream,
};

/// Looks once in a quarter of an hour: it must get the lease the first time.
fn no_patience() -> Settings {
    settings().with_lease_ttl(Duration::from_secs(3600))
}

#[tokio::test]
async fn a_failing_handler_stops_its_projection_alone_and_a_restart_goes_on_there() {
    let store = MemoryStore::new();
    let stream = stream();
    let appended = note(&store, &stream, 0..10).await;
    let cues = Cues::default();
    cues.fail_at(6);
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon
        .run(Oracle(cues.clone()))
        .run(Bystander)
        .start()
        .await
        .unwrap();

    let error = daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();
    let WaitError::Failed { source, .. } = error else {
        panic!("expected a failure, got: {error}");
    };
    assert_eq!(source.kind, FailureKind::Handler);
    assert_eq!(source.position, Some(Position::new(7)));
    assert_eq!(source.event_type.as_deref(), Some("noted"));
    assert_eq!(source.message, "could not note 6: the pencil broke");
    let status = daemon.status("oracle").unwrap();
    assert_eq!(
        (status.state, status.position),
        (State::Failed, Position::new(6))
    );
    assert_eq!(
        store.model::<Ledger>().await.count,
        6,
        "what stood before the bad event counts"
    );

    daemon
        .wait_until("bystander", appended.position)
        .await
        .unwrap();
    let more = note(&store, &stream, [10]).await;
    daemon.wait_until("bystander", more.position).await.unwrap();
    assert_eq!(store.model::<Seen>().await, Seen(11));
    let error = daemon.shutdown().await.unwrap_err();
    assert_eq!(error.failures.len(), 1, "{error}");

    cues.repair();
    let daemon = Daemon::new(store.clone())
        .settings(no_patience())
        .run(Oracle(cues));
    let daemon = daemon.start().await.unwrap();
    reach(&daemon, "oracle", more.position).await;
    let ledger = store.model::<Ledger>().await;
    assert_eq!(ledger.count, 11);
    assert_eq!(
        ledger.batches.last(),
        Some(&5),
        "it went on after position 6: {ledger:?}"
    );
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn poison_at_either_end_of_a_batch_is_found() {
    for bad in [0, 6] {
        let store = MemoryStore::new();
        let appended = note(&store, &stream(), 0..7).await;
        let cues = Cues::default();
        cues.fail_at(bad);
        let daemon = Daemon::new(store.clone())
            .settings(settings().with_options(Options::default().with_handler_retries(0)));
        let daemon = daemon.run(Oracle(cues)).start().await.unwrap();

        daemon
            .wait_until("oracle", appended.position)
            .await
            .unwrap_err();

        let failure = daemon.status("oracle").unwrap().failure.unwrap();
        assert_eq!(failure.position, Some(Position::new(u64::from(bad) + 1)));
        assert_eq!(store.model::<Ledger>().await.count, bad as usize);
    }
}

#[tokio::test]
async fn a_handler_that_recovers_is_not_a_failure() {
    let store = MemoryStore::new();
    let cues = Cues::default();
    cues.fail_times_at(1, 3);
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run(Oracle(cues.clone())).start().await.unwrap();

    let appended = note(&store, &stream(), 0..3).await;
    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap();

    assert_eq!(cues.calls(), 4);
    assert_eq!(
        store.model::<Ledger>().await.batches,
        [3],
        "the batch stayed whole"
    );
    assert_eq!(daemon.status("oracle").unwrap().last_error, None);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_panicking_handler_fails_its_projection_alone_and_frees_the_lease() {
    let store = MemoryStore::new();
    let appended = note(&store, &stream(), 0..5).await;
    let cues = Cues::default();
    cues.panic_at(3);
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon
        .run(Oracle(cues.clone()))
        .run(Bystander)
        .start()
        .await
        .unwrap();

    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();
    daemon
        .wait_until("bystander", appended.position)
        .await
        .unwrap();

    let failure = daemon.status("oracle").unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.position, Some(Position::new(4)));
    assert_eq!(failure.message, "panicked: number 3 is unlucky");
    assert_eq!(store.model::<Ledger>().await.count, 3);

    cues.repair();
    let next = Daemon::new(store.clone())
        .settings(no_patience())
        .run(Oracle(cues));
    let next = next.start().await.unwrap();
    reach(&next, "oracle", appended.position).await;
    assert_eq!(store.model::<Ledger>().await.count, 5);
}

#[tokio::test]
async fn a_panic_in_the_store_does_not_hang_the_waiters() {
    let store = Flaky::with([(Op::ReadLog, Fault::Panic)]);
    let appended = note(&store, &stream(), [1]).await;
    let daemon = Daemon::new(store.clone())
        .run(Oracle::default())
        .start()
        .await
        .unwrap();

    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();

    let failure = daemon.status("oracle").unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Panicked);
    daemon.shutdown().await.unwrap_err();
    let standings = store.standings(Some("oracle")).await.unwrap();
    assert_eq!(standings[0].owner, None, "the lease must be free");
    assert_eq!(standings[0].lifecycle, Lifecycle::Failed);
}

#[tokio::test]
async fn an_unreadable_event_stops_at_once_and_is_never_shown() {
    let store = MemoryStore::new();
    let stream = stream();
    note(&store, &stream, 0..2).await;
    let bad = damaged(&store, &stream).await;
    let appended = note(&store, &stream, [3]).await;
    let cues = Cues::default();
    let daemon = Daemon::new(store.clone())
        .run(Oracle(cues.clone()))
        .start()
        .await
        .unwrap();

    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();

    let status = daemon.status("oracle").unwrap();
    let failure = status.failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::Undecodable);
    assert_eq!(failure.position, Some(bad.position));
    assert!(!format!("{status:?}").contains("secret"), "{status:?}");
    assert_eq!(store.model::<Ledger>().await.count, 2);
    assert_eq!(cues.calls(), 1);
}

/// Each fault alone, then all of them one after the other.
#[tokio::test]
async fn a_failing_store_costs_time_and_nothing_else() {
    let faults = [
        (Op::Commit, Fault::After),
        (Op::Commit, Fault::Before),
        (Op::Begin, Fault::Before),
        (Op::ReadLog, Fault::Before),
        (Op::Acquire, Fault::Before),
        (Op::Acquire, Fault::After),
    ];
    for count in 1..=faults.len() {
        for first in 0..faults.len() {
            let chosen = faults.iter().cycle().skip(first).take(count).cloned();
            let store = Flaky::with(chosen.chain([(Op::Commit, Fault::After)]));
            let stream = stream();
            let mut appended = note(&store, &stream, 0..10).await;
            let settings = settings().with_options(Options::default().with_batch_events(2));
            let daemon = Daemon::new(store.clone()).settings(settings);
            let daemon = daemon.run(Oracle::default()).start().await.unwrap();

            daemon
                .wait_until("oracle", appended.position)
                .await
                .unwrap();
            store.cue(Op::Commit, Fault::After);
            appended = note(&store, &stream, 0..2).await;
            daemon
                .wait_until("oracle", appended.position)
                .await
                .unwrap();
            assert_eq!(store.inner.model::<Ledger>().await.count, 12);
            store.cue(Op::Commit, Fault::Before);
            appended = note(&store, &stream, 0..2).await;
            daemon
                .wait_until("oracle", appended.position)
                .await
                .unwrap();

            assert_eq!(store.cues_left(), 0, "every fault must have happened");
            assert_eq!(store.inner.model::<Ledger>().await.count, 14);
            daemon.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_last_error_is_shown_until_something_works() {
    let gate = Arc::new(Gate::new());
    let store = Flaky::with([
        (Op::Acquire, Fault::Before),
        (Op::Acquire, Fault::Late(gate.clone())),
    ]);
    let daemon = Daemon::new(store.clone())
        .settings(settings())
        .run(Oracle::default());
    let daemon = daemon.start().await.unwrap();

    gate.entered().await;
    let error = daemon.status("oracle").unwrap().last_error.unwrap();
    assert_eq!(
        error,
        "could not take the lease of projection `oracle v1`: connection reset"
    );

    gate.open();
    let appended = note(&store, &stream(), [1]).await;
    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap();
    assert_eq!(daemon.status("oracle").unwrap().last_error, None);
    daemon.shutdown().await.unwrap();
}

/// A daemon freezes before its batch, loses the lease, and wakes up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_is_fenced() {
    let gate = Arc::new(Gate::new());
    let frozen_store = Flaky::with([(Op::Begin, Fault::Late(gate.clone()))]);
    let store = frozen_store.inner.clone();
    let stream = stream();
    let appended = note(&store, &stream, 0..10).await;
    let short = settings().with_lease_ttl(Duration::from_millis(100));
    let frozen = Daemon::new(frozen_store.clone()).settings(short.clone());
    let frozen = frozen.run(Oracle::default()).start().await.unwrap();
    gate.entered().await;
    let asleep = Arc::new(Gate::new());
    frozen_store.cue(Op::Beat, Fault::Late(asleep.clone()));
    asleep.entered().await;

    let other = Daemon::new(store.clone())
        .settings(short)
        .run(Oracle::default());
    let other = other.start().await.unwrap();
    other.wait_until("oracle", appended.position).await.unwrap();
    asleep.open();
    gate.open();
    frozen
        .wait_until("oracle", appended.position)
        .await
        .unwrap();

    assert_eq!(frozen.status("oracle").unwrap().events_applied, 0);
    assert_eq!(store.model::<Ledger>().await.count, 10);
    frozen.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert_eq!(store.settled().await.unwrap(), appended.position);
}
