//! A store that fails on cue.

use std::{collections::VecDeque, sync::Arc, sync::Mutex, time::Duration};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Batch, Capabilities, Checkpoint, CheckpointError, Claim,
    EraseError, EventStore, ExpectedVersion, Filter, LogPage, MemoryBatch, MemoryModels,
    MemoryStore, NewEvent, Position, Progress, ProjectionId, ProjectionStore, ReadError,
    RecordedEvent, Scan, StreamErased, StreamId, Version,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::Gate;

/// Where a store can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    ReadLog,
    Acquire,
    Begin,
    Commit,
}

/// How it fails.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Before anything was done.
    Before,
    /// After it was done: the acknowledgement is lost.
    After,
    /// The checkpoint does not fit the log.
    Diverged,
    /// By a panic.
    Panic,
    /// Not at all, but late.
    Late(Arc<Gate>),
}

/// A [`MemoryStore`] that fails on cue. Clones share the cues and the counts.
#[derive(Debug, Clone, Default)]
pub struct Flaky {
    pub inner: MemoryStore,
    cues: Arc<Mutex<VecDeque<(Op, Fault)>>>,
    counts: watch::Sender<Vec<Op>>,
}

impl Flaky {
    /// The same store and cues under a handle of its own, whose counts are its own.
    pub fn with(faults: impl IntoIterator<Item = (Op, Fault)>) -> Self {
        let store = Self::default();
        store.cues.lock().unwrap().extend(faults);
        store
    }

    pub fn cue(&self, op: Op, fault: Fault) {
        self.cues.lock().unwrap().push_back((op, fault));
    }

    pub fn cues_left(&self) -> usize {
        self.cues.lock().unwrap().len()
    }

    pub fn count(&self, op: Op) -> usize {
        self.counts
            .borrow()
            .iter()
            .filter(|done| **done == op)
            .count()
    }

    pub async fn counted(&self, op: Op, times: usize) {
        let enough = |ops: &Vec<Op>| ops.iter().filter(|done| **done == op).count() >= times;
        self.counts.subscribe().wait_for(enough).await.unwrap();
    }

    async fn enter(&self, op: Op) -> Option<Fault> {
        self.counts.send_modify(|counts| counts.push(op));
        let fault = {
            let mut cues = self.cues.lock().unwrap();
            let index = cues.iter().position(|(cued, _)| *cued == op)?;
            cues.remove(index)?.1
        };
        match fault {
            Fault::Late(gate) => {
                gate.pass().await;
                None
            }
            Fault::Panic => panic!("{op:?} panicked on cue"),
            fault => Some(fault),
        }
    }
}

fn broken(projection: &ProjectionId, action: &'static str) -> CheckpointError {
    CheckpointError::Backend {
        projection: projection.clone(),
        action,
        transient: true,
        source: "connection reset".into(),
    }
}

#[async_trait]
impl EventStore for Flaky {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        self.inner.append(stream, expected, events).await
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        self.inner.append_all(appends).await
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        self.inner.erase(stream, tombstone).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.inner.read_stream(stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        match self.enter(Op::ReadLog).await {
            None => self.inner.read_log(filter, after, limit).await,
            Some(_) => Err(ReadError::Backend {
                what: "the log".into(),
                transient: true,
                source: "connection reset".into(),
            }),
        }
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        self.inner.scan(scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        self.inner.settled().await
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        self.inner.wait_for_events(after).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl ProjectionStore for Flaky {
    type Connection = MemoryModels;
    type Batch = FlakyBatch;

    async fn begin_set_up(&self, projection: &ProjectionId) -> Result<FlakyBatch, CheckpointError> {
        Ok(FlakyBatch {
            inner: self.inner.begin_set_up(projection).await?,
            projection: projection.clone(),
            store: None,
        })
    }

    async fn acquire(
        &self,
        projection: &ProjectionId,
        event_types: &[&str],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Claim, CheckpointError> {
        let fault = self.enter(Op::Acquire).await;
        match fault {
            Some(Fault::Before) => return Err(broken(projection, "take the lease")),
            Some(Fault::Diverged) => {
                return Err(CheckpointError::Diverged {
                    projection: projection.clone(),
                });
            }
            _ => {}
        }
        let claim = self
            .inner
            .acquire(projection, event_types, owner, ttl)
            .await?;
        match fault {
            None => Ok(claim),
            Some(_) => Err(broken(projection, "take the lease")),
        }
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        self.inner.release(claim).await
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
        ttl: Duration,
    ) -> Result<FlakyBatch, CheckpointError> {
        match self.enter(Op::Begin).await {
            Some(_) => Err(broken(&claim.projection, "begin a batch")),
            None => Ok(FlakyBatch {
                inner: self.inner.begin_batch(claim, to, ttl).await?,
                projection: claim.projection.clone(),
                store: Some(self.clone()),
            }),
        }
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Checkpoint>, ReadError> {
        self.inner.checkpoint(projection).await
    }
}

#[derive(Debug)]
pub struct FlakyBatch {
    inner: MemoryBatch,
    projection: ProjectionId,
    store: Option<Flaky>,
}

#[async_trait]
impl Batch for FlakyBatch {
    type Connection = MemoryModels;

    fn connection(&mut self) -> &mut MemoryModels {
        self.inner.connection()
    }

    async fn commit(self) -> Result<(), CheckpointError> {
        let fault = match &self.store {
            Some(store) => store.enter(Op::Commit).await,
            None => None,
        };
        match fault {
            None => self.inner.commit().await,
            Some(Fault::After) => {
                self.inner.commit().await?;
                Err(broken(&self.projection, "commit a batch"))
            }
            Some(_) => Err(broken(&self.projection, "commit a batch")),
        }
    }

    async fn rollback(self) -> Result<(), CheckpointError> {
        self.inner.rollback().await
    }
}
