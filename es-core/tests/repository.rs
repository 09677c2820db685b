//! The repository on the store in memory: retries, snapshots, time travel.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use es_core::{
    Aggregate, Append, AppendError, Appended, Apply, Capabilities, EraseError, Event, EventStore,
    ExpectedVersion, Filter, Json, LoadError, LogPage, MemoryStore, NewEvent, Position, ReadError,
    RecordedEvent, Repository, Root, SaveError, Scan, Snapshot, SnapshotError, SnapshotStore,
    Start, StreamErased, StreamId, UpdateError, Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Opened {
    limit: u32,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Counted {
    by: u32,
}

/// Not idempotent: an event applied twice or left out shows.
#[derive(Aggregate, Serialize, Deserialize, Debug, PartialEq)]
#[aggregate(starts(Opened), events(Counted))]
struct Counter {
    limit: u32,
    total: u32,
}

impl Start<Opened> for Counter {
    fn start(event: &Opened) -> Self {
        Self {
            limit: event.limit,
            total: 0,
        }
    }
}

impl Apply<Counted> for Counter {
    fn apply(&mut self, event: &Counted) {
        self.total += event.by;
    }
}

#[derive(Debug, PartialEq)]
struct Full;

impl Counter {
    fn count(&self, by: u32) -> Result<Counted, Full> {
        if self.total + by > self.limit {
            return Err(Full);
        }
        Ok(Counted { by })
    }
}

async fn counter(store: &(impl SnapshotStore + Clone + 'static), events: u32) -> Uuid {
    let counters = Repository::<Counter>::new(store.clone());
    let id = Uuid::now_v7();
    counters.create(id, Opened { limit: 1_000 }).await.unwrap();
    for _ in 1..events {
        counters
            .update(id, |counter| counter.count(1))
            .await
            .unwrap();
    }
    id
}

#[tokio::test]
async fn a_history_begins_once() {
    let store = MemoryStore::new();
    let id = counter(&store, 1).await;

    let again = Repository::<Counter>::new(store)
        .create(id, Opened { limit: 5 })
        .await
        .unwrap_err();

    assert_eq!(
        again.to_string(),
        format!(
            "stream `counter-{id}` has version 1, the caller expected no events; it exists already, so load it, or use another id"
        ),
    );
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let counters = Repository::<Counter>::new(MemoryStore::new());
    let id = Uuid::now_v7();

    let error = counters.load(id).await.unwrap_err();

    assert!(matches!(error, LoadError::NotFound { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!("there is no `counter-{id}`; create it first")
    );
}

#[tokio::test]
async fn a_refusal_is_the_domains_own_error_and_records_nothing() {
    let store = MemoryStore::new();
    let id = counter(&store, 3).await;
    let counters = Repository::<Counter>::new(store);

    let error = counters
        .update(id, |counter| counter.count(5_000))
        .await
        .unwrap_err();

    assert_eq!(error.rejection(), Some(Full));
    assert_eq!(counters.load(id).await.unwrap().version(), Version::new(3));
}

#[tokio::test]
async fn deciding_nothing_records_nothing() {
    let store = MemoryStore::new();
    let id = counter(&store, 3).await;
    let counters = Repository::<Counter>::new(store);

    let nothing = counters.update(id, |_| Ok::<_, Full>(())).await.unwrap();

    assert_eq!(nothing, None);
}

#[tokio::test]
async fn several_events_are_decided_at_once() {
    let store = MemoryStore::new();
    let id = counter(&store, 1).await;
    let counters = Repository::<Counter>::new(store);

    let appended = counters
        .update(id, |_| {
            Ok::<_, Full>((
                Counted { by: 1 },
                Some(Counted { by: 2 }),
                [Counted { by: 3 }],
            ))
        })
        .await
        .unwrap()
        .unwrap();

    assert_eq!(appended.version, Version::new(4));
    assert_eq!(counters.load(id).await.unwrap().total, 6);
}

#[tokio::test]
async fn a_start_in_the_middle_is_refused_before_it_is_stored() {
    let store = MemoryStore::new();
    let id = counter(&store, 1).await;
    let counters = Repository::<Counter>::new(store);

    let error = counters
        .update(id, |_| {
            Ok::<_, Full>(CounterEvent::Opened(Opened { limit: 1 }))
        })
        .await
        .unwrap_err();

    assert!(
        matches!(error, UpdateError::Save(SaveError::Misplaced { .. })),
        "{error:?}"
    );
    assert_eq!(counters.load(id).await.unwrap().version(), Version::new(1));
}

#[tokio::test]
async fn racing_updates_are_all_applied() {
    let store = MemoryStore::new();
    let id = counter(&store, 1).await;
    let counters = Repository::<Counter>::new(Rivals::new(store, 5));

    counters
        .update(id, |counter| counter.count(1))
        .await
        .unwrap();

    assert_eq!(counters.load(id).await.unwrap().total, 501);
}

#[tokio::test]
async fn retries_are_bounded() {
    let store = MemoryStore::new();
    let id = counter(&store, 1).await;
    let counters = Repository::<Counter>::new(Rivals::new(store, 5)).retries(4);

    let error = counters
        .update(id, |counter| counter.count(1))
        .await
        .unwrap_err();

    assert!(error.is_retryable(), "{error:?}");
    assert!(
        matches!(
            error,
            UpdateError::Save(SaveError::Append(AppendError::Conflict { .. }))
        ),
        "{error:?}"
    );
}

/// Seen to fail when `save` takes the events out before the append.
#[tokio::test]
async fn a_failed_save_keeps_the_events_and_can_be_repeated() {
    let store = MemoryStore::new();
    let id = counter(&store, 1).await;
    let counters = Repository::<Counter>::new(Breaking::lost_answer(store));
    let mut root = counters.load(id).await.unwrap();
    root.raise(Counted { by: 4 });

    // The events are recorded, but the answer is lost.
    counters.save(&mut root).await.unwrap_err();
    assert_eq!(root.uncommitted().len(), 1);
    let appended = counters.save(&mut root).await.unwrap().unwrap();

    assert_eq!(appended.version, Version::new(2));
    assert_eq!(root.uncommitted().len(), 0);
    assert_eq!(counters.load(id).await.unwrap().total, 4);
}

#[tokio::test]
async fn a_new_root_is_saved_with_all_its_events() {
    let counters = Repository::<Counter>::new(MemoryStore::new());
    let id = Uuid::now_v7();
    let mut root = Root::<Counter>::start(id, Opened { limit: 10 });
    root.raise(Counted { by: 3 });

    counters.save(&mut root).await.unwrap();

    let loaded = counters.load(id).await.unwrap();
    assert_eq!((loaded.total, loaded.version()), (3, Version::new(2)));
}

#[tokio::test]
async fn snapshots_change_nothing_but_the_speed() {
    let store = MemoryStore::new();
    let with = Repository::<Counter>::new(store.clone()).snapshot_every(3);
    let without = Repository::<Counter>::new(store.clone());
    let id = Uuid::now_v7();
    with.create(id, Opened { limit: 1_000 }).await.unwrap();

    for by in 1..20 {
        with.update(id, |counter| counter.count(by)).await.unwrap();
        let (fast, slow) = (
            with.load(id).await.unwrap(),
            without.load(id).await.unwrap(),
        );
        assert_eq!(
            (fast.state(), fast.version()),
            (slow.state(), slow.version())
        );
    }

    let newest = store
        .load_snapshot(&with.stream(id), Version::MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(newest.version, Version::new(18));
}

#[tokio::test]
async fn a_doubtful_snapshot_is_not_believed() {
    let store = MemoryStore::new();
    let counters = Repository::<Counter>::new(store.clone()).snapshot_every(5);
    let id = Uuid::now_v7();
    counters.create(id, Opened { limit: 1_000 }).await.unwrap();
    for _ in 1..6 {
        counters
            .update(id, |counter| counter.count(1))
            .await
            .unwrap();
    }
    let good = store
        .load_snapshot(&counters.stream(id), Version::MAX)
        .await
        .unwrap()
        .unwrap();
    let lie = Json::parse(r#"{"limit":0,"total":999}"#).unwrap();

    // It is used when it is believed: else the rest of this test would prove nothing.
    let believed = Snapshot {
        state: lie.clone(),
        ..good.clone()
    };
    store.save_snapshot(&believed).await.unwrap();
    assert_eq!(counters.load(id).await.unwrap().total, 1_000);

    for doubtful in [
        Snapshot {
            fingerprint: Some("another".into()),
            state: lie.clone(),
            ..good.clone()
        },
        Snapshot {
            fingerprint: None,
            state: lie.clone(),
            ..good.clone()
        },
        Snapshot {
            state: Json::parse(r#"{"limit":"many"}"#).unwrap(),
            ..good.clone()
        },
        Snapshot {
            state: Json::from_stored("{"),
            ..good.clone()
        },
        // Of a version that the stream does not have: the log was restored from a backup.
        Snapshot {
            version: Version::new(50),
            state: lie.clone(),
            ..good.clone()
        },
    ] {
        store.save_snapshot(&doubtful).await.unwrap();
        let root = counters.load(id).await.unwrap();
        assert_eq!(
            (root.total, root.version()),
            (5, Version::new(6)),
            "{doubtful:?}"
        );
        // Let the next one be the newest.
        store.save_snapshot(&good).await.unwrap();
    }
}

#[tokio::test]
async fn an_aggregate_is_seen_as_it_was() {
    let store = MemoryStore::new();
    let id = counter(&store, 8).await;
    for counters in [
        Repository::<Counter>::new(store.clone()),
        Repository::<Counter>::new(store.clone()).snapshot_every(2),
    ] {
        for version in 1..=8 {
            let then = counters.load_at(id, Version::new(version)).await.unwrap();
            assert_eq!((then.total, then.version().get()), (version - 1, version));
        }
        let error = counters.load_at(id, Version::new(9)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`counter-{id}` has version 8, not yet 9")
        );
        let error = counters.load_at(id, Version::EMPTY).await.unwrap_err();
        assert!(matches!(error, LoadError::NotFound { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_aggregate_is_seen_as_it_was_at_a_time() {
    let store = MemoryStore::new();
    let id = counter(&store, 5).await;
    let counters = Repository::<Counter>::new(store.clone());
    let events = store
        .read_stream(&counters.stream(id), Version::EMPTY, 10)
        .await
        .unwrap();

    for event in &events {
        let then = counters.load_at(id, event.created_at).await.unwrap();
        let expected = events
            .iter()
            .filter(|e| e.created_at <= event.created_at)
            .count();
        assert_eq!(then.version().get() as usize, expected);
    }
    let before = events[0].created_at - chrono::TimeDelta::microseconds(1);
    let error = counters.load_at(id, before).await.unwrap_err();
    assert!(matches!(error, LoadError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_and_an_unreadable_event_are_told_apart() {
    let store = MemoryStore::new();
    for (event_type, data, text) in [
        (
            "renamed",
            "{}",
            "event type `renamed` is unknown to this program",
        ),
        (
            "counted",
            r#"{"by":"secret"}"#,
            "could not be read (expected u32",
        ),
        ("counted", "{}", "could not be read (missing field `by`"),
    ] {
        let id = counter(&store, 1).await;
        let stream = StreamId::new("counter", id);
        let event = NewEvent::new(event_type, Json::parse(data).unwrap());
        store
            .append(&stream, ExpectedVersion::Any, &[event])
            .await
            .unwrap();

        let error = Repository::<Counter>::new(store.clone())
            .load(id)
            .await
            .unwrap_err();

        let chain = es_core::Chain(&error).to_string();
        assert!(
            chain.starts_with(&format!("could not decode event 2 of `counter-{id}`: ")),
            "{chain}"
        );
        assert!(chain.contains(text), "{chain}");
        assert!(!chain.contains("secret"), "{chain}");
    }
}

/// A store in which a rival is faster, a number of times.
#[derive(Debug, Clone)]
struct Rivals {
    store: MemoryStore,
    left: Arc<AtomicU32>,
}

impl Rivals {
    fn new(store: MemoryStore, times: u32) -> Self {
        Self {
            store,
            left: Arc::new(AtomicU32::new(times)),
        }
    }

    async fn before(&self, stream: &StreamId) {
        let left = self.left.load(Ordering::SeqCst);
        if left > 0 {
            self.left.store(left - 1, Ordering::SeqCst);
            let rival = NewEvent::encode(&Counted { by: 100 }).unwrap();
            self.store
                .append(stream, ExpectedVersion::Any, &[rival])
                .await
                .unwrap();
        }
    }
}

/// A store that loses its first answer.
#[derive(Debug, Clone)]
struct Breaking {
    store: MemoryStore,
    left: Arc<AtomicU32>,
}

impl Breaking {
    fn lost_answer(store: MemoryStore) -> Self {
        Self {
            store,
            left: Arc::new(AtomicU32::new(1)),
        }
    }
}

macro_rules! delegate {
    ($store:ty) => {
        #[async_trait]
        impl EventStore for $store {
            async fn append(
                &self,
                stream: &StreamId,
                expected: ExpectedVersion,
                events: &[NewEvent],
            ) -> Result<Appended, AppendError> {
                self.append_to(stream, expected, events).await
            }
            async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
                self.store.append_all(appends).await
            }
            async fn erase(
                &self,
                stream: &StreamId,
                tombstone: &StreamErased,
            ) -> Result<Appended, EraseError> {
                self.store.erase(stream, tombstone).await
            }
            async fn read_stream(
                &self,
                stream: &StreamId,
                after: Version,
                limit: u32,
            ) -> Result<Vec<RecordedEvent>, ReadError> {
                self.store.read_stream(stream, after, limit).await
            }
            async fn read_log(
                &self,
                filter: &Filter,
                after: Position,
                limit: u32,
            ) -> Result<LogPage, ReadError> {
                self.store.read_log(filter, after, limit).await
            }
            async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
                self.store.scan(scan, limit).await
            }
            async fn settled(&self) -> Result<Position, ReadError> {
                self.store.settled().await
            }
            async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
                self.store.wait_for_events(after).await
            }
            fn capabilities(&self) -> Capabilities {
                self.store.capabilities()
            }
        }

        #[async_trait]
        impl SnapshotStore for $store {
            async fn load_snapshot(
                &self,
                stream: &StreamId,
                at_most: Version,
            ) -> Result<Option<Snapshot>, ReadError> {
                self.store.load_snapshot(stream, at_most).await
            }
            async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
                self.store.save_snapshot(snapshot).await
            }
        }
    };
}

delegate!(Rivals);
delegate!(Breaking);

impl Rivals {
    async fn append_to(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        self.before(stream).await;
        self.store.append(stream, expected, events).await
    }
}

impl Breaking {
    async fn append_to(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let appended = self.store.append(stream, expected, events).await?;
        if self.left.swap(0, Ordering::SeqCst) == 0 {
            return Ok(appended);
        }
        Err(AppendError::Backend {
            stream: stream.clone(),
            count: events.len(),
            transient: true,
            source: "the line went dead".into(),
        })
    }
}
