//! Read models in memory that fail, and stores that fail under them.

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use es_core::{
    BoxError, EventStore, ExpectedVersion, FailureKind, MemoryStore, NewEvent, Project, Projection,
    Recorded,
};
use es_projections::{Daemon, OnFailure, Options, View, WaitError};
use support::{Fault, Flaky, Gate, Noted, Op, PATIENCE, damaged, note, settings, stream};
use uuid::Uuid;

/// Keeps all numbers of each aggregate. Fails once at each of those given, after it has written it.
#[derive(Projection, Default, Clone)]
#[projection(name = "numbers", events(Noted))]
struct Numbers(Arc<Mutex<Vec<u32>>>);

type Model = BTreeMap<Uuid, Vec<u32>>;

impl Project<Model> for Numbers {
    async fn project(
        &self,
        model: &mut Model,
        events: &[Recorded<NumbersEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            let NumbersEvent::Noted(noted) = event;
            let numbers = model.entry(record.aggregate_id).or_default();
            numbers.push(noted.number);
            let mut fails = self.0.lock().unwrap();
            if let Some(index) = fails.iter().position(|fail| *fail == noted.number) {
                fails.remove(index);
                return Err("once".into());
            }
        }
        Ok(())
    }
}

/// There are no dead letters, so that nothing could bring the events back. Seen to lose them when the policy
/// is followed as it is.
#[tokio::test]
async fn a_view_does_not_park() {
    let store = MemoryStore::new();
    let stream = stream();
    note(&store, &stream, [1]).await;
    damaged(&store, &stream).await;
    let last = note(&store, &stream, [2]).await;
    let view = View::<Model>::default();
    let parking = Options::default().on_failure(OnFailure::Park);
    let daemon = Daemon::new(store).settings(settings().with_options(parking));
    let daemon = daemon
        .run_view(Numbers::default(), &view)
        .start()
        .await
        .unwrap();

    let waited = daemon.wait_until("numbers", last.position).await;

    assert!(waited.is_err(), "{waited:?}");
    assert!(view.read().await.is_err());
}

#[tokio::test]
async fn a_view_may_fail_again_after_it_has_worked() {
    let store = MemoryStore::new();
    let stream = stream();
    let numbers = Numbers(Arc::new(Mutex::new((0..6).collect())));
    let view = View::<Model>::default();
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_view(numbers, &view).start().await.unwrap();

    for number in 0..6 {
        let noted = note(&store, &stream, [number]).await;
        daemon.wait_until("numbers", noted.position).await.unwrap();
    }

    assert_eq!(view.read().await.unwrap()[&stream.aggregate_id].len(), 6);
    daemon.shutdown().await.unwrap();
}

/// Seen to show the half, and to call the wait's position reached, when the model is only emptied at the
/// next attempt.
#[tokio::test]
async fn nobody_sees_half_a_batch_or_is_told_of_what_is_gone() {
    let store = MemoryStore::new();
    let stream = stream();
    let numbers = Numbers::default();
    let fails = Arc::clone(&numbers.0);
    let view = View::<Model>::default();
    let hour = Duration::from_secs(3600);
    let daemon = Daemon::new(store.clone()).settings(settings().with_backoff(hour, hour));
    let daemon = daemon.run_view(numbers, &view).start().await.unwrap();
    let first = note(&store, &stream, [1, 2]).await;
    daemon.wait_until("numbers", first.position).await.unwrap();

    fails.lock().unwrap().push(4);
    note(&store, &stream, [3, 4, 5]).await;
    while !fails.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }

    assert!(view.read().await.unwrap().is_empty(), "all or nothing");
    let soon = Duration::from_millis(20);
    let waited = daemon
        .wait_until_within("numbers", first.position, soon)
        .await;
    assert!(waited.is_err(), "{waited:?}");
}

/// An event whose reading panics.
#[derive(es_core::Event, Debug)]
struct Bomb;

impl serde::Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("it went off")
    }
}

#[derive(Projection)]
#[projection(name = "bombs", events(Bomb))]
struct Bombs;

impl Project<Model> for Bombs {
    async fn project(&self, _: &mut Model, _: &[Recorded<BombsEvent>]) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Seen to hang when only the handler's panics are caught.
#[tokio::test]
async fn nobody_hangs_when_reading_for_a_view_panics() {
    let store = MemoryStore::new();
    let view = View::<Model>::default();
    let bomb = NewEvent::encode(&Bomb).unwrap();
    let last = store.append(&stream(), ExpectedVersion::Any, &[bomb]).await;
    let daemon = Daemon::new(store).settings(settings());
    let daemon = daemon.run_view(Bombs, &view).start().await.unwrap();

    let waited = daemon
        .wait_until_within("bombs", last.unwrap().position, PATIENCE)
        .await;

    assert!(
        matches!(&waited, Err(WaitError::Failed { source, .. }) if source.kind == FailureKind::Panicked),
        "{waited:?}"
    );
    assert!(view.read().await.is_err());
}

/// Seen to be empty when a view begins anew after each error.
#[tokio::test]
async fn a_view_keeps_what_it_has_when_a_read_fails() {
    let store = Flaky::default();
    let stream = stream();
    let view = View::<Model>::default();
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon
        .run_view(Numbers::default(), &view)
        .start()
        .await
        .unwrap();
    let first = note(&store, &stream, 0..5).await;
    daemon.wait_until("numbers", first.position).await.unwrap();

    let gate = Arc::new(Gate::new());
    store.cue(Op::ReadLog, Fault::Before);
    store.cue(Op::ReadLog, Fault::Late(Arc::clone(&gate)));
    let last = note(&store, &stream, [5]).await;
    gate.entered().await;

    assert_eq!(view.read().await.unwrap()[&stream.aggregate_id].len(), 5);
    gate.open();
    let caught_up = daemon.wait_until_within("numbers", last.position, PATIENCE);
    caught_up.await.unwrap();
    daemon.shutdown().await.unwrap();
}
