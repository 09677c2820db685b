//! Where projections stand. A checkpoint moves in `begin_batch` and nowhere else.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use es_core::{
    Batch, Checkpoint, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore,
    ReadError,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    PgStore, read,
    row::{self, parameter},
    transaction::{Open, begin_guarded},
};
use crate::error::{explain, is_transient};

const CREATE: &str = "INSERT INTO {schema}.projection_shards (name, version, event_types)
    VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const LOOK: &str = "SELECT s.event_types, s.position, s.anchor_position, e.position IS NOT NULL,
    (SELECT coalesce(max(position), 0) FROM {schema}.events), s.status = 'inline'
    FROM {schema}.projection_shards s
    LEFT JOIN {schema}.events e
      ON e.position = s.anchor_position AND e.event_id = s.anchor_event_id
    WHERE s.name = $1 AND s.version = $2";
const TAKE: &str = "UPDATE {schema}.projection_shards
    SET owner = $3, lease_until = clock_timestamp() + $4 * interval '1 millisecond',
        epoch = CASE WHEN owner = $3 AND lease_until > clock_timestamp() THEN epoch ELSE epoch + 1 END
    WHERE name = $1 AND version = $2
      AND (owner IS NULL OR owner = $3 OR lease_until <= clock_timestamp())
    RETURNING epoch, position";
const HOLDER: &str =
    "SELECT owner FROM {schema}.projection_shards WHERE name = $1 AND version = $2";
const RELEASE: &str = "UPDATE {schema}.projection_shards SET owner = NULL, lease_until = 'epoch'
    WHERE name = $1 AND version = $2 AND owner = $3 AND epoch = $4";
const MOVE: &str = "UPDATE {schema}.projection_shards SET position = $6,
        anchor_position = coalesce($7, anchor_position),
        anchor_event_id = coalesce($8, anchor_event_id),
        lease_until = clock_timestamp() + $9 * interval '1 millisecond',
        updated_at = clock_timestamp()
    WHERE name = $1 AND version = $2 AND owner = $3 AND epoch = $4 AND position = $5";
const CHECKPOINT: &str =
    "SELECT position, epoch, CASE WHEN lease_until > clock_timestamp() THEN owner END
    FROM {schema}.projection_shards WHERE name = $1 AND version = $2";

/// A transaction on a [`PgStore`]. Dropping it rolls back.
///
/// Should the process stop answering in the middle, the server ends the transaction after 30 s
/// (`idle_in_transaction_session_timeout`), so that another owner can go on.
pub struct PgBatch {
    open: Open,
    projection: ProjectionId,
}

impl fmt::Debug for PgBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PgBatch").field(&self.projection).finish()
    }
}

#[async_trait]
impl Batch for PgBatch {
    type Connection = PgConnection;

    fn connection(&mut self) -> &mut PgConnection {
        self.open.connection()
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

#[async_trait]
impl ProjectionStore for PgStore {
    type Connection = PgConnection;
    type Batch = PgBatch;

    async fn begin_set_up(&self, projection: &ProjectionId) -> Result<PgBatch, CheckpointError> {
        let action = "set up the read model";
        let mut batch = self.begin_for(projection, action).await?;
        // Where our tables are not there, the read model would land in another schema.
        sqlx::query(
            self.0
                .text("SELECT FROM {schema}.projection_shards LIMIT 0"),
        )
        .execute(batch.connection())
        .await
        .map_err(failed(projection, action))?;
        Ok(batch)
    }

    async fn acquire(
        &self,
        projection: &ProjectionId,
        event_types: &[&str],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Claim, CheckpointError> {
        let mut batch = self.begin_for(projection, "take the lease").await?;
        let wanted = sorted(event_types);
        let db = batch.connection();
        let failed = failed(projection, "take the lease");
        sqlx::query(self.0.text(CREATE))
            .bind(&projection.name)
            .bind(version(projection))
            .bind(&wanted)
            .execute(&mut *db)
            .await
            .map_err(&failed)?;
        let look: Look = sqlx::query_as(self.0.text(LOOK))
            .bind(&projection.name)
            .bind(version(projection))
            .fetch_one(&mut *db)
            .await
            .map_err(&failed)?;
        judge(projection, &wanted, look)?;
        let taken: Option<(i64, i64)> = sqlx::query_as(self.0.text(TAKE))
            .bind(&projection.name)
            .bind(version(projection))
            .bind(owner)
            .bind(millis(ttl))
            .fetch_optional(&mut *db)
            .await
            .map_err(&failed)?;
        let Some((epoch, position)) = taken else {
            let holder: Option<Uuid> = sqlx::query_scalar(self.0.text(HOLDER))
                .bind(&projection.name)
                .bind(version(projection))
                .fetch_one(&mut *db)
                .await
                .map_err(&failed)?;
            return Err(CheckpointError::Held {
                projection: projection.clone(),
                owner: holder.unwrap_or_default(),
            });
        };
        batch.commit().await?;
        Ok(Claim {
            projection: projection.clone(),
            owner,
            epoch,
            position: Position::new(u64::try_from(position).unwrap_or_default()),
        })
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        sqlx::query(self.0.text(RELEASE))
            .bind(&claim.projection.name)
            .bind(version(&claim.projection))
            .bind(claim.owner)
            .bind(claim.epoch)
            .execute(self.pool())
            .await
            .map(|_| ())
            .map_err(failed(&claim.projection, "release the lease"))
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
        ttl: Duration,
    ) -> Result<PgBatch, CheckpointError> {
        let mut batch = self.begin_for(&claim.projection, "begin a batch").await?;
        let moved = sqlx::query(self.0.text(MOVE))
            .bind(&claim.projection.name)
            .bind(version(&claim.projection))
            .bind(claim.owner)
            .bind(claim.epoch)
            .bind(parameter(claim.position))
            .bind(parameter(to.position))
            .bind(to.anchor.map(|(position, _)| parameter(position)))
            .bind(to.anchor.map(|(_, event_id)| event_id))
            .bind(millis(ttl))
            .execute(batch.connection())
            .await
            .map_err(failed(&claim.projection, "move the checkpoint"))?;
        if moved.rows_affected() != 1 {
            return Err(CheckpointError::Fenced {
                projection: claim.projection.clone(),
            });
        }
        Ok(batch)
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Checkpoint>, ReadError> {
        let found: Option<(i64, i64, Option<Uuid>)> = sqlx::query_as(self.0.text(CHECKPOINT))
            .bind(&projection.name)
            .bind(version(projection))
            .fetch_optional(self.pool())
            .await
            .map_err(|error| {
                read::failed(
                    &format!("the checkpoint of projection `{projection}`"),
                    error,
                )
            })?;
        found
            .map(|(position, epoch, owner)| {
                Ok(Checkpoint {
                    position: row::position(position)?,
                    epoch,
                    owner,
                })
            })
            .transpose()
    }
}

impl PgStore {
    async fn begin_for(
        &self,
        projection: &ProjectionId,
        action: &'static str,
    ) -> Result<PgBatch, CheckpointError> {
        let open = Open::begin(self.pool(), begin_guarded(&self.0.schema)).await;
        Ok(PgBatch {
            open: open.map_err(failed(projection, action))?,
            projection: projection.clone(),
        })
    }
}

fn version(projection: &ProjectionId) -> i32 {
    i32::try_from(projection.version).unwrap_or(i32::MAX)
}

/// Event types, position, anchor position, whether the anchor is in the log, end of the log, whether
/// it runs inside the appends.
type Look = (Vec<String>, i64, Option<i64>, bool, i64, bool);

/// Refuses a checkpoint that does not fit the projection or the log.
fn judge(projection: &ProjectionId, wanted: &[String], look: Look) -> Result<(), CheckpointError> {
    let (stored, position, anchor, anchored, end, inline) = look;
    let projection = projection.clone();
    if inline {
        return Err(CheckpointError::Inline { projection });
    }
    if stored != wanted {
        return Err(CheckpointError::OtherEventTypes {
            projection,
            stored: stored.join(", "),
            wanted: wanted.join(", "),
        });
    }
    if position > end || anchor.is_some_and(|anchor| anchor > end) {
        return Err(CheckpointError::AheadOfLog { projection });
    }
    if anchor.is_some() && !anchored {
        return Err(CheckpointError::Diverged { projection });
    }
    Ok(())
}

fn sorted(types: &[&str]) -> Vec<String> {
    let mut types: Vec<_> = types.iter().map(|name| (*name).to_owned()).collect();
    types.sort_unstable();
    types
}

/// A year at most, which is for ever here.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64().min(31_536_000.0) * 1_000.0
}

fn failed(
    projection: &ProjectionId,
    action: &'static str,
) -> impl Fn(sqlx::Error) -> CheckpointError + use<> {
    let projection = projection.clone();
    move |source| CheckpointError::Backend {
        projection: projection.clone(),
        action,
        transient: is_transient(&source),
        source: explain(source),
    }
}
