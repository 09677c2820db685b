//! A store in memory that keeps every promise: for tests and for trying things out.

mod batch;
mod letters;
mod log;
mod models;
mod nodes;
mod projections;
mod rows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

pub use self::{batch::MemoryBatch, models::MemoryModels};
use self::{log::Log, projections::Projections};
use crate::{
    Append, AppendError, Appended, Capabilities, EraseError, EventStore, ExpectedVersion, Filter,
    LogPage, NewEvent, Position, ReadError, RecordedEvent, Scan, Snapshot, SnapshotError,
    SnapshotStore, StreamErased, StreamId, Version,
};

/// An event store in memory. Cheap to clone; all clones are one store.
///
/// Real conflicts, real idempotency, real order, real checkpoints: it passes the same contract
/// tests as the databases. Everything is gone when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    log: Arc<Mutex<Log>>,
    head: watch::Sender<Position>,
    projections: Arc<Projections>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            log: Arc::default(),
            head: watch::Sender::new(Position::START),
            projections: Arc::default(),
        }
    }

    /// The committed read model of type `T`, or its default if nothing was projected into it.
    pub async fn model<T: Default + Clone + Send + Sync + 'static>(&self) -> T {
        self.projections.committed().models.get()
    }

    /// Wakes those who wait.
    fn tell(&self, head: Position) {
        self.head.send_if_modified(|known| {
            let newer = head > *known;
            *known = head.max(*known);
            newer
        });
    }

    /// A panic elsewhere cannot leave the log half written: each append checks first and then
    /// changes everything without a step that can fail.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let (appended, head) = {
            let mut log = self.log();
            (log.append(stream, expected, events)?, log.head())
        };
        self.tell(head);
        Ok(appended)
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        let (appended, head) = {
            let mut log = self.log();
            (log.append_all(appends)?, log.head())
        };
        self.tell(head);
        Ok(appended)
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        let (erased, head) = {
            let mut log = self.log();
            (log.erase(stream, tombstone)?, log.head())
        };
        self.tell(head);
        Ok(erased)
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(self.log().stream(stream, after, limit))
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        Ok(self.log().page(filter, after, limit))
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(self.log().scan(scan, limit))
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        Ok(self.log().head())
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        let mut head = self.head.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = head.wait_for(|head| *head > after).await;
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(false, true, false)
    }
}

#[async_trait]
impl SnapshotStore for MemoryStore {
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError> {
        Ok(self.log().snapshot(stream, at_most))
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.log().keep_snapshot(snapshot);
        Ok(())
    }
}
