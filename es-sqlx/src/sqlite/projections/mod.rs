//! Where projections stand. A checkpoint moves in `begin_batch` and nowhere else.
//!
//! Whatever changes these tables has the write lock, so that nothing here can pass a transaction that is
//! open: a change begins when no batch is open, and a batch that has begun can lose nothing.

mod batch;
mod lease;
mod letters;
mod standing;
mod waiting;

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use es_core::{
    CheckpointError, Claim, DeadLetter, Fleet, Letters, Node, Parked, Progress, ProjectionId,
    ProjectionStore, ReadError, Shard, Standing,
};
use sqlx::SqliteConnection;
use uuid::Uuid;

pub use self::batch::SqliteBatch;
pub(super) use self::waiting::{Leases, Written};
use self::{standing::Owner, waiting::Committed};
use super::{
    SqliteStore,
    row::parameter,
    transaction::{Open, was_committed},
};
use crate::error::{has_transient_cause, is_transient};

const MOVE: &str = concat!(
    "UPDATE projection_shards SET position = ?7,
     anchor_position = coalesce(?8, anchor_position), anchor_event_id = coalesce(?9, anchor_event_id),
     updated_at = ",
    super::row::now!(),
    " WHERE name = ?1 AND version = ?2 AND shard = ?3 AND owner = ?4 AND epoch = ?5 AND position = ?6"
);

#[async_trait]
impl ProjectionStore for SqliteStore {
    type Connection = SqliteConnection;
    type Batch = SqliteBatch;

    /// Where somebody has the write lock and keeps it, the announcement is left to the transactions of
    /// this process: the one that is open writes it when it ends, before anybody else can write, so that
    /// a node outlives its own batch. The answer then tells what is committed, with the announcements
    /// that wait: without the write lock nobody can take anything from the node, and what was taken
    /// before is seen.
    ///
    /// Where another process keeps the lock for longer than the node lives, others may take over.
    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        lease::beat(self, node, ttl).await
    }

    /// Waits for a transaction that is open no longer than [`beat`](Self::beat) does.
    async fn leave(&self, node: Uuid) -> Result<(), ReadError> {
        lease::leave(self, node).await
    }

    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        lease::acquire(self, shard, event_types, node).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        lease::release(self, claim).await
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
    ) -> Result<SqliteBatch, CheckpointError> {
        let projection = &claim.shard.projection;
        let (mut open, committed) = self.begin_for(projection, "begin a batch").await?;
        let moved = sqlx::query(MOVE)
            .bind(&projection.name)
            .bind(projection.version)
            .bind(claim.shard.index)
            .bind(claim.owner)
            .bind(claim.epoch)
            .bind(parameter(claim.position))
            .bind(parameter(to.position))
            .bind(to.anchor.map(|(position, _)| parameter(position)))
            .bind(to.anchor.map(|(_, event_id)| event_id))
            .execute(open.connection())
            .await
            .map_err(failed(projection, "move the checkpoint"))?;
        if moved.rows_affected() != 1 {
            return Err(CheckpointError::Fenced {
                projection: projection.clone(),
            });
        }
        let at_work = self.0.writer.leases.begin_work(Some(claim), committed);
        Ok(SqliteBatch::new(open, projection.clone(), at_work))
    }

    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(SqliteBatch, Vec<Standing>), CheckpointError> {
        let action = "begin a change";
        let (mut open, committed) = self.begin_for(projection, action).await?;
        let name = Some(&*projection.name);
        let standings = standing::list(open.connection(), name, Owner::Alive).await;
        let standings = standings.map_err(unreadable(projection, action))?;
        let at_work = self.0.writer.leases.begin_work(None, committed);
        let batch = SqliteBatch::new(open, projection.clone(), at_work);
        Ok((batch, standings))
    }

    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
        standing::list(&mut *self.reader().await?, name, Owner::Alive).await
    }

    /// A page may be a little longer than `limit`: it ends with the last letter of a position, since the
    /// next page begins after that position.
    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        letters::list(&mut *self.reader().await?, letters, limit).await
    }

    async fn parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        letters::parked(&mut *self.reader().await?, projection, limit).await
    }

    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        has_transient_cause(error)
    }
}

impl SqliteStore {
    /// In memory nobody can read while a transaction is open: what a beat tells is read before.
    async fn begin_for(
        &self,
        projection: &ProjectionId,
        action: &'static str,
    ) -> Result<(Open, Option<Committed>), CheckpointError> {
        let open = Open::begin(&self.0.writer).await;
        let mut open = open.map_err(failed(projection, action))?;
        if self.0.writer.in_file {
            return Ok((open, None));
        }
        let committed = lease::committed(open.connection()).await;
        let committed = committed.map_err(unreadable(projection, action))?;
        Ok((open, Some(committed)))
    }
}

fn failed(
    projection: &ProjectionId,
    action: &'static str,
) -> impl Fn(sqlx::Error) -> CheckpointError + use<> {
    let projection = projection.clone();
    move |source| match was_committed(&source) {
        true => CheckpointError::Ended {
            projection: projection.clone(),
        },
        false => CheckpointError::Backend {
            projection: projection.clone(),
            action,
            transient: is_transient(&source),
            source: source.into(),
        },
    }
}

fn unreadable(
    projection: &ProjectionId,
    action: &'static str,
) -> impl Fn(ReadError) -> CheckpointError + use<> {
    let projection = projection.clone();
    move |source| CheckpointError::Backend {
        projection: projection.clone(),
        action,
        transient: source.is_retryable(),
        source: source.into(),
    }
}
