//! Leases and checkpoints with a mechanism taken out.

use std::time::Duration;

use async_trait::async_trait;
use es_core::{
    Batch, Checkpoint, CheckpointError, Claim, EventStore, MemoryBatch, MemoryModels, Position,
    Progress, ProjectionId, ProjectionStore, ReadError,
};
use uuid::Uuid;

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    fn key(&self, projection: &ProjectionId) -> ProjectionId {
        match self.fault {
            Fault::IgnoresTheProjectionsVersion => ProjectionId::new(projection.name.clone(), 1),
            _ => projection.clone(),
        }
    }

    async fn claim(
        &self,
        key: &ProjectionId,
        event_types: &[&str],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Claim, CheckpointError> {
        let claim = self.inner.acquire(key, event_types, owner, ttl).await;
        match (&claim, self.fault) {
            (Err(CheckpointError::Held { owner: holder, .. }), Fault::IgnoresTheHolder) => {
                let held = self.inner.acquire(key, event_types, *holder, ttl).await?;
                self.inner.release(&held).await?;
                self.inner.acquire(key, event_types, owner, ttl).await
            }
            (Ok(first), Fault::RaisesTheEpochOnRenewal) => {
                self.inner.release(first).await?;
                self.inner.acquire(key, event_types, owner, ttl).await
            }
            (Ok(first), Fault::FindsNoAnchor) if first.position > Position::START => {
                Err(CheckpointError::Diverged {
                    projection: key.clone(),
                })
            }
            _ => claim,
        }
    }
}

#[async_trait]
impl ProjectionStore for FaultyStore {
    type Connection = MemoryModels;
    type Batch = MemoryBatch;

    async fn begin_set_up(
        &self,
        projection: &ProjectionId,
    ) -> Result<MemoryBatch, CheckpointError> {
        if self.fault == Fault::MakesACheckpointOnSetUp {
            let ttl = Duration::from_millis(1);
            let made = self.inner.acquire(projection, &[], Uuid::nil(), ttl).await;
            drop(made);
        }
        self.inner.begin_set_up(projection).await
    }

    async fn acquire(
        &self,
        projection: &ProjectionId,
        event_types: &[&str],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Claim, CheckpointError> {
        let wanted = match self.fault {
            Fault::IgnoresTheEventTypes => &["any"],
            _ => event_types,
        };
        let claim = self.claim(&self.key(projection), wanted, owner, ttl).await;
        claim.map(|claim| Claim {
            projection: projection.clone(),
            ..claim
        })
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        let mut claim = claim.clone();
        claim.projection = self.key(&claim.projection);
        match self.fault {
            Fault::IgnoresTheRelease => return Ok(()),
            Fault::ReleasesWhoeverHolds => {
                let held = self.inner.checkpoint(&claim.projection).await;
                if let Ok(Some(held)) = held {
                    claim.epoch = held.epoch;
                }
            }
            _ => {}
        }
        self.inner.release(&claim).await
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
        ttl: Duration,
    ) -> Result<MemoryBatch, CheckpointError> {
        let (mut claim, mut to) = (claim.clone(), *to);
        match self.fault {
            Fault::DoesNotFence => {
                let held = self.inner.checkpoint(&claim.projection).await;
                if let Ok(Some(held)) = held {
                    claim.position = held.position;
                    claim.epoch = held.epoch;
                    claim.owner = held.owner.unwrap_or(claim.owner);
                }
            }
            Fault::ForgetsTheAnchor => to.anchor = None,
            Fault::TakesTheLogsEnd => {
                let end = self.inner.settled().await.unwrap_or_default();
                to.position = to.position.min(end);
                to.anchor = to.anchor.filter(|(position, _)| *position <= end);
            }
            Fault::NeverMovesTheCheckpoint => {
                return self.inner.begin_set_up(&claim.projection).await;
            }
            Fault::MovesTheCheckpointBeforehand => {
                let moved = self.inner.begin_batch(&claim, &to, ttl).await?;
                moved.commit().await?;
                return self.inner.begin_set_up(&claim.projection).await;
            }
            _ => {}
        }
        claim.projection = self.key(&claim.projection);
        self.inner.begin_batch(&claim, &to, ttl).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Checkpoint>, ReadError> {
        let mut held = self.inner.checkpoint(&self.key(projection)).await?;
        match (&mut held, self.fault) {
            (Some(held), Fault::ForgetsTheOwner) => held.owner = None,
            (None, Fault::InventsCheckpoints) => {
                held = Some(Checkpoint {
                    position: Position::START,
                    epoch: 0,
                    owner: None,
                });
            }
            _ => {}
        }
        Ok(held)
    }
}
