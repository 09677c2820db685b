//! An open transaction.

use async_trait::async_trait;
use uuid::Uuid;

use super::{MemoryModels, projections::Turn, rows::Rows};
use crate::{Batch, CheckpointError, DeadLetter, ProjectionId, Shard, Standing};

/// A transaction on a [`MemoryStore`](crate::MemoryStore): one at a time; dropping it rolls back.
#[derive(Debug)]
pub struct MemoryBatch {
    models: MemoryModels,
    rows: Rows,
}

impl MemoryBatch {
    pub(super) fn new(turn: Turn, rows: Rows) -> Self {
        Self {
            models: MemoryModels::new(turn),
            rows,
        }
    }
}

#[async_trait]
impl Batch for MemoryBatch {
    type Connection = MemoryModels;

    fn connection(&mut self) -> &mut MemoryModels {
        &mut self.models
    }

    async fn put_standings(&mut self, standings: &[Standing]) -> Result<(), CheckpointError> {
        standings.iter().for_each(|row| self.rows.put(row));
        Ok(())
    }

    async fn remove_standings(&mut self, shards: &[Shard]) -> Result<(), CheckpointError> {
        shards.iter().for_each(|shard| self.rows.remove(shard));
        Ok(())
    }

    async fn put_letters(&mut self, letters: &[DeadLetter]) -> Result<(), CheckpointError> {
        let rows = self.rows.letters_mut();
        letters.iter().for_each(|letter| rows.put(letter));
        Ok(())
    }

    async fn retry_letters(
        &mut self,
        projection: &ProjectionId,
        aggregate_id: Option<Uuid>,
    ) -> Result<u64, CheckpointError> {
        Ok(self.rows.letters_mut().retry(projection, aggregate_id))
    }

    async fn remove_letters(
        &mut self,
        projection: &ProjectionId,
        event_ids: Option<&[Uuid]>,
    ) -> Result<u64, CheckpointError> {
        Ok(self.rows.letters_mut().remove(projection, event_ids))
    }

    async fn commit(self) -> Result<(), CheckpointError> {
        let Self { models, rows } = self;
        models.commit(rows);
        Ok(())
    }

    async fn rollback(self) -> Result<(), CheckpointError> {
        Ok(())
    }
}
