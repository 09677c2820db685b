//! Transactions in which read models are written, and decisions of people. A checkpoint moves here and
//! nowhere else.

use std::fmt;

use async_trait::async_trait;
use es_core::{Batch, CheckpointError, Claim, DeadLetter, Progress, ProjectionId, Shard, Standing};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{count, failed, letters, lock_name, standing, unread, version};
use crate::postgres::{
    PgStore,
    row::parameter,
    transaction::{Open, begin_guarded},
};

const MOVE: &str = "UPDATE {schema}.projection_shards SET position = $7,
        anchor_position = coalesce($8, anchor_position),
        anchor_event_id = coalesce($9, anchor_event_id),
        updated_at = clock_timestamp()
    WHERE name = $1 AND version = $2 AND shard = $3
      AND owner = $4 AND epoch = $5 AND position = $6";

/// A transaction on a [`PgStore`]. Dropping it rolls back.
///
/// Should the process stop answering in the middle, the server ends the transaction after 30 s
/// (`idle_in_transaction_session_timeout`), so that another owner can go on.
pub struct PgBatch {
    open: Open,
    store: PgStore,
    projection: ProjectionId,
}

impl fmt::Debug for PgBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PgBatch").field(&self.projection).finish()
    }
}

impl PgBatch {
    pub(super) async fn begin_at(
        store: &PgStore,
        claim: &Claim,
        to: &Progress,
    ) -> Result<Self, CheckpointError> {
        let Shard { projection, index } = &claim.shard;
        let mut batch = Self::begin(store, projection, "begin a batch").await?;
        let moved = sqlx::query(store.0.text(MOVE))
            .bind(&projection.name)
            .bind(version(projection))
            .bind(count(*index))
            .bind(claim.owner)
            .bind(claim.epoch)
            .bind(parameter(claim.position))
            .bind(parameter(to.position))
            .bind(to.anchor.map(|(position, _)| parameter(position)))
            .bind(to.anchor.map(|(_, event_id)| event_id))
            .execute(batch.connection())
            .await
            .map_err(failed(projection, "move the checkpoint"))?;
        if moved.rows_affected() != 1 {
            return Err(CheckpointError::Fenced {
                projection: projection.clone(),
            });
        }
        Ok(batch)
    }

    /// Where our tables are not there this fails: a read model would land in another schema.
    pub(super) async fn begin_change(
        store: &PgStore,
        projection: &ProjectionId,
    ) -> Result<(Self, Vec<Standing>), CheckpointError> {
        let action = "begin a change";
        // Before there is a transaction: it takes another connection.
        let settled = store.0.settle().await;
        let settled = settled.map_err(unread(projection, action))?;
        let mut batch = Self::begin(store, projection, action).await?;
        lock_name(&store.0, batch.connection(), &projection.name)
            .await
            .map_err(failed(projection, action))?;
        let standings = standing::lock(&store.0, batch.connection(), projection, settled).await?;
        Ok((batch, standings))
    }

    async fn begin(
        store: &PgStore,
        projection: &ProjectionId,
        action: &'static str,
    ) -> Result<Self, CheckpointError> {
        let open = Open::begin(store.pool(), begin_guarded(&store.0.schema)).await;
        Ok(Self {
            open: open.map_err(failed(projection, action))?,
            store: store.clone(),
            projection: projection.clone(),
        })
    }
}

#[async_trait]
impl Batch for PgBatch {
    type Connection = PgConnection;

    fn connection(&mut self) -> &mut PgConnection {
        self.open.connection()
    }

    async fn put_standings(&mut self, standings: &[Standing]) -> Result<(), CheckpointError> {
        for standing in standings {
            standing::put(&self.store.0, self.open.connection(), standing)
                .await
                .map_err(failed(&self.projection, "change the checkpoint"))?;
        }
        Ok(())
    }

    async fn remove_standings(&mut self, shards: &[Shard]) -> Result<(), CheckpointError> {
        for shard in shards {
            standing::remove(&self.store.0, self.open.connection(), shard)
                .await
                .map_err(failed(&self.projection, "remove the checkpoint"))?;
        }
        Ok(())
    }

    async fn put_letters(&mut self, letters: &[DeadLetter]) -> Result<(), CheckpointError> {
        letters::put(&self.store.0, self.open.connection(), letters)
            .await
            .map_err(failed(&self.projection, "put aside events"))
    }

    async fn retry_letters(
        &mut self,
        projection: &ProjectionId,
        aggregate_id: Option<Uuid>,
    ) -> Result<u64, CheckpointError> {
        letters::retry(
            &self.store.0,
            self.open.connection(),
            projection,
            aggregate_id,
        )
        .await
        .map_err(failed(projection, "retry dead letters"))
    }

    async fn remove_letters(
        &mut self,
        projection: &ProjectionId,
        event_ids: Option<&[Uuid]>,
    ) -> Result<u64, CheckpointError> {
        letters::remove(&self.store.0, self.open.connection(), projection, event_ids)
            .await
            .map_err(failed(projection, "remove dead letters"))
    }

    async fn commit(self) -> Result<(), CheckpointError> {
        let committed = self.open.commit().await;
        committed.map_err(failed(&self.projection, "commit a batch"))
    }

    async fn rollback(self) -> Result<(), CheckpointError> {
        let rolled_back = self.open.rollback().await;
        rolled_back.map_err(failed(&self.projection, "roll back a batch"))
    }
}
