//! A [`MemoryStore`] with one mechanism taken out.

mod append;
mod append_all;
mod batch;
mod claims;
mod erase;
mod events;
mod letters;
mod nodes;
mod projections;
mod read;
mod snapshots;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use es_core::{
    DeadLetter, EventStore, Filter, MemoryStore, Position, RecordedEvent, Shard, Snapshot,
    Standing, StreamId, Version,
};
use uuid::Uuid;

use crate::fault::Fault;

/// A store that delegates to a [`MemoryStore`], except for its [`Fault`].
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    fault: Fault,
    memory: Arc<Remembered>,
}

/// What a fault needs to remember.
#[derive(Debug, Default)]
struct Remembered {
    calls: AtomicUsize,
    waiting: AtomicBool,
    shown: Mutex<HashSet<Position>>,
    /// What some reads show of an event, in place of what the log has.
    instead: Mutex<HashMap<Uuid, RecordedEvent>>,
    snapshots: Mutex<Vec<Snapshot>>,
    /// Standings and dead letters as they were put.
    put: Mutex<HashMap<Shard, Standing>>,
    letters: Mutex<HashMap<Uuid, DeadLetter>>,
}

impl FaultyStore {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            inner: MemoryStore::new(),
            fault,
            memory: Arc::default(),
        }
    }

    fn every_second_time(&self) -> bool {
        let calls = self.memory.calls.fetch_add(1, Ordering::SeqCst);
        calls.is_multiple_of(2)
    }

    /// Long enough to be interrupted, by polls and by time.
    async fn between_steps(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn instead(&self) -> MutexGuard<'_, HashMap<Uuid, RecordedEvent>> {
        self.memory.instead.lock().expect("no check panics in here")
    }

    fn kept_snapshots(&self) -> MutexGuard<'_, Vec<Snapshot>> {
        self.memory
            .snapshots
            .lock()
            .expect("no check panics in here")
    }

    fn as_put(&self) -> MutexGuard<'_, HashMap<Shard, Standing>> {
        self.memory.put.lock().expect("no check panics in here")
    }

    fn letters_as_put(&self) -> MutexGuard<'_, HashMap<Uuid, DeadLetter>> {
        self.memory.letters.lock().expect("no check panics in here")
    }

    /// The stream as the inner store has it.
    async fn held(&self, stream: &StreamId) -> Vec<RecordedEvent> {
        let held = self.inner.read_stream(stream, Version::EMPTY, u32::MAX);
        held.await.expect("memory can be read")
    }

    async fn log(&self) -> Vec<RecordedEvent> {
        let page = self.inner.read_log(&Filter::All, Position::START, u32::MAX);
        page.await.expect("memory can be read").events
    }

    /// The stream that has the aggregate id, whatever its type.
    async fn owner(&self, stream: &StreamId) -> StreamId {
        let log = self.log().await;
        let owned = log
            .iter()
            .find(|event| event.aggregate_id == stream.aggregate_id);
        owned.map_or_else(|| stream.clone(), RecordedEvent::stream)
    }
}
