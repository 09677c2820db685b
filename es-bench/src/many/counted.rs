//! A store that counts how often its log is read. All else is passed on.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Capabilities, CheckpointError, Claim, DeadLetter, EraseError,
    EventStore, ExpectedVersion, Filter, Fleet, Horizon, Letters, LogPage, NewEvent, Node, Parked,
    Position, Progress, ProjectionId, ProjectionStore, ReadError, RecordedEvent, Scan, Shard,
    Standing, StreamErased, StreamId, Version,
};
use uuid::Uuid;

/// What was read of a log.
#[derive(Debug, Default)]
pub(super) struct Reads {
    calls: AtomicU32,
    events: AtomicU32,
}

impl Reads {
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn events(&self) -> u32 {
        self.events.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Counted<S> {
    store: S,
    reads: Arc<Reads>,
}

impl<S> Counted<S> {
    pub(super) fn new(store: S, reads: Arc<Reads>) -> Self {
        Self { store, reads }
    }
}

#[async_trait]
impl<S: EventStore> EventStore for Counted<S> {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        self.store.append(stream, expected, events).await
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
        let page = self.store.read_log(filter, after, limit).await?;
        let events = u32::try_from(page.events.len()).unwrap_or(u32::MAX);
        self.reads.calls.fetch_add(1, Ordering::Relaxed);
        self.reads.events.fetch_add(events, Ordering::Relaxed);
        Ok(page)
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        self.store.scan(scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        self.store.settled().await
    }

    async fn horizon(&self) -> Result<Horizon, ReadError> {
        self.store.horizon().await
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        self.store.wait_for_events(after).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
}

#[async_trait]
impl<S: ProjectionStore> ProjectionStore for Counted<S> {
    type Connection = S::Connection;
    type Batch = S::Batch;

    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        self.store.beat(node, ttl).await
    }

    async fn leave(&self, node: Uuid) -> Result<(), ReadError> {
        self.store.leave(node).await
    }

    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        self.store.acquire(shard, event_types, node).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        self.store.release(claim).await
    }

    async fn begin_batch(&self, claim: &Claim, to: &Progress) -> Result<S::Batch, CheckpointError> {
        self.store.begin_batch(claim, to).await
    }

    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(S::Batch, Vec<Standing>), CheckpointError> {
        self.store.begin_change(projection).await
    }

    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
        self.store.standings(name).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Position>, ReadError> {
        self.store.checkpoint(projection).await
    }

    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.store.dead_letters(letters, limit).await
    }

    async fn parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        self.store.parked(projection, limit).await
    }

    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        self.store.is_transient(error)
    }
}
