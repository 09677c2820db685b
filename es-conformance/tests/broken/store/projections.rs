//! The port of projections: each part of it in a file of its own.

use std::time::Duration;

use async_trait::async_trait;
use es_core::{
    CheckpointError, Claim, DeadLetter, EventStore, Fleet, Letters, Lifecycle, Marks, MemoryModels,
    MemoryStore, Node, Parked, Position, Progress, ProjectionId, ProjectionStore, ReadError, Shard,
    Standing,
};
use uuid::Uuid;

use super::{FaultyStore, batch::FaultyBatch};
use crate::fault::Fault;

#[async_trait]
impl ProjectionStore for FaultyStore {
    type Connection = MemoryModels;
    type Batch = FaultyBatch;

    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        let mut fleet = self.faulty_beat(node, ttl).await?;
        fleet.standings = self.shown(fleet.standings);
        Ok(fleet)
    }

    async fn leave(&self, node: Uuid) -> Result<(), ReadError> {
        self.faulty_leave(node).await
    }

    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        self.faulty_acquire(shard, event_types, node).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        self.faulty_release(claim).await
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
    ) -> Result<FaultyBatch, CheckpointError> {
        self.faulty_begin(claim, to).await
    }

    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(FaultyBatch, Vec<Standing>), CheckpointError> {
        let (batch, mut standings) = match self.fault {
            Fault::ChangesLockNothing => {
                let (elsewhere, _) = MemoryStore::new().begin_change(projection).await?;
                let standings = self.inner.standings(Some(&projection.name)).await;
                (elsewhere, standings.expect("memory can be read"))
            }
            _ => self.inner.begin_change(projection).await?,
        };
        let mut batch = FaultyBatch::new(self, batch, projection);
        match self.fault {
            Fault::RefusesNewNames if standings.is_empty() => {
                return Err(CheckpointError::Fenced {
                    projection: projection.clone(),
                });
            }
            Fault::ChangesShowOneVersion => {
                standings.retain(|standing| standing.shard.projection == *projection);
            }
            Fault::ChangesAlwaysFence => batch.put_all(&standings).await,
            _ => {}
        }
        Ok((batch, self.shown(standings)))
    }

    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
        let name = name.filter(|_| self.fault != Fault::ListsAllNames);
        let mut standings = self.inner.standings(name).await?;
        if self.fault == Fault::InventsCheckpoints && standings.is_empty() {
            let id = ProjectionId::new(name.unwrap_or_default(), 1);
            standings.push(Standing::new(Shard::new(id, 0), 1, &[]));
        }
        Ok(self.shown(standings))
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Position>, ReadError> {
        let mut standings = self.standings(Some(&projection.name)).await?;
        standings.retain(|standing| standing.shard.projection == *projection);
        let positions = standings.iter().map(|standing| standing.position);
        Ok(match self.fault {
            Fault::FollowsTheFastestShard => positions.max(),
            _ => positions.min(),
        })
    }

    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.faulty_letters(letters, limit).await
    }

    async fn parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        self.faulty_parked(projection, limit).await
    }
}

impl FaultyStore {
    /// What others see of standings.
    fn shown(&self, mut standings: Vec<Standing>) -> Vec<Standing> {
        if self.fault == Fault::ListsBackwards {
            standings.reverse();
        }
        let as_put = self.as_put();
        for standing in &mut standings {
            let put = as_put.get(&standing.shard);
            match (self.fault, put) {
                (Fault::ForgetsTheOwner, _) => standing.owner = None,
                (Fault::ForgetsFailures, _) => standing.failure = None,
                (Fault::ForgetsTheLifecycle, _) => standing.lifecycle = Lifecycle::Running,
                (Fault::ForgetsMarks, _) => {
                    standing.applied = Marks::default();
                    standing.silent = Marks::default();
                }
                (Fault::BelievesTheEpoch, Some(put)) => standing.epoch = put.epoch,
                (Fault::BelievesTheOwner, Some(put)) => standing.owner = put.owner,
                (Fault::LeavesInlineBehind, Some(put)) => standing.position = put.position,
                _ => {}
            }
        }
        standings
    }

    /// The standing as the inner store has it.
    pub(super) async fn row(&self, shard: &Shard) -> Option<Standing> {
        let name = Some(shard.projection.name.as_str());
        let standings = self.inner.standings(name).await;
        let mut standings = standings.expect("memory can be read").into_iter();
        standings.find(|standing| standing.shard == *shard)
    }

    pub(super) async fn end(&self) -> Position {
        let settled = self.inner.settled().await;
        settled.expect("memory can be read")
    }
}
