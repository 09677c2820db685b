//! A new version is built beside the one that is served, and takes its place without a gap.

mod support;

use std::{sync::Arc, time::Duration};

use es_core::{
    EventStore, Lifecycle, MemoryModels, MemoryStore, Position, ProjectionId, ProjectionStore,
    Standing,
};
use es_projections::{CommandError, Daemon, DaemonHandle, Options, State, WaitError};
use support::{
    Bystander, Cues, Diary, Diary2, Fault, Flaky, Gate, Op, Outbox, PATIENCE, Pages, Seen, Served,
    Versions, folded, note, reach, settings, stream, until,
};

/// Small batches, so that a version can be met on its way.
fn slowly() -> Options {
    Options::default().with_batch_events(3)
}

async fn first<S>(store: &S, cues: &Cues) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection = MemoryModels> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_with(Diary(cues.clone()), slowly());
    daemon.start().await.unwrap()
}

async fn both<S>(store: &S, cues: [&Cues; 2], options: Options) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection = MemoryModels> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon
        .run_with(Diary(cues[0].clone()), slowly())
        .run_with(Diary2(cues[1].clone()), options);
    daemon.start().await.unwrap()
}

async fn row(store: &impl ProjectionStore, version: u32) -> Standing {
    let standings = store.standings(Some("diary")).await.unwrap();
    let diary = ProjectionId::new("diary", version);
    let mut rows = standings.into_iter();
    rows.find(|row| row.shard.projection == diary).unwrap()
}

async fn until_active(store: &impl ProjectionStore, version: u32) {
    let active = async || row(store, version).await.active;
    until(&format!("version {version} is served"), active).await;
}

async fn outbox(store: &MemoryStore) -> Versions {
    store.model::<Outbox>().await.0
}

async fn until_complete<const V: u32>(store: &MemoryStore) {
    let cues = Cues::default();
    let complete = async || store.model::<Pages<V>>().await.0 == folded(store, &cues).await;
    until("the read model is a fold of the log", complete).await;
    assert_eq!(outbox(store).await, folded(store, &cues).await);
}

/// Some history that version 1 has applied.
async fn history(store: &(impl ProjectionStore<Connection = MemoryModels> + Clone + 'static)) {
    let daemon = first(store, &Cues::default()).await;
    let (one, other) = (stream(), stream());
    let mut last = Position::START;
    for round in 0..10 {
        last = note(store, &one, [round]).await.position;
        last = last.max(note(store, &other, [round]).await.position);
    }
    reach(&daemon, "diary", last).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_old_version_serves_until_the_new_one_is_activated() {
    let store = MemoryStore::new();
    history(&store).await;
    let cues = Cues::default();
    let gate = cues.gate();
    let daemon = both(&store, [&Cues::default(), &cues], slowly()).await;
    // In the memory store, a batch that is open holds up everybody else.
    gate.entered().await;
    let (old, new) = (row(&store, 1).await, row(&store, 2).await);
    assert_eq!((old.active, new.active), (true, false));
    assert_eq!(old.lifecycle, Lifecycle::Running);
    assert_eq!(new.lifecycle, Lifecycle::Rebuilding);
    assert_eq!(store.model::<Served>().await, Served(1));
    gate.open();

    let mut last = Position::START;
    let stream = stream();
    for round in 0..20 {
        last = note(&store, &stream, [round]).await.position;
        reach(&daemon, "diary", last).await;
    }
    until_active(&store, 2).await;
    reach(&daemon, "diary", last).await;
    until_complete::<2>(&store).await;
    assert_eq!(store.model::<Served>().await, Served(2));
    let old = row(&store, 1).await;
    assert_eq!((old.active, old.lifecycle), (false, Lifecycle::Retired));
    let known = async || daemon.status("diary").unwrap().projection.version == 2;
    until("the name means the new version", known).await;
    assert_eq!(daemon.status("diary v1").unwrap().state, State::Retired);
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when a wait by the bare name ends because the old version is retired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_their_own_writes_notice_nothing_of_a_switch() {
    for _ in 0..5 {
        let store = MemoryStore::new();
        history(&store).await;
        let daemon = both(&store, [&Cues::default(); 2], slowly()).await;
        let stream = stream();
        let mut after = 0;
        for round in 1_u32.. {
            let last = note(&store, &stream, [round]).await;
            let waited = daemon
                .wait_until_within("diary", last.position, PATIENCE)
                .await;
            waited.unwrap();
            let id = stream.aggregate_id;
            let served = store.model::<Served>().await.0;
            let seen = match served {
                2 => store.model::<Pages<2>>().await.0[&id].len(),
                _ => store.model::<Pages<1>>().await.0[&id].len(),
            };
            assert_eq!(seen, round as usize, "served by {served}");
            after += usize::from(served == 2);
            if after == 10 {
                break;
            }
        }
        until_complete::<2>(&store).await;
        daemon.shutdown().await.unwrap();
    }
}

/// Effects are exactly once wherever the switch is interrupted: by a lost commit, a lost
/// acknowledgement, or a node that is gone in the middle.
#[tokio::test]
async fn a_switch_that_is_interrupted_anywhere_emits_everything_once() {
    for at in 0..12 {
        let store = Flaky::default();
        history(&store).await;
        let cues = Cues::default();
        let daemon = both(&store, [&Cues::default(), &cues], slowly()).await;
        let begun = store.count(Op::Begin);
        let stream = stream();
        note(&store, &stream, 0..4).await;
        store.counted(Op::Begin, begun + at / 3).await;
        match at % 3 {
            0 => store.cue(Op::Commit, Fault::Before),
            1 => store.cue(Op::Commit, Fault::After),
            _ => {}
        }
        drop(daemon);
        note(&store, &stream, 4..6).await;
        let daemon = both(&store, [&Cues::default(), &cues], slowly()).await;
        note(&store, &stream, 6..9).await;
        until_active(&store, 2).await;
        until_complete::<2>(&store.inner).await;
        daemon.shutdown().await.unwrap();
    }
}

/// The process of the new version is aborted while a batch is open.
#[tokio::test]
async fn a_new_version_that_is_killed_in_the_middle_goes_on_from_there() {
    let store = MemoryStore::new();
    history(&store).await;
    for number in [3, 6] {
        let cues = Cues::default();
        let daemon = both(
            &store,
            [&Cues::default(), &cues],
            slowly().with_promote(true),
        )
        .await;
        let reached = async || row(&store, 2).await.position >= Position::new(number);
        until("it is on its way", reached).await;
        let gate = cues.gate();
        let hangs = tokio::time::timeout(Duration::from_millis(20), gate.entered()).await;
        daemon.shutdown_within(Duration::ZERO).await.unwrap();
        if hangs.is_ok() {
            assert!(!row(&store, 2).await.active);
        }
    }
    let daemon = both(&store, [&Cues::default(); 2], slowly()).await;
    note(&store, &stream(), 0..3).await;
    until_active(&store, 2).await;
    until_complete::<2>(&store).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_leave_it_waits_to_be_promoted_and_the_way_back_is_the_same() {
    let store = MemoryStore::new();
    history(&store).await;
    let daemon = both(&store, [&Cues::default(); 2], slowly().with_promote(false)).await;
    let last = note(&store, &stream(), 0..3).await;
    let caught_up = async || row(&store, 2).await.position == last.position;
    until("it has caught up", caught_up).await;
    assert!(row(&store, 1).await.active);
    assert_eq!(row(&store, 2).await.lifecycle, Lifecycle::Rebuilding);
    let people = daemon.projections();
    let early = people.retire("diary v1").await;
    assert!(
        matches!(early, Err(CommandError::Needed { .. })),
        "{early:?}"
    );

    people.promote("diary v2").await.unwrap();
    until_active(&store, 2).await;
    note(&store, &stream(), 0..3).await;
    until_complete::<2>(&store).await;

    people.resume("diary v1").await.unwrap();
    let last = note(&store, &stream(), 0..3).await;
    let caught_up = async || row(&store, 1).await.position == last.position;
    until("the old one has caught up", caught_up).await;
    assert!(row(&store, 2).await.active, "not by itself");
    people.promote("diary v1").await.unwrap();
    until_active(&store, 1).await;
    note(&store, &stream(), 0..3).await;
    until_complete::<1>(&store).await;
    assert_eq!(store.model::<Served>().await, Served(1));
    assert_eq!(row(&store, 2).await.lifecycle, Lifecycle::Retired);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_new_version_takes_over_from_one_that_failed() {
    let store = MemoryStore::new();
    history(&store).await;
    let cues = Cues::default();
    cues.fail_at(501);
    let stream = stream();
    let daemon = first(&store, &cues).await;
    let last = note(&store, &stream, 500..504).await;
    daemon
        .wait_until_within("diary", last.position, PATIENCE)
        .await
        .unwrap_err();
    daemon.shutdown().await.unwrap_err();
    assert_eq!(outbox(&store).await[&stream.aggregate_id], [1]);

    let daemon = Daemon::new(store.clone()).settings(settings());
    let options = slowly().with_resume_failed(false);
    let daemon = daemon
        .run_with(Diary(cues), options)
        .run_with(Diary2::default(), slowly());
    let daemon = daemon.start().await.unwrap();
    until_active(&store, 2).await;
    until_complete::<2>(&store).await;
    reach(&daemon, "diary", last.position).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_failing_new_version_leaves_the_old_one_serving() {
    let store = MemoryStore::new();
    history(&store).await;
    let cues = Cues::default();
    cues.fail_at(5);
    let daemon = both(&store, [&Cues::default(), &cues], slowly()).await;
    let waited = daemon
        .wait_until_within("diary v2", Position::new(1_000), PATIENCE)
        .await;
    assert!(
        matches!(waited, Err(WaitError::Failed { .. })),
        "{waited:?}"
    );
    let last = note(&store, &stream(), 100..103).await;
    reach(&daemon, "diary", last.position).await;
    until_complete::<1>(&store).await;

    cues.repair();
    daemon.projections().resume("diary v2").await.unwrap();
    until_active(&store, 2).await;
    until_complete::<2>(&store).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn building_one_projection_anew_leaves_its_neighbour_alone() {
    let store = Flaky::default();
    history(&store).await;
    let bystander = Daemon::new(store.clone()).settings(settings());
    let bystander = bystander.run(Bystander).start().await.unwrap();
    bystander
        .wait_until_within("bystander", Position::new(20), PATIENCE)
        .await
        .unwrap();
    let before = store.standings(Some("bystander")).await.unwrap();

    let daemon = both(&store, [&Cues::default(); 2], slowly()).await;
    until_active(&store, 2).await;
    let last = note(&store, &stream(), 0..2).await;
    reach(&bystander, "bystander", last.position).await;
    let after = store.standings(Some("bystander")).await.unwrap();
    assert_eq!(after[0].epoch, before[0].epoch, "it was not fenced");
    assert_eq!(store.inner.model::<Seen>().await, Seen(22));
    until_complete::<2>(&store.inner).await;
    bystander.shutdown().await.unwrap();
    daemon.shutdown().await.unwrap();
}

/// Node A has the old program, node B both versions; then A stops.
#[tokio::test]
async fn a_rolling_deployment_switches_over() {
    let store = MemoryStore::new();
    history(&store).await;
    let old = first(&store, &Cues::default()).await;
    let stream = stream();
    let last = note(&store, &stream, [0]).await;
    reach(&old, "diary", last.position).await;
    let new = both(&store, [&Cues::default(); 2], slowly()).await;
    for number in 1..10 {
        note(&store, &stream, [number]).await;
    }
    until_active(&store, 2).await;
    let retired = async || old.status("diary").unwrap().state == State::Retired;
    until("the old node knows", retired).await;
    let last = note(&store, &stream, [10]).await;
    old.wait_until_within("diary", last.position, PATIENCE)
        .await
        .expect("the name means the version that is served, also here");
    let waited = old
        .wait_until_within("diary v1", last.position, PATIENCE)
        .await;
    assert!(
        matches!(waited, Err(WaitError::NotRunning { .. })),
        "{waited:?}"
    );
    reach(&new, "diary", last.position).await;
    old.shutdown().await.unwrap();
    until_complete::<2>(&store).await;

    // The old program comes back by mistake.
    let old = first(&store, &Cues::default()).await;
    let last = note(&store, &stream, [11]).await;
    reach(&new, "diary", last.position).await;
    until_complete::<2>(&store).await;
    assert_eq!(row(&store, 1).await.lifecycle, Lifecycle::Retired);
    old.shutdown().await.unwrap();
    new.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_new_version_may_be_divided_otherwise() {
    let store = MemoryStore::new();
    history(&store).await;
    let daemon = both(&store, [&Cues::default(); 2], slowly().with_shards(3)).await;
    for _ in 0..6 {
        note(&store, &stream(), 0..5).await;
    }
    until_active(&store, 2).await;
    note(&store, &stream(), 0..5).await;
    until_complete::<2>(&store).await;
    daemon.shutdown().await.unwrap();
}

/// Between the hand-over and the activation the old read model is still served.
#[tokio::test]
async fn a_reader_who_waits_is_not_told_before_the_new_version_is_served() {
    let store = Flaky::default();
    history(&store).await;
    let daemon = both(&store, [&Cues::default(); 2], slowly().with_promote(false)).await;
    let caught_up = async || row(&store, 2).await.position == Position::new(20);
    until("it has caught up", caught_up).await;
    let [promoted, gate] = [(); 2].map(|()| Arc::new(Gate::new()));
    for late in [&promoted, &gate] {
        store.cue(Op::Acquire, Fault::Late(Arc::clone(late)));
    }
    promoted.open();
    daemon.projections().promote("diary v2").await.unwrap();
    gate.entered().await;

    let last = note(&store, &stream(), [1]).await;
    let short = Duration::from_millis(30);
    let waited = daemon
        .wait_until_within("diary", last.position, short)
        .await;
    assert!(
        matches!(waited, Err(WaitError::TimedOut { .. })),
        "{waited:?}"
    );
    gate.open();
    reach(&daemon, "diary", last.position).await;
    assert_eq!(store.inner.model::<Served>().await, Served(2));
    assert_eq!(store.settled().await.unwrap(), last.position);
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when the bare name means whatever version this daemon runs.
#[tokio::test]
async fn a_program_that_only_knows_the_new_version_is_not_told_too_early() {
    let store = MemoryStore::new();
    history(&store).await;

    let new = Daemon::new(store.clone()).settings(settings());
    let new = new.run_with(Diary2(Cues::default()), slowly());
    let new = new.start().await.unwrap();
    let written = note(&store, &stream(), [99]).await;
    reach(&new, "diary", written.position).await;

    assert_eq!(
        store.model::<Served>().await,
        Served(2),
        "what is read has it"
    );
    until_complete::<2>(&store).await;
    new.shutdown().await.unwrap();
}
