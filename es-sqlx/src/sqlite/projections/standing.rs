//! The rows of the shards.

use std::collections::HashSet;

use es_core::{Lifecycle, Marks, ProjectionId, ReadError, Shard, Standing};
use sqlx::{SqliteConnection, sqlite::SqliteRow, types::Json};

use crate::sqlite::{
    read,
    row::{self, Cells, now, parameter},
};

const LIST: &str = concat!(
    "SELECT s.name, s.version, s.shard, s.shards, s.event_types, s.repeatable,
     CASE s.status WHEN 'inline' THEN h.last_position ELSE s.position END AS position,
     s.anchor_position, s.anchor_event_id, s.epoch, CASE WHEN ?2 OR n.alive_until > ",
    now!(),
    " THEN s.owner END AS owner, s.status, s.resume_to,
     s.active, s.promote, s.applied, s.silent, s.failure
     FROM projection_shards AS s CROSS JOIN log_head AS h
     LEFT JOIN projection_nodes AS n ON n.node = s.owner
     WHERE ?1 IS NULL OR s.name = ?1
     ORDER BY s.name, s.version, s.shard"
);
/// What was removed and comes back must not have an epoch for the second time.
const PUT: &str = concat!(
    "INSERT INTO projection_shards (name, version, shard, shards, event_types, repeatable, position,
     anchor_position, anchor_event_id, epoch, status, resume_to, active, promote, applied, silent,
     failure, updated_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 + 1, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ",
    now!(),
    ") ON CONFLICT (name, version, shard) DO UPDATE SET shards = excluded.shards,
     event_types = excluded.event_types, repeatable = excluded.repeatable,
     position = excluded.position, anchor_position = excluded.anchor_position,
     anchor_event_id = excluded.anchor_event_id, epoch = max(epoch + 1, excluded.epoch),
     owner = NULL, status = excluded.status, resume_to = excluded.resume_to,
     active = excluded.active, promote = excluded.promote, applied = excluded.applied,
     silent = excluded.silent, failure = excluded.failure, updated_at = excluded.updated_at"
);
const REMOVE: &str =
    "DELETE FROM projection_shards WHERE name = ?1 AND version = ?2 AND shard = ?3";
const REMOVE_LETTERS: &str = "DELETE FROM projection_dead_letters WHERE name = ?1 AND version = ?2
    AND NOT EXISTS (SELECT 1 FROM projection_shards WHERE name = ?1 AND version = ?2)";

/// Whose shards are whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// What a node that is dead owns, nobody owns.
    Alive,
    /// What a node that is dead owns is still told.
    DeadOrAlive,
}

/// All of them or those of one name, in order.
pub(super) async fn list(
    db: &mut SqliteConnection,
    name: Option<&str>,
    owner: Owner,
) -> Result<Vec<Standing>, ReadError> {
    let rows = sqlx::query(LIST)
        .bind(name)
        .bind(owner == Owner::DeadOrAlive)
        .fetch_all(db)
        .await
        .map_err(|error| read::failed("where projections stand", error))?;
    rows.iter().map(standing).collect()
}

pub(super) async fn put(
    db: &mut SqliteConnection,
    standings: &[Standing],
) -> Result<(), sqlx::Error> {
    for standing in standings {
        let projection = &standing.shard.projection;
        let (anchor, anchor_id) = standing.anchor.unzip();
        sqlx::query(PUT)
            .bind(&projection.name)
            .bind(projection.version)
            .bind(standing.shard.index)
            .bind(standing.shards)
            .bind(Json(&standing.event_types))
            .bind(standing.repeatable)
            .bind(parameter(standing.position))
            .bind(anchor.map(parameter))
            .bind(anchor_id)
            .bind(standing.epoch)
            .bind(standing.lifecycle.as_str())
            .bind(standing.before.as_str())
            .bind(standing.active)
            .bind(standing.promote)
            .bind(marks(&standing.applied))
            .bind(marks(&standing.silent))
            .bind(standing.failure.as_ref().map(Json))
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

pub(super) async fn remove(db: &mut SqliteConnection, shards: &[Shard]) -> Result<(), sqlx::Error> {
    for Shard { projection, index } in shards {
        sqlx::query(REMOVE)
            .bind(&projection.name)
            .bind(projection.version)
            .bind(index)
            .execute(&mut *db)
            .await?;
    }
    let projections: HashSet<_> = shards.iter().map(|shard| &shard.projection).collect();
    for projection in projections {
        sqlx::query(REMOVE_LETTERS)
            .bind(&projection.name)
            .bind(projection.version)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

fn standing(row: &SqliteRow) -> Result<Standing, ReadError> {
    let what = "a row of projection_shards";
    let name: String = Cells { row, what }.get("name")?;
    let cells = Cells {
        row,
        what: format_args!("where projection `{name}` stands"),
    };
    let marks = |column| {
        let marks: Option<Json<Marks>> = cells.get(column)?;
        Ok(marks.map(|Json(marks)| marks).unwrap_or_default())
    };
    let anchor: Option<i64> = cells.get("anchor_position")?;
    let anchor = anchor.map(row::position).transpose()?;
    let Json(event_types) = cells.get("event_types")?;
    let failure: Option<Json<_>> = cells.get("failure")?;
    let projection = ProjectionId {
        version: cells.get("version")?,
        name: name.clone(),
    };
    Ok(Standing {
        shard: Shard::new(projection, cells.get("shard")?),
        shards: cells.get("shards")?,
        event_types,
        repeatable: cells.get("repeatable")?,
        position: row::position(cells.get("position")?)?,
        anchor: anchor.zip(cells.get("anchor_event_id")?),
        epoch: cells.get("epoch")?,
        owner: cells.get("owner")?,
        lifecycle: cells.named("status", Lifecycle::parse)?,
        before: cells.named("resume_to", Lifecycle::parse)?,
        active: cells.get("active")?,
        promote: cells.get("promote")?,
        applied: marks("applied")?,
        silent: marks("silent")?,
        failure: failure.map(|Json(failure)| failure),
    })
}

/// There mostly are none.
fn marks(marks: &Marks) -> Option<Json<&Marks>> {
    (*marks != Marks::default()).then_some(Json(marks))
}
