//! What people decide is kept, is obeyed by every node, and neither loses nor doubles anything.

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use es_core::{
    BoxError, EventStore, Letters, Lifecycle, MemoryModels, MemoryStore, Position, Project,
    Projection, ProjectionStore, Recorded, Version,
};
use es_projections::{
    CommandError, Daemon, DaemonHandle, External, OnFailure, Options, Projections, State, WaitError,
};
use support::{
    Cues, Diary, Fault, Flaky, Gate, Noted, Op, Outbox, PATIENCE, Pages, Scrap, folded, note,
    reach, settings, stream, until,
};
use uuid::Uuid;

async fn start<S>(store: &S, cues: &Cues, options: Options) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection = MemoryModels> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_with(Diary(cues.clone()), options);
    daemon.start().await.unwrap()
}

async fn until_state<S: ProjectionStore + 'static>(daemon: &DaemonHandle<S>, state: State) {
    let there = async || daemon.statuses()[0].state == state;
    until(&format!("it is {state}"), there).await;
}

async fn until_complete(store: &MemoryStore, cues: &Cues) {
    let complete = async || store.model::<Pages<1>>().await.0 == folded(store, cues).await;
    until("the read model is a fold of the log", complete).await;
    assert_eq!(store.model::<Outbox>().await.0, folded(store, cues).await);
}

async fn paused(store: &MemoryStore, cues: &Cues) -> DaemonHandle<MemoryStore> {
    let daemon = start(store, cues, Options::default()).await;
    let settled = store.settled().await.unwrap();
    reach(&daemon, "diary", settled).await;
    daemon.projections().pause("diary").await.unwrap();
    until_state(&daemon, State::Paused).await;
    daemon
}

#[tokio::test]
async fn a_pause_holds_on_every_node_and_over_a_restart() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let stream = stream();
    let last = note(&store, &stream, 0..3).await;
    let one = start(&store, &cues, Options::default()).await;
    let other = start(&store, &cues, Options::default()).await;
    reach(&one, "diary", last.position).await;
    let monitor = one.monitor();
    let waiting = tokio::spawn(async move {
        let never = Position::new(1_000);
        monitor.wait_until_within("diary", never, PATIENCE).await
    });

    let people = Projections::new(store.clone());
    people.pause("diary").await.unwrap();
    let last = note(&store, &stream, 3..5).await;
    let waited = waiting.await.unwrap();
    assert!(
        matches!(&waited, Err(WaitError::NotRunning { state, .. }) if *state == State::Paused),
        "{waited:?}"
    );
    for daemon in [&one, &other] {
        until_state(daemon, State::Paused).await;
        let waited = daemon
            .wait_until_within("diary", last.position, PATIENCE)
            .await;
        assert!(
            matches!(waited, Err(WaitError::NotRunning { .. })),
            "{waited:?}"
        );
    }
    one.shutdown().await.unwrap();
    other.shutdown().await.unwrap();

    let daemon = start(&store, &cues, Options::default()).await;
    until_state(&daemon, State::Paused).await;
    let model = store.model::<Pages<1>>().await.0;
    assert_eq!(model[&stream.aggregate_id].len(), 3);
    people.resume("diary").await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when a wait believes what this daemon knew before the resumption.
#[tokio::test]
async fn one_can_wait_right_after_a_resumption() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let daemon = paused(&store, &cues).await;
    for round in 0..10 {
        let last = note(&store, &stream(), [round]).await;
        daemon.projections().resume("diary").await.unwrap();
        reach(&daemon, "diary", last.position).await;

        cues.fail_at(100);
        let last = note(&store, &stream(), [100]).await;
        let waited = daemon
            .wait_until_within("diary", last.position, PATIENCE)
            .await;
        assert!(
            matches!(waited, Err(WaitError::Failed { .. })),
            "{waited:?}"
        );
        let written = async || {
            let standings = store.standings(Some("diary")).await.unwrap();
            standings[0].lifecycle == Lifecycle::Failed
        };
        until("the failure is written down", written).await;
        cues.repair();
        daemon.projections().resume("diary").await.unwrap();
        reach(&daemon, "diary", last.position).await;

        daemon.projections().pause("diary").await.unwrap();
        until_state(&daemon, State::Paused).await;
    }
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_has_failed_stays_failed_until_somebody_resumes_it() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    cues.fail_at(2);
    let last = note(&store, &stream(), 0..4).await;
    let options = Options::default()
        .with_handler_retries(0)
        .with_resume_failed(false);
    let daemon = start(&store, &cues, options.clone()).await;
    daemon
        .wait_until_within("diary", last.position, PATIENCE)
        .await
        .unwrap_err();
    daemon.shutdown().await.unwrap_err();

    cues.repair();
    let calls = cues.calls();
    let daemon = start(&store, &cues, options).await;
    let waited = daemon
        .wait_until_within("diary", last.position, PATIENCE)
        .await;
    let Err(WaitError::Failed { source, .. }) = waited else {
        panic!("expected the failure of the last run, got {waited:?}");
    };
    assert_eq!(source.position, Some(Position::new(3)));
    assert_eq!(source.message, "could not note 2: the pencil broke");
    assert_eq!(cues.calls(), calls, "it was not tried");

    daemon.projections().resume("diary").await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_reset_builds_the_same_model_and_emits_nothing_twice() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (one, other) = (stream(), stream());
    note(&store, &one, 0..5).await;
    note(&store, &other, 0..3).await;
    let daemon = paused(&store, &cues).await;
    let missed = note(&store, &one, 5..8).await;

    daemon.projections().reset(&Diary::default()).await.unwrap();
    assert_eq!(store.model::<Pages<1>>().await, Pages::default());
    let standings = store.standings(Some("diary")).await.unwrap();
    assert_eq!(standings[0].position, Position::START);

    daemon.projections().resume("diary").await.unwrap();
    reach(&daemon, "diary", missed.position).await;
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Seen to fail, with a beat of 750 ms, when only the daemon's next look shows the move.
#[tokio::test]
async fn nobody_is_answered_by_where_a_projection_was_before_its_reset() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let last = note(&store, &stream(), 0..5).await.position;
    let long = settings().with_lease_ttl(Duration::from_secs(60));
    let daemon = Daemon::new(store.clone()).settings(long);
    let daemon = daemon.run(Diary(cues.clone())).start().await.unwrap();
    reach(&daemon, "diary", last).await;
    daemon.projections().pause("diary").await.unwrap();
    let paused = async || daemon.status("diary").unwrap().state == State::Paused;
    until("it is paused", paused).await;

    daemon.projections().reset(&Diary::default()).await.unwrap();
    assert_eq!(daemon.status("diary").unwrap().position, Position::START);
    daemon.projections().resume("diary").await.unwrap();
    reach(&daemon, "diary", last).await;

    assert_eq!(
        store.model::<Pages<1>>().await.0,
        folded(&store, &cues).await
    );
    daemon.shutdown().await.unwrap();
}

/// Seen to emit it twice when the letters are not looked at again after the projection is held.
#[tokio::test]
async fn what_was_retried_while_its_aggregate_is_rebuilt_is_emitted_once() {
    let (store, cues) = (Flaky::default(), Cues::default());
    cues.fail_at(2);
    let aggregate = stream();
    let last = note(&store, &aggregate, 1..4).await.position;
    let park = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let daemon = start(&store, &cues, park).await;
    reach(&daemon, "diary", last).await;
    cues.repair();

    let gate = Arc::new(Gate::new());
    store.cue(Op::Change, Fault::Late(Arc::clone(&gate)));
    let projections = daemon.projections().clone();
    let rebuilt = async {
        let diary = Diary(cues.clone());
        projections.rebuild_aggregate(&diary, &aggregate).await
    };
    let retried = async {
        gate.entered().await;
        assert_eq!(projections.retry("diary", None).await.unwrap(), 2);
        let complete =
            async || store.inner.model::<Outbox>().await.0 == folded(&store, &cues).await;
        until("the parked events are applied", complete).await;
        gate.open();
    };
    let (rebuilt, ()) = tokio::join!(rebuilt, retried);

    rebuilt.unwrap();
    until_complete(&store.inner, &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Their effects are still to come, and would be lost. Seen to fail when a reset does not ask.
#[tokio::test]
async fn a_reset_is_refused_while_events_are_parked() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    cues.fail_at(1);
    let last = note(&store, &stream(), 0..3).await;
    let options = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let daemon = start(&store, &cues, options).await;
    reach(&daemon, "diary", last.position).await;
    let people = daemon.projections();
    assert_eq!(
        people
            .dead_letters(&Letters::default(), 9)
            .await
            .unwrap()
            .len(),
        2
    );
    people.pause("diary").await.unwrap();
    let refused = people.reset(&Diary::default()).await;
    assert!(
        matches!(refused, Err(CommandError::Parked { letters: 2, .. })),
        "{refused:?}"
    );

    cues.repair();
    people.resume("diary").await.unwrap();
    people.retry("diary", None).await.unwrap();
    let retried = async || {
        let left = people.dead_letters(&Letters::default(), 9).await.unwrap();
        left.is_empty()
    };
    until("all is retried", retried).await;
    people.pause("diary").await.unwrap();
    people.reset(&Diary::default()).await.unwrap();
    people.resume("diary").await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_running_cannot_be_reset_or_moved() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let last = note(&store, &stream(), 0..3).await;
    let daemon = start(&store, &cues, Options::default()).await;
    reach(&daemon, "diary", last.position).await;
    let people = daemon.projections();

    let reset = people.reset(&Diary::default()).await;
    assert!(matches!(reset, Err(CommandError::Busy { .. })), "{reset:?}");
    let moved = people.set_checkpoint("diary", last.position).await;
    assert!(matches!(moved, Err(CommandError::Busy { .. })), "{moved:?}");
    let nothing = store.model::<Pages<1>>().await.0 == folded(&store, &cues).await;
    assert!(nothing, "nothing was changed");
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_moves_forward_but_not_beyond_the_log_and_not_back() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let stream = stream();
    note(&store, &stream, 0..3).await;
    let daemon = paused(&store, &cues).await;
    let people = daemon.projections();
    note(&store, &stream, 3..6).await;
    for version in [4, 5] {
        cues.give_up(stream.aggregate_id, version);
    }

    let beyond = people.set_checkpoint("diary", Position::new(7)).await;
    assert!(
        matches!(beyond, Err(CommandError::BeyondLog { .. })),
        "{beyond:?}"
    );
    let back = people.set_checkpoint("diary", Position::new(2)).await;
    assert!(
        matches!(back, Err(CommandError::NotRepeatable { .. })),
        "{back:?}"
    );
    people
        .set_checkpoint("diary", Position::new(5))
        .await
        .unwrap();
    people.resume("diary").await.unwrap();
    until_complete(&store, &cues).await;
    assert_eq!(
        store.model::<Pages<1>>().await.0[&stream.aggregate_id],
        [1, 2, 3, 6]
    );
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_bears_repetition_can_be_rewound_without_effects() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let stream = stream();
    let early = note(&store, &stream, 0..3).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let time = note(&store, &stream, 3..6).await;
    let after = Version::new(3);
    let fourth = store
        .read_stream(&stream, after, 1)
        .await
        .unwrap()
        .remove(0);
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run(Scrap(cues.clone())).start().await.unwrap();
    reach(&daemon, "scrap", time.position).await;
    let people = daemon.projections();

    people.pause("scrap").await.unwrap();
    let to = people.rewind_to("scrap", fourth.created_at).await.unwrap();
    assert_eq!(to, early.position);
    people.resume("scrap").await.unwrap();
    let mut applied = 6 + 3;
    let again = async || daemon.status("scrap").unwrap().events_applied == applied;
    until("the last three have come again", again).await;

    people.pause("scrap").await.unwrap();
    people
        .set_checkpoint("scrap", Position::START)
        .await
        .unwrap();
    people.resume("scrap").await.unwrap();
    applied += 6;
    let again = async || daemon.status("scrap").unwrap().events_applied == applied;
    until("all have come again", again).await;

    let last = note(&store, &stream, [6]).await;
    reach(&daemon, "scrap", last.position).await;
    let expected = folded(&store, &cues).await;
    assert_eq!(store.model::<Pages<0>>().await.0, expected);
    assert_eq!(store.model::<Outbox>().await.0, expected);
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when a wait for what was removed goes on for ever.
#[tokio::test]
async fn out_of_service_means_not_run_and_what_is_removed_is_forgotten() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let last = note(&store, &stream(), 0..3).await;
    let daemon = start(&store, &cues, Options::default()).await;
    reach(&daemon, "diary", last.position).await;
    let people = daemon.projections().clone();

    let retired = people.retire("diary").await;
    assert!(
        matches!(retired, Err(CommandError::Needed { .. })),
        "{retired:?}"
    );
    let removed = people.remove("diary").await;
    assert!(
        matches!(removed, Err(CommandError::State { .. })),
        "{removed:?}"
    );

    people.detach("diary").await.unwrap();
    until_state(&daemon, State::Detached).await;
    daemon.shutdown().await.unwrap();
    let last = note(&store, &stream(), 0..3).await;
    let daemon = start(&store, &cues, Options::default()).await;
    let waited = daemon
        .wait_until_within("diary", last.position, PATIENCE)
        .await;
    assert!(
        matches!(waited, Err(WaitError::NotRunning { .. })),
        "{waited:?}"
    );
    people.resume("diary").await.unwrap();
    until_complete(&store, &cues).await;

    people.detach("diary").await.unwrap();
    people.remove("diary").await.unwrap();
    assert_eq!(people.list().await.unwrap(), []);
    let never = Position::new(1_000);
    let waited = daemon.wait_until_within("diary", never, PATIENCE).await;
    assert!(
        matches!(waited, Err(WaitError::NotRunning { .. })),
        "{waited:?}"
    );
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn whoever_asks_for_the_unknown_is_told_what_is_known() {
    let store = MemoryStore::new();
    let daemon = start(&store, &Cues::default(), Options::default()).await;
    let people = daemon.projections();
    let nowhere = Position::START;
    let soon = Duration::from_millis(10);
    let errors = [
        people.pause("dairy").await.unwrap_err(),
        people.resume("diary v7").await.unwrap_err(),
        people.retry("diary v7", None).await.unwrap_err(),
        people
            .discard("dairy", &[Uuid::now_v7()])
            .await
            .unwrap_err(),
        people
            .set_checkpoint("diary v7", nowhere)
            .await
            .unwrap_err(),
        people.reached("dairy", nowhere, soon).await.unwrap_err(),
        people.reached("diary v7", nowhere, soon).await.unwrap_err(),
        people.divide("diary v7", 2).await.unwrap_err(),
        people.reset(&Scrap::default()).await.unwrap_err(),
    ];
    for error in &errors[..8] {
        assert!(error.to_string().contains("`diary v1`"), "{error}");
    }
    for error in errors {
        assert!(matches!(error, CommandError::Unknown { .. }), "{error}");
    }
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_aggregate_is_rebuilt_while_the_others_go_on() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, good) = (stream(), stream());
    cues.fail_at(1);
    note(&store, &bad, 0..3).await;
    let last = note(&store, &good, 10..13).await;
    let options = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let daemon = start(&store, &cues, options).await;
    reach(&daemon, "diary", last.position).await;
    let people = daemon.projections();

    let failing = people.rebuild_aggregate(&Diary(cues.clone()), &bad).await;
    assert!(
        matches!(failing, Err(CommandError::Handler { .. })),
        "{failing:?}"
    );
    let model = store.model::<Pages<1>>().await.0;
    assert_eq!(model[&bad.aggregate_id], [1], "everything is as it was");
    assert_eq!(
        people
            .dead_letters(&Letters::default(), 9)
            .await
            .unwrap()
            .len(),
        2
    );

    cues.repair();
    let diary = Diary(cues.clone());
    for stream in [&bad, &good] {
        people.rebuild_aggregate(&diary, stream).await.unwrap();
        note(&store, &good, [14]).await;
    }
    assert_eq!(
        people.dead_letters(&Letters::default(), 9).await.unwrap(),
        []
    );
    let last = note(&store, &bad, [3]).await;
    let complete = async || store.model::<Pages<1>>().await.0 == folded(&store, &cues).await;
    until("the aggregate goes on where it was rebuilt to", complete).await;
    reach(&daemon, "diary", last.position).await;
    let told = store.model::<Outbox>().await.0;
    assert_eq!(
        told[&bad.aggregate_id],
        [1, 2, 3, 4],
        "what was parked has its effects now"
    );
    assert_eq!(told[&good.aggregate_id], [1, 2, 3, 4, 5]);
    daemon.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_is_divided_while_events_flow() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let options = Options::default().with_batch_events(7);
    let one = start(&store, &cues, options.clone()).await;
    let other = start(&store, &cues, options).await;
    let streams: Vec<_> = (0..9).map(|_| stream()).collect();
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..40 {
                for stream in &streams {
                    note(&store, stream, [number, number]).await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    for shards in [4, 3, 1, 2] {
        // An earlier division's marks have to be passed first.
        let divided = async || match one.projections().divide("diary", shards).await {
            Ok(()) => true,
            Err(error) if error.is_retryable() => false,
            Err(error) => panic!("{error}"),
        };
        until("it is divided", divided).await;
        let standings = store.standings(Some("diary")).await.unwrap();
        assert_eq!(standings.len(), shards as usize);
    }
    writing.await.unwrap();
    until_complete(&store, &cues).await;
    let last = store.settled().await.unwrap();
    for daemon in [one, other] {
        reach(&daemon, "diary", last).await;
        let status = daemon.status("diary").unwrap();
        assert_eq!((status.shards.len(), status.failure), (2, None));
        daemon.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn parked_aggregates_stay_parked_when_their_projection_is_divided() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let streams: Vec<_> = (0..6).map(|_| stream()).collect();
    let mut last = Position::START;
    for (number, stream) in (0..).zip(&streams) {
        cues.fail_at(number);
        last = note(&store, stream, [number]).await.position;
    }
    let options = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let daemon = start(&store, &cues, options).await;
    reach(&daemon, "diary", last).await;
    cues.repair();

    daemon.projections().divide("diary", 4).await.unwrap();
    for stream in &streams {
        last = note(&store, stream, [100]).await.position;
    }
    reach(&daemon, "diary", last).await;
    assert_eq!(store.model::<Pages<1>>().await, Pages::default());
    daemon.projections().retry("diary", None).await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Elsewhere: each row keeps the position it is at and refuses an older one.
#[derive(Projection, Clone, Default)]
#[projection(name = "abroad", version = 1, events(Noted))]
struct Abroad(Arc<Mutex<Rows>>, Arc<Mutex<Option<Arc<Gate>>>>);

#[derive(Default)]
struct Rows {
    came: usize,
    rows: BTreeMap<Uuid, (Position, Vec<u32>)>,
}

impl Project<External> for Abroad {
    async fn project(
        &self,
        _: &mut External,
        events: &[Recorded<AbroadEvent>],
    ) -> Result<(), BoxError> {
        let gate = self.1.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let Rows { came, rows } = &mut *self.0.lock().unwrap();
        for Recorded { record, .. } in events {
            *came += 1;
            let (position, versions) = rows.entry(record.aggregate_id).or_default();
            if *position < record.position {
                *position = record.position;
                versions.push(record.event_version.get());
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_read_model_elsewhere_sees_each_event_at_least_once() {
    let store = Flaky::with([(Op::Commit, Fault::Before), (Op::Commit, Fault::After)]);
    let abroad = Abroad::default();
    let streams = [stream(), stream()];
    note(&store, &streams[0], 0..3).await;
    let last = note(&store, &streams[1], 0..2).await;
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_external(abroad.clone(), Options::default());
    let daemon = daemon.start().await.unwrap();
    reach(&daemon, "abroad", last.position).await;
    store.cue(Op::Commit, Fault::After);
    let last = note(&store, &streams[0], 3..5).await;
    reach(&daemon, "abroad", last.position).await;

    let rows = abroad.0.lock().unwrap().rows.clone();
    let versions: BTreeMap<_, _> = rows.into_iter().map(|(id, row)| (id, row.1)).collect();
    assert_eq!(versions, folded(&store, &Cues::default()).await);
    assert_eq!(
        abroad.0.lock().unwrap().came,
        5 + 5 + 2,
        "once more after what was rolled back"
    );
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when a runner of an older division may add its part to the status again.
#[tokio::test]
async fn a_status_shows_no_parts_of_an_older_division() {
    let store = Flaky::default();
    let abroad = Abroad::default();
    let gate = Arc::new(Gate::new());
    *abroad.1.lock().unwrap() = Some(Arc::clone(&gate));
    let daemon = Daemon::new(store.clone()).settings(settings());
    let options = Options::default().with_shards(4);
    let daemon = daemon.run_external(abroad, options).start().await.unwrap();
    let mut streams = std::iter::repeat_with(stream);
    let in_the_last = |stream: &es_core::StreamId| es_core::shard_of(stream.aggregate_id, 4) == 3;
    let stream = streams.find(in_the_last).unwrap();
    let last = note(&store, &stream, [1]).await;
    gate.entered().await;

    daemon.projections().divide("abroad", 1).await.unwrap();
    let divided = async || daemon.status("abroad").unwrap().shards.len() == 1;
    until("the node knows", divided).await;
    reach(&daemon, "abroad", last.position).await;
    // So that the node does not tidy up.
    let asleep = Arc::new(Gate::new());
    store.cue(Op::Beat, Fault::Late(Arc::clone(&asleep)));
    asleep.entered().await;
    let begun = store.count(Op::Begin);
    gate.open();
    store.counted(Op::Begin, begun + 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        let status = daemon.status("abroad").unwrap();
        assert_eq!((status.shards.len(), status.position), (1, last.position));
    }
    asleep.open();
    daemon.shutdown().await.unwrap();
}
