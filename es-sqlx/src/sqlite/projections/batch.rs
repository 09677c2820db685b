//! A transaction in which a read model is written.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use es_core::{Batch, CheckpointError, DeadLetter, ProjectionId, Shard, Standing};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{failed, letters, standing, waiting::AtWork};
use crate::sqlite::transaction::Open;

/// A write transaction on a [`SqliteStore`](super::SqliteStore). It holds the write lock: nobody else
/// appends until it ends, so a projection must not append through the store from inside. Dropping it
/// rolls back.
///
/// Statements that end the transaction themselves (`COMMIT`, `ON CONFLICT ROLLBACK`) must not be used: the
/// batch cannot be committed any more, and what was committed is answered with [`CheckpointError::Ended`].
///
/// Where the database is in memory there is only one connection, so that reading through the store
/// has to wait as well.
pub struct SqliteBatch {
    open: Open,
    projection: ProjectionId,
    /// Told to those who want the shard, or to know who is alive, for as long as this is here.
    _at_work: Arc<AtWork>,
}

impl SqliteBatch {
    pub(super) fn new(open: Open, projection: ProjectionId, at_work: Arc<AtWork>) -> Self {
        Self {
            open,
            projection,
            _at_work: at_work,
        }
    }
}

impl fmt::Debug for SqliteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteBatch")
            .field(&self.projection)
            .finish()
    }
}

#[async_trait]
impl Batch for SqliteBatch {
    type Connection = SqliteConnection;

    fn connection(&mut self) -> &mut SqliteConnection {
        self.open.connection()
    }

    async fn put_standings(&mut self, standings: &[Standing]) -> Result<(), CheckpointError> {
        let put = standing::put(self.open.connection(), standings).await;
        put.map_err(failed(&self.projection, "write the standings"))
    }

    async fn remove_standings(&mut self, shards: &[Shard]) -> Result<(), CheckpointError> {
        let removed = standing::remove(self.open.connection(), shards).await;
        removed.map_err(failed(&self.projection, "remove the standings"))
    }

    async fn put_letters(&mut self, letters: &[DeadLetter]) -> Result<(), CheckpointError> {
        let put = letters::put(self.open.connection(), letters).await;
        put.map_err(failed(&self.projection, "write the dead letters"))
    }

    async fn retry_letters(
        &mut self,
        projection: &ProjectionId,
        aggregate_id: Option<Uuid>,
    ) -> Result<u64, CheckpointError> {
        let asked = letters::retry(self.open.connection(), projection, aggregate_id).await;
        asked.map_err(failed(projection, "ask for a retry of the dead letters"))
    }

    async fn remove_letters(
        &mut self,
        projection: &ProjectionId,
        event_ids: Option<&[Uuid]>,
    ) -> Result<u64, CheckpointError> {
        let removed = letters::remove(self.open.connection(), projection, event_ids).await;
        removed.map_err(failed(projection, "remove the dead letters"))
    }

    async fn commit(self) -> Result<(), CheckpointError> {
        let committed = self.open.commit().await;
        committed.map_err(failed(&self.projection, "commit a batch"))
    }

    /// A transaction that SQLite has already ended by itself is rolled back too.
    async fn rollback(self) -> Result<(), CheckpointError> {
        let rolled_back = self.open.rollback();
        rolled_back.map_err(failed(&self.projection, "roll back a batch"))
    }
}
