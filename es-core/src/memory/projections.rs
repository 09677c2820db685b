//! Checkpoints, beside the read models and changed together with them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{MemoryModels, MemoryStore, models::Committed};
use crate::{
    Batch, Checkpoint, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore,
    ReadError,
};

#[derive(Debug, Default)]
pub(super) struct Projections {
    rows: HashMap<ProjectionId, Row>,
    pub(super) models: Committed,
}

#[derive(Debug, Clone)]
struct Row {
    event_types: Vec<String>,
    position: Position,
    anchor: Option<(Position, Uuid)>,
    epoch: i64,
    /// Who runs it, and until when.
    lease: Option<(Uuid, Instant)>,
}

/// A transaction on a [`MemoryStore`]: one at a time; dropping it rolls back.
#[derive(Debug)]
pub struct MemoryBatch {
    models: MemoryModels,
    checkpoint: Option<(ProjectionId, Row)>,
}

#[async_trait]
impl Batch for MemoryBatch {
    type Connection = MemoryModels;

    fn connection(&mut self) -> &mut MemoryModels {
        &mut self.models
    }

    async fn commit(mut self) -> Result<(), CheckpointError> {
        self.models.commit();
        if let Some((projection, row)) = self.checkpoint {
            self.models.store.rows.insert(projection, row);
        }
        Ok(())
    }

    async fn rollback(self) -> Result<(), CheckpointError> {
        Ok(())
    }
}

#[async_trait]
impl ProjectionStore for MemoryStore {
    type Connection = MemoryModels;
    type Batch = MemoryBatch;

    async fn begin_set_up(&self, _: &ProjectionId) -> Result<MemoryBatch, CheckpointError> {
        let store = Arc::clone(&self.projections).lock_owned().await;
        Ok(MemoryBatch {
            models: MemoryModels::new(store),
            checkpoint: None,
        })
    }

    async fn acquire(
        &self,
        projection: &ProjectionId,
        event_types: &[&str],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Claim, CheckpointError> {
        let mut store = self.projections.lock().await;
        let row = store.rows.entry(projection.clone()).or_insert_with(|| Row {
            event_types: sorted(event_types),
            position: Position::START,
            anchor: None,
            epoch: 0,
            lease: None,
        });
        let wanted = sorted(event_types);
        if row.event_types != wanted {
            return Err(CheckpointError::OtherEventTypes {
                projection: projection.clone(),
                stored: row.event_types.join(", "),
                wanted: wanted.join(", "),
            });
        }
        self.check_anchor(projection, row)?;
        let now = Instant::now();
        match row.lease {
            Some((holder, until)) if until > now && holder != owner => {
                return Err(CheckpointError::Held {
                    projection: projection.clone(),
                    owner: holder,
                });
            }
            Some((holder, until)) if until > now && holder == owner => {}
            _ => row.epoch += 1,
        }
        row.lease = Some((owner, now + ttl));
        Ok(Claim {
            projection: projection.clone(),
            owner,
            epoch: row.epoch,
            position: row.position,
        })
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        let mut store = self.projections.lock().await;
        if let Some(row) = store.rows.get_mut(&claim.projection)
            && row.epoch == claim.epoch
        {
            row.lease = None;
        }
        Ok(())
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
        ttl: Duration,
    ) -> Result<MemoryBatch, CheckpointError> {
        let store = Arc::clone(&self.projections).lock_owned().await;
        let row = store.rows.get(&claim.projection).filter(|row| {
            let holder = row.lease.map(|(owner, _)| owner);
            row.epoch == claim.epoch
                && row.position == claim.position
                && holder == Some(claim.owner)
        });
        let Some(row) = row else {
            return Err(CheckpointError::Fenced {
                projection: claim.projection.clone(),
            });
        };
        let moved = Row {
            position: to.position,
            anchor: to.anchor.or(row.anchor),
            lease: Some((claim.owner, Instant::now() + ttl)),
            ..row.clone()
        };
        Ok(MemoryBatch {
            checkpoint: Some((claim.projection.clone(), moved)),
            models: MemoryModels::new(store),
        })
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Checkpoint>, ReadError> {
        let store = self.projections.lock().await;
        Ok(store.rows.get(projection).map(|row| Checkpoint {
            position: row.position,
            epoch: row.epoch,
            owner: row
                .lease
                .filter(|(_, until)| *until > Instant::now())
                .map(|(owner, _)| owner),
        }))
    }
}

impl MemoryStore {
    fn check_anchor(&self, projection: &ProjectionId, row: &Row) -> Result<(), CheckpointError> {
        let log = self.log();
        let projection = projection.clone();
        if row.position > log.head() {
            return Err(CheckpointError::AheadOfLog { projection });
        }
        match row.anchor {
            Some((at, _)) if at > log.head() => Err(CheckpointError::AheadOfLog { projection }),
            Some((at, id)) if log.event_id_at(at) != Some(id) => {
                Err(CheckpointError::Diverged { projection })
            }
            _ => Ok(()),
        }
    }
}

fn sorted(types: &[&str]) -> Vec<String> {
    let mut types: Vec<_> = types.iter().map(|name| (*name).to_owned()).collect();
    types.sort_unstable();
    types
}
