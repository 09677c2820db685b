//! Where projections stand, who runs them, and what they have put aside.
//!
//! What must not wait goes over the connections for events, on which nobody's transaction is ever open:
//! a node stays alive however long its batches take.

mod batch;
mod cells;
mod lease;
mod letters;
mod standing;

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use es_core::{
    CheckpointError, Claim, DeadLetter, Fleet, Letters, Node, Parked, Progress, ProjectionId,
    ProjectionStore, ReadError, Shard, Standing,
};
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::batch::PgBatch;
use super::{Inner, PgStore, transaction::has_ended};
use crate::error::{explain, has_transient_cause, is_transient};

/// Also where the name has no row yet that could be locked.
const LOCK_NAME: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('es_projection ' || $1 || ' ' || $2, 0))";

#[async_trait]
impl ProjectionStore for PgStore {
    type Connection = PgConnection;
    type Batch = PgBatch;

    /// Commits without waiting for the disk: a server that crashes forgets who was alive, and they
    /// announce themselves again.
    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        lease::beat(&self.0, node, ttl).await
    }

    async fn leave(&self, node: Uuid) -> Result<(), ReadError> {
        lease::leave(&self.0, node).await
    }

    /// Does not wait for the batch of another node. For an open batch of the same node it waits a
    /// moment, and then fails as something that may succeed later.
    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        lease::acquire(&self.0, shard, event_types, node).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        lease::release(&self.0, claim).await
    }

    async fn begin_batch(&self, claim: &Claim, to: &Progress) -> Result<PgBatch, CheckpointError> {
        PgBatch::begin_at(self, claim, to).await
    }

    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(PgBatch, Vec<Standing>), CheckpointError> {
        PgBatch::begin_change(self, projection).await
    }

    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
        standing::read(&self.0, name).await
    }

    /// A page never ends between letters of one position, so that none is lost to `after`: it may hold a
    /// few more than `limit`, one for each projection at most.
    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        letters::list(&self.0, letters, limit).await
    }

    async fn parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        letters::parked(&self.0, projection, limit).await
    }

    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        has_transient_cause(error)
    }
}

/// Until the end of the transaction nobody else changes, or creates, projections of this name.
pub(super) async fn lock_name(
    store: &Inner,
    connection: &mut PgConnection,
    name: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK_NAME)
        .bind(store.name())
        .bind(name)
        .execute(connection)
        .await
        .map(|_| ())
}

/// For parameters: what is above the column's range is no version of anything.
fn version(projection: &ProjectionId) -> i32 {
    count(projection.version)
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn failed(
    projection: &ProjectionId,
    action: &'static str,
) -> impl Fn(sqlx::Error) -> CheckpointError + use<> {
    let projection = projection.clone();
    move |source| match has_ended(&source) {
        true => CheckpointError::Ended {
            projection: projection.clone(),
        },
        false => CheckpointError::Backend {
            projection: projection.clone(),
            action,
            transient: is_transient(&source),
            source: explain(source),
        },
    }
}

/// The same for what was read.
fn unread(
    projection: &ProjectionId,
    action: &'static str,
) -> impl Fn(ReadError) -> CheckpointError + use<> {
    let projection = projection.clone();
    move |error| CheckpointError::Backend {
        projection: projection.clone(),
        action,
        transient: error.is_retryable(),
        source: error.into(),
    }
}
