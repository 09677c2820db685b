//! Where projections stand. A checkpoint moves in `begin_batch` and nowhere else.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use es_core::{
    Batch, Checkpoint, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore,
    ReadError,
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    SqliteStore, read,
    row::{self, parameter},
    transaction::Open,
};
use crate::error::is_transient;

/// The database's clock in milliseconds.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

const CREATE: &str = "INSERT INTO projection_shards (name, version, event_types)
    VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const LOOK: &str = "SELECT s.event_types, s.position, s.anchor_position, e.position IS NOT NULL,
    h.last_position, s.status
    FROM projection_shards s CROSS JOIN log_head h
    LEFT JOIN events e ON e.position = s.anchor_position AND e.event_id = s.anchor_event_id
    WHERE s.name = ?1 AND s.version = ?2";
const TAKE: &str = concat!(
    "UPDATE projection_shards SET owner = ?3, lease_until = ",
    now!(),
    " + ?4,
     epoch = CASE WHEN owner = ?3 AND lease_until > ",
    now!(),
    " THEN epoch ELSE epoch + 1 END
     WHERE name = ?1 AND version = ?2 AND (owner IS NULL OR owner = ?3 OR lease_until <= ",
    now!(),
    ")
     RETURNING epoch, position"
);
const HOLDER: &str = "SELECT owner FROM projection_shards WHERE name = ?1 AND version = ?2";
const RELEASE: &str = "UPDATE projection_shards SET owner = NULL, lease_until = 0
    WHERE name = ?1 AND version = ?2 AND owner = ?3 AND epoch = ?4";
const MOVE: &str = concat!(
    "UPDATE projection_shards SET position = ?6,
     anchor_position = coalesce(?7, anchor_position), anchor_event_id = coalesce(?8, anchor_event_id),
     lease_until = ", now!(), " + ?9, updated_at = ", now!(), "
     WHERE name = ?1 AND version = ?2 AND owner = ?3 AND epoch = ?4 AND position = ?5"
);
const CHECKPOINT: &str = concat!(
    "SELECT CASE status WHEN 'inline' THEN (SELECT last_position FROM log_head) ELSE position END,
     epoch, CASE WHEN lease_until > ",
    now!(),
    " THEN owner END
     FROM projection_shards WHERE name = ?1 AND version = ?2"
);

/// A write transaction on a [`SqliteStore`]. It holds the write lock: nobody else appends until it
/// ends, so a projection must not append through the store from inside. Dropping it rolls back.
///
/// Statements that end the transaction themselves (`COMMIT`, `ON CONFLICT ROLLBACK`) must not be used:
/// what follows them would be kept without the checkpoint, and the batch cannot be committed any more.
///
/// Where the database is in memory there is only one connection, so that reading through the store
/// has to wait as well.
pub struct SqliteBatch {
    open: Open,
    projection: ProjectionId,
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

    async fn commit(self) -> Result<(), CheckpointError> {
        let committed = self.open.commit().await;
        committed.map_err(failed(&self.projection, "commit a batch"))
    }

    /// Cannot fail: a transaction that SQLite has already ended is rolled back too.
    async fn rollback(self) -> Result<(), CheckpointError> {
        drop(self);
        Ok(())
    }
}

#[async_trait]
impl ProjectionStore for SqliteStore {
    type Connection = SqliteConnection;
    type Batch = SqliteBatch;

    async fn begin_set_up(
        &self,
        projection: &ProjectionId,
    ) -> Result<SqliteBatch, CheckpointError> {
        self.begin_for(projection, "set up the read model").await
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
        sqlx::query(CREATE)
            .bind(&projection.name)
            .bind(projection.version)
            .bind(&wanted)
            .execute(&mut *db)
            .await
            .map_err(&failed)?;
        let look: Look = sqlx::query_as(LOOK)
            .bind(&projection.name)
            .bind(projection.version)
            .fetch_one(&mut *db)
            .await
            .map_err(&failed)?;
        judge(projection, &wanted, look)?;
        let taken: Option<(i64, i64)> = sqlx::query_as(TAKE)
            .bind(&projection.name)
            .bind(projection.version)
            .bind(owner)
            .bind(millis(ttl))
            .fetch_optional(&mut *db)
            .await
            .map_err(&failed)?;
        let Some((epoch, position)) = taken else {
            let holder: Option<Uuid> = sqlx::query_scalar(HOLDER)
                .bind(&projection.name)
                .bind(projection.version)
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
        sqlx::query(RELEASE)
            .bind(&claim.projection.name)
            .bind(claim.projection.version)
            .bind(claim.owner)
            .bind(claim.epoch)
            .execute(&*self.0.writer.pool())
            .await
            .map(|_| ())
            .map_err(failed(&claim.projection, "release the lease"))
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
        ttl: Duration,
    ) -> Result<SqliteBatch, CheckpointError> {
        let mut batch = self.begin_for(&claim.projection, "begin a batch").await?;
        let moved = sqlx::query(MOVE)
            .bind(&claim.projection.name)
            .bind(claim.projection.version)
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
        let found: Option<(i64, i64, Option<Uuid>)> = sqlx::query_as(CHECKPOINT)
            .bind(&projection.name)
            .bind(projection.version)
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

impl SqliteStore {
    async fn begin_for(
        &self,
        projection: &ProjectionId,
        action: &'static str,
    ) -> Result<SqliteBatch, CheckpointError> {
        let open = Open::begin(&self.0.writer).await;
        Ok(SqliteBatch {
            open: open.map_err(failed(projection, action))?,
            projection: projection.clone(),
        })
    }
}

/// Event types, position, anchor position, whether the anchor is in the log, end of the log, status.
type Look = (String, i64, Option<i64>, bool, i64, String);

/// Refuses a checkpoint that does not fit the projection or the log.
fn judge(projection: &ProjectionId, wanted: &str, look: Look) -> Result<(), CheckpointError> {
    let (stored, position, anchor, anchored, end, status) = look;
    let projection = projection.clone();
    if status == "inline" {
        return Err(CheckpointError::Inline { projection });
    }
    if stored != wanted {
        return Err(CheckpointError::OtherEventTypes {
            projection,
            stored: shown(&stored),
            wanted: shown(wanted),
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

/// As they are stored: a JSON array in order, since a name may hold any separator.
pub(super) fn sorted(types: &[&str]) -> String {
    let mut types = types.to_vec();
    types.sort_unstable();
    serde_json::json!(types).to_string()
}

fn shown(stored: &str) -> String {
    match serde_json::from_str::<Vec<String>>(stored) {
        Ok(types) => types.join(", "),
        Err(_) => stored.to_owned(),
    }
}

/// At most half of what SQLite's integers hold, so that it can be added to the time.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX)
        .min(i64::MAX / 2)
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
        source: source.into(),
    }
}
