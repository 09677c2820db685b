//! A store that fails on cue.

use std::{collections::VecDeque, error::Error, sync::Arc, sync::Mutex, time::Duration};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Batch, Capabilities, CheckpointError, Claim, DeadLetter,
    EraseError, EventStore, ExpectedVersion, Filter, Fleet, Horizon, Letters, LogPage, MemoryBatch,
    MemoryModels, MemoryStore, NewEvent, Node, Parked, Position, Progress, ProjectionId,
    ProjectionStore, ReadError, RecordedEvent, Scan, Shard, Standing, StreamErased, StreamId,
    Version,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Gate, PATIENCE};

/// Where a store can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Beat,
    Leave,
    ReadLog,
    Acquire,
    Release,
    Begin,
    Change,
    Letters,
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
    /// What fails every time.
    down: Arc<Mutex<Vec<Op>>>,
    /// What takes long.
    slow: Arc<Mutex<Vec<(Op, Duration)>>>,
    /// What is told instead of the truth.
    horizon: Arc<Mutex<Option<Horizon>>>,
    counts: watch::Sender<Vec<Op>>,
}

impl Flaky {
    /// The same store and cues under a handle of its own, whose counts are its own.
    pub fn with(faults: impl IntoIterator<Item = (Op, Fault)>) -> Self {
        let store = Self::default();
        store.cues.lock().unwrap().extend(faults);
        store
    }

    /// Another process on the same store, with faults of its own.
    pub fn over(inner: MemoryStore) -> Self {
        Self {
            inner,
            ..Self::default()
        }
    }

    /// From now on this fails.
    pub fn break_down(&self, ops: impl IntoIterator<Item = Op>) {
        self.down.lock().unwrap().extend(ops);
    }

    /// From now on this takes so long.
    pub fn slow_down(&self, op: Op, time: Duration) {
        self.slow.lock().unwrap().push((op, time));
    }

    /// Nothing fails for good any more.
    pub fn mend(&self) {
        self.down.lock().unwrap().clear();
    }

    pub fn pretend(&self, horizon: Option<Horizon>) {
        *self.horizon.lock().unwrap() = horizon;
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
        let mut counts = self.counts.subscribe();
        let counted = tokio::time::timeout(PATIENCE, counts.wait_for(enough)).await;
        counted.expect("it was not done so often").unwrap();
    }

    async fn enter(&self, op: Op) -> Option<Fault> {
        self.counts.send_modify(|counts| counts.push(op));
        let slow = self.slow.lock().unwrap().clone();
        for (_, time) in slow.into_iter().filter(|(slow, _)| *slow == op) {
            tokio::time::sleep(time).await;
        }
        if self.down.lock().unwrap().contains(&op) {
            return Some(Fault::Before);
        }
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

fn unreadable(what: &str) -> ReadError {
    ReadError::Backend {
        what: what.to_owned(),
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
            Some(_) => Err(unreadable("the log")),
        }
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        self.inner.scan(scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        self.inner.settled().await
    }

    async fn horizon(&self) -> Result<Horizon, ReadError> {
        let pretended = self.horizon.lock().unwrap().clone();
        match pretended {
            Some(horizon) => Ok(horizon),
            None => self.inner.horizon().await,
        }
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

    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        match self.enter(Op::Beat).await {
            None => self.inner.beat(node, ttl).await,
            Some(_) => Err(unreadable("who is alive")),
        }
    }

    async fn leave(&self, node: Uuid) -> Result<(), ReadError> {
        match self.enter(Op::Leave).await {
            None => self.inner.leave(node).await,
            Some(_) => Err(unreadable("who is alive")),
        }
    }

    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        let projection = &shard.projection;
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
        let claim = self.inner.acquire(shard, event_types, node).await?;
        match fault {
            None => Ok(claim),
            Some(_) => Err(broken(projection, "take the lease")),
        }
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        match self.enter(Op::Release).await {
            None => self.inner.release(claim).await,
            Some(_) => Err(broken(&claim.shard.projection, "give the lease back")),
        }
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
    ) -> Result<FlakyBatch, CheckpointError> {
        match self.enter(Op::Begin).await {
            Some(_) => Err(broken(&claim.shard.projection, "begin a batch")),
            None => Ok(FlakyBatch {
                inner: self.inner.begin_batch(claim, to).await?,
                projection: claim.shard.projection.clone(),
                store: Some(self.clone()),
            }),
        }
    }

    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(FlakyBatch, Vec<Standing>), CheckpointError> {
        if self.enter(Op::Change).await.is_some() {
            return Err(broken(projection, "begin a change"));
        }
        let (inner, standings) = self.inner.begin_change(projection).await?;
        let batch = FlakyBatch {
            inner,
            projection: projection.clone(),
            store: None,
        };
        Ok((batch, standings))
    }

    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
        self.inner.standings(name).await
    }

    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.inner.dead_letters(letters, limit).await
    }

    async fn parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        self.inner.parked(projection, limit).await
    }

    /// Deadlocks come from the database; everything else is the handler's own.
    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        error.to_string().contains("deadlock")
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

    async fn put_standings(&mut self, standings: &[Standing]) -> Result<(), CheckpointError> {
        self.inner.put_standings(standings).await
    }

    async fn remove_standings(&mut self, shards: &[Shard]) -> Result<(), CheckpointError> {
        self.inner.remove_standings(shards).await
    }

    async fn put_letters(&mut self, letters: &[DeadLetter]) -> Result<(), CheckpointError> {
        let fault = match &self.store {
            Some(store) => store.enter(Op::Letters).await,
            None => None,
        };
        match fault {
            None => self.inner.put_letters(letters).await,
            Some(_) => Err(broken(&self.projection, "put a dead letter down")),
        }
    }

    async fn retry_letters(
        &mut self,
        projection: &ProjectionId,
        aggregate_id: Option<Uuid>,
    ) -> Result<u64, CheckpointError> {
        self.inner.retry_letters(projection, aggregate_id).await
    }

    async fn remove_letters(
        &mut self,
        projection: &ProjectionId,
        event_ids: Option<&[Uuid]>,
    ) -> Result<u64, CheckpointError> {
        self.inner.remove_letters(projection, event_ids).await
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
