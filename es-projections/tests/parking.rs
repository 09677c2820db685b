//! Events that cannot be applied are put aside, and their aggregates' later events behind them.

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use es_core::{
    BoxError, DeadLetter, EventStore, FailureKind, LetterState, Letters, MemoryStore, Position,
    Project, Projection, ProjectionId, ProjectionStore, Recorded, StreamErased, StreamId,
};
use es_projections::{Daemon, DaemonHandle, External, OnFailure, Options, State, WaitError};
use support::{
    Bystander, Cues, Diary, Flaky, Noted, Op, Outbox, PATIENCE, Pages, Seen, damaged, folded,
    newer, note, reach, settings, stream, until,
};
use uuid::Uuid;

fn park() -> Options {
    Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park)
}

async fn start<S>(store: &S, cues: &Cues, options: Options) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection = es_core::MemoryModels> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_with(Diary(cues.clone()), options);
    daemon.start().await.unwrap()
}

async fn letters(store: &impl ProjectionStore) -> Vec<DeadLetter> {
    let letters = Letters::of(ProjectionId::new("diary", 1));
    store.dead_letters(&letters, 10_000).await.unwrap()
}

fn kinds(letters: &[DeadLetter]) -> Vec<(u32, FailureKind)> {
    letters
        .iter()
        .map(|letter| (letter.event_version.get(), letter.failure.kind))
        .collect()
}

async fn read_model(store: &MemoryStore) -> BTreeMap<Uuid, Vec<u32>> {
    store.model::<Pages<1>>().await.0
}

async fn until_complete(store: &MemoryStore, cues: &Cues) {
    let complete = async || read_model(store).await == folded(store, cues).await;
    until("the read model is a fold of the log", complete).await;
    assert_eq!(store.model::<Outbox>().await.0, folded(store, cues).await);
}

/// Number 2 of `bad` fails, number 3 comes behind it, `good` is all well.
async fn poisoned(store: &impl EventStore, cues: &Cues) -> (StreamId, StreamId, Position) {
    cues.fail_at(2);
    let (bad, good) = (stream(), stream());
    note(store, &bad, [1]).await;
    note(store, &good, [10]).await;
    note(store, &bad, [2, 3]).await;
    let last = note(store, &good, [11, 12]).await;
    (bad, good, last.position)
}

#[tokio::test]
async fn a_failing_event_parks_its_aggregate_alone_and_a_retry_brings_it_back_in_order() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, good, last) = poisoned(&store, &cues).await;
    let daemon = start(&store, &cues, park().with_handler_retries(2)).await;
    reach(&daemon, "diary", last).await;

    note(&store, &bad, [4]).await;
    let last = note(&store, &good, [13]).await;
    reach(&daemon, "diary", last.position).await;
    let model = read_model(&store).await;
    assert_eq!(model[&bad.aggregate_id], [1]);
    assert_eq!(model[&good.aggregate_id], [1, 2, 3, 4]);
    assert_eq!(store.model::<Outbox>().await.0, model, "no effects either");
    let parked = letters(&store).await;
    let behind = FailureKind::Behind;
    let expected = [(2, FailureKind::Handler), (3, behind), (4, behind)];
    assert_eq!(kinds(&parked), expected);
    assert_eq!((parked[0].attempts, parked[1].attempts), (3, 0));
    assert_eq!(
        parked[0].failure.message,
        "could not note 2: the pencil broke"
    );
    let status = daemon.status("diary").unwrap();
    assert_eq!((status.parked, status.failure), (1, None));

    cues.repair();
    let asked = daemon.projections().retry("diary", Some(bad.aggregate_id));
    assert_eq!(asked.await.unwrap(), 3);
    until_complete(&store, &cues).await;
    let last = note(&store, &bad, [5]).await;
    reach(&daemon, "diary", last.position).await;
    assert_eq!(read_model(&store).await[&bad.aggregate_id], [1, 2, 3, 4, 5]);
    assert_eq!(letters(&store).await, []);
    assert_eq!(daemon.status("diary").unwrap().parked, 0);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_retry_that_fails_again_keeps_everything_and_is_counted() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, _, last) = poisoned(&store, &cues).await;
    let daemon = start(&store, &cues, park()).await;
    reach(&daemon, "diary", last).await;

    for attempts in 2..5 {
        daemon.projections().retry("diary", None).await.unwrap();
        let counted = async || letters(&store).await[0].attempts == attempts;
        until("the attempt is counted", counted).await;
        let told = async || letters(&store).await.iter().all(|letter| !letter.retry);
        until("nobody asks any more", told).await;
        let more = note(&store, &bad, [attempts + 10]).await;
        reach(&daemon, "diary", more.position).await;
        assert_eq!(letters(&store).await.len(), attempts as usize + 1);
        assert_eq!(letters(&store).await[0].failure.kind, FailureKind::Handler);
    }
    assert_eq!(read_model(&store).await[&bad.aggregate_id], [1]);
    assert_eq!(daemon.status("diary").unwrap().parked, 1);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_aggregate_goes_on_without_what_was_discarded() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, _, last) = poisoned(&store, &cues).await;
    let daemon = start(&store, &cues, park()).await;
    reach(&daemon, "diary", last).await;

    let people = daemon.projections();
    let nothing = people.discard("diary", &[Uuid::now_v7()]).await;
    assert_eq!(nothing.unwrap(), 0);
    cues.give_up(bad.aggregate_id, 2);
    let poison = letters(&store).await[0].event_id;
    assert_eq!(people.discard("diary", &[poison]).await.unwrap(), 1);

    until_complete(&store, &cues).await;
    assert_eq!(letters(&store).await, []);
    let last = note(&store, &bad, [5]).await;
    reach(&daemon, "diary", last.position).await;
    assert_eq!(read_model(&store).await[&bad.aggregate_id], [1, 3, 4]);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn each_kind_of_unreadable_event_has_its_own_policy() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (broken, modern) = (stream(), stream());
    note(&store, &broken, [1]).await;
    damaged(&store, &broken).await;
    note(&store, &broken, [2]).await;
    note(&store, &modern, [1]).await;
    newer(&store, &modern).await;
    cues.give_up(modern.aggregate_id, 2);
    let last = note(&store, &modern, [2]).await;
    let options = Options::default()
        .on_undecodable(OnFailure::Park)
        .on_unknown(OnFailure::Skip);
    let daemon = start(&store, &cues, options).await;
    reach(&daemon, "diary", last.position).await;

    let aside = letters(&store).await;
    let expected = [
        (2, FailureKind::Undecodable),
        (3, FailureKind::Behind),
        (2, FailureKind::NewerSchema),
    ];
    assert_eq!(kinds(&aside), expected);
    assert_eq!(aside[2].state, LetterState::Skipped);
    assert!(!format!("{aside:?}").contains("secret"), "{aside:?}");
    let model = read_model(&store).await;
    assert_eq!(model[&broken.aggregate_id], [1]);
    assert_eq!(model[&modern.aggregate_id], [1, 3]);

    daemon.projections().retry("diary", None).await.unwrap();
    let counted = async || letters(&store).await[0].attempts == 2;
    until("it is still not readable", counted).await;
    assert_eq!(kinds(&letters(&store).await), expected);
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when only as many parked aggregates are read at the start as may be parked by one shard.
#[tokio::test]
async fn however_many_are_parked_a_restart_under_stricter_limits_forgets_none() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let streams: Vec<_> = (0..250).map(|_| stream()).collect();
    let mut last = Position::START;
    for stream in &streams {
        last = damaged(&store, stream).await.position;
    }
    let daemon = start(&store, &cues, park()).await;
    reach(&daemon, "diary", last).await;
    assert_eq!(daemon.status("diary").unwrap().parked, 250);
    daemon.shutdown().await.unwrap();

    let daemon = start(&store, &cues, park().with_parked_limit(3)).await;
    for stream in &streams {
        last = note(&store, stream, [1]).await.position;
    }
    reach(&daemon, "diary", last).await;
    let parked = letters(&store).await;
    let behind = |letter: &&DeadLetter| letter.failure.kind == FailureKind::Behind;
    assert_eq!(parked.iter().filter(behind).count(), 250);
    assert_eq!(cues.calls(), 0, "nothing was shown to the handler");
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn too_many_parked_aggregates_stop_the_projection() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let mut last = Position::START;
    for number in 0..4 {
        cues.fail_at(number);
        last = note(&store, &stream(), [number]).await.position;
    }
    let daemon = start(&store, &cues, park().with_parked_limit(2)).await;

    let error = daemon
        .wait_until_within("diary", last, PATIENCE)
        .await
        .unwrap_err();
    let WaitError::Failed { source, .. } = error else {
        panic!("expected a failure, got: {error}");
    };
    assert_eq!(source.kind, FailureKind::TooManyParked);
    assert_eq!(source.position, Some(Position::new(3)));
    assert_eq!(letters(&store).await.len(), 2);
    let failed = async || {
        let standings = store.standings(Some("diary")).await.unwrap();
        standings[0].failure.is_some()
    };
    until("it is written down", failed).await;

    cues.repair();
    daemon.projections().retry("diary", None).await.unwrap();
    daemon.projections().resume("diary").await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_skipped_event_is_noted_and_passed() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, _, last) = poisoned(&store, &cues).await;
    cues.give_up(bad.aggregate_id, 2);
    let options = Options::default().on_handler_error(OnFailure::Skip);
    let daemon = start(&store, &cues, options).await;
    reach(&daemon, "diary", last).await;

    until_complete(&store, &cues).await;
    let skipped = letters(&store).await;
    assert_eq!(kinds(&skipped), [(2, FailureKind::Handler)]);
    assert_eq!(skipped[0].state, LetterState::Skipped);
    assert_eq!(daemon.status("diary").unwrap().parked, 0);
    assert_eq!(daemon.projections().retry("diary", None).await.unwrap(), 0);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_panic_parks_like_an_error() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, good, last) = poisoned(&store, &cues).await;
    cues.repair();
    cues.panic_at(2);
    let daemon = start(&store, &cues, park().with_handler_retries(3)).await;
    reach(&daemon, "diary", last).await;

    let parked = letters(&store).await;
    let expected = [(2, FailureKind::Panicked), (3, FailureKind::Behind)];
    assert_eq!(kinds(&parked), expected);
    assert_eq!(parked[0].attempts, 1, "a panic is not tried again");
    let model = read_model(&store).await;
    assert_eq!(model[&bad.aggregate_id], [1]);
    assert_eq!(model[&good.aggregate_id], [1, 2, 3]);
    cues.repair();
    daemon.projections().retry("diary", None).await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn two_poisons_in_one_batch_park_two_aggregates_and_nothing_else() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let streams = [stream(), stream(), stream()];
    let mut last = Position::START;
    for round in 0..4 {
        for (index, stream) in (0..).zip(&streams) {
            last = note(&store, stream, [round * 10 + index]).await.position;
        }
    }
    cues.fail_at(10);
    cues.fail_at(21);
    let daemon = start(&store, &cues, park()).await;
    reach(&daemon, "diary", last).await;

    let model = read_model(&store).await;
    let lengths = streams
        .each_ref()
        .map(|stream| model[&stream.aggregate_id].len());
    assert_eq!(lengths, [1, 2, 4]);
    assert_eq!(daemon.status("diary").unwrap().parked, 2);

    cues.repair();
    let first = daemon
        .projections()
        .retry("diary", Some(streams[0].aggregate_id));
    assert_eq!(first.await.unwrap(), 3);
    let alone = async || letters(&store).await.len() == 2;
    until("the first is back, and the second waits", alone).await;
    assert_eq!(read_model(&store).await[&streams[1].aggregate_id].len(), 2);
    daemon.projections().retry("diary", None).await.unwrap();
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when the sorter remembers what it learnt from a page that was not applied to its end.
#[tokio::test]
async fn what_stands_before_an_unreadable_event_is_applied_also_behind_a_poison() {
    for what in [OnFailure::Park, OnFailure::Skip] {
        let (store, cues) = (MemoryStore::new(), Cues::default());
        let (poisoned, broken) = (stream(), stream());
        cues.fail_at(1);
        note(&store, &poisoned, [1]).await;
        note(&store, &broken, [2, 3]).await;
        damaged(&store, &broken).await;
        let last = note(&store, &broken, [4]).await;
        let options = park().on_handler_error(what);
        let daemon = start(&store, &cues, options).await;
        reach(&daemon, "diary", last.position).await;

        let expected = [
            (1, FailureKind::Handler),
            (3, FailureKind::Undecodable),
            (4, FailureKind::Behind),
        ];
        assert_eq!(kinds(&letters(&store).await), expected, "{what:?}");
        assert_eq!(read_model(&store).await[&broken.aggregate_id], [1, 2]);
        daemon.shutdown().await.unwrap();
    }
}

/// Seen to fail when a letter that could not be stored is forgotten.
#[tokio::test]
async fn nothing_passes_a_dead_letter_that_cannot_be_stored() {
    let (store, cues) = (Flaky::default(), Cues::default());
    let (_, _, last) = poisoned(&store, &cues).await;
    store.break_down([Op::Letters]);
    let daemon = start(&store, &cues, park()).await;
    store.counted(Op::Letters, 5).await;

    let diary = ProjectionId::new("diary", 1);
    let stands = store.checkpoint(&diary).await.unwrap();
    assert_eq!(stands, Some(Position::new(2)), "right before the poison");
    let error = daemon.status("diary").unwrap().last_error.unwrap();
    assert!(
        error.contains("could not put a dead letter down"),
        "{error}"
    );

    store.mend();
    reach(&daemon, "diary", last).await;
    assert_eq!(letters(&store).await.len(), 2);
    cues.repair();
    daemon.projections().retry("diary", None).await.unwrap();
    until_complete(&store.inner, &cues).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_erased_is_not_retried_but_forgotten() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (bad, good, last) = poisoned(&store, &cues).await;
    let daemon = start(&store, &cues, park()).await;
    reach(&daemon, "diary", last).await;
    let tombstone = StreamErased::new("asked to", "the officer");
    store.erase(&bad, &tombstone).await.unwrap();

    daemon.projections().retry("diary", None).await.unwrap();
    let empty = async || letters(&store).await.is_empty();
    until("the letters are gone", empty).await;
    assert_eq!(read_model(&store).await[&bad.aggregate_id], [1]);
    let last = note(&store, &good, [13]).await;
    reach(&daemon, "diary", last.position).await;
    daemon.shutdown().await.unwrap();
}

/// Seen to fail when a retry does not look whether it was told to stop.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_long_retry_which_goes_on_afterwards() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (_, _, last) = poisoned(&store, &cues).await;
    let daemon = start(&store, &cues, park()).await;
    reach(&daemon, "diary", last).await;
    cues.repair();
    let gate = cues.gate();
    daemon.projections().retry("diary", None).await.unwrap();
    gate.entered().await;

    let shutdown = tokio::spawn(daemon.shutdown());
    tokio::task::yield_now().await;
    gate.open();
    shutdown.await.unwrap().unwrap();
    assert_eq!(
        letters(&store).await.len(),
        1,
        "the one in hand was finished"
    );

    let daemon = start(&store, &cues, park()).await;
    until_complete(&store, &cues).await;
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn parking_is_the_business_of_one_projection() {
    let (store, cues) = (MemoryStore::new(), Cues::default());
    let (_, _, last) = poisoned(&store, &cues).await;
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_with(Diary(cues.clone()), park()).run(Bystander);
    let daemon = daemon.start().await.unwrap();
    reach(&daemon, "diary", last).await;
    reach(&daemon, "bystander", last).await;
    assert_eq!(store.model::<Seen>().await, Seen(6));
    assert_eq!(daemon.status("bystander").unwrap().state, State::Live);
    daemon.shutdown().await.unwrap();
}

/// Elsewhere: each row keeps the version it is at.
#[derive(Projection, Clone)]
#[projection(name = "abroad", version = 1, events(Noted))]
struct Abroad {
    rows: Arc<Mutex<BTreeMap<Uuid, u32>>>,
    cues: Cues,
}

impl Project<External> for Abroad {
    async fn project(
        &self,
        _: &mut External,
        events: &[Recorded<AbroadEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            let AbroadEvent::Noted(noted) = event;
            self.cues.obey(std::iter::once(noted.number)).await?;
            let mut rows = self.rows.lock().unwrap();
            let row = rows.entry(record.aggregate_id).or_default();
            let version = record.event_version.get();
            if version > *row + 1 {
                return Err(format!("version {version} after {row}: lost").into());
            }
            *row = version.max(*row);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_read_model_elsewhere_parks_too() {
    let store = MemoryStore::new();
    let cues = Cues::default();
    let abroad = Abroad {
        rows: Arc::default(),
        cues: cues.clone(),
    };
    let (bad, good, last) = poisoned(&store, &cues).await;
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_external(abroad.clone(), park());
    let daemon = daemon.start().await.unwrap();
    reach(&daemon, "abroad", last).await;
    let rows = || abroad.rows.lock().unwrap().clone();
    assert_eq!(rows()[&bad.aggregate_id], 1);
    assert_eq!(rows()[&good.aggregate_id], 3);

    cues.repair();
    daemon.projections().retry("abroad", None).await.unwrap();
    let back = async || rows()[&bad.aggregate_id] == 3;
    until("the aggregate is back", back).await;
    daemon.shutdown().await.unwrap();
}
