//! Rows of `projection_shards`.

use es_core::{
    CheckpointError, Lifecycle, Marks, Position, ProjectionId, ReadError, Shard, Standing,
};
use sqlx::{PgConnection, postgres::PgRow};

use super::{cells::Cells, count, failed, unread, version};
use crate::postgres::{
    Inner,
    read::{self, alive},
    row::parameter,
};

/// An owner counts while its node is alive.
pub(super) const COLUMNS: &str =
    "s.name, s.version, s.shard, s.shards, s.event_types, s.repeatable,
        s.position, s.anchor_position, s.anchor_event_id, s.epoch,
        CASE WHEN n.alive_until > clock_timestamp() THEN s.owner END AS owner,
        s.status, s.resume_to, s.active, s.promote,
        s.applied::text AS applied, s.silent::text AS silent, s.failure::text AS failure";
pub(super) const SHARDS: &str =
    "{schema}.projection_shards s LEFT JOIN {schema}.projection_nodes n ON n.node = s.owner";
const PUT: &str = "INSERT INTO {schema}.projection_shards AS s
           (name, version, shard, shards, event_types, repeatable, position, anchor_position,
            anchor_event_id, epoch, status, resume_to, active, promote, applied, silent, failure,
            updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::json, $16::json,
            $17::json, clock_timestamp())
    ON CONFLICT (name, version, shard) DO UPDATE SET shards = excluded.shards,
           event_types = excluded.event_types, repeatable = excluded.repeatable,
           position = excluded.position, anchor_position = excluded.anchor_position,
           anchor_event_id = excluded.anchor_event_id,
           epoch = greatest(s.epoch + 1, excluded.epoch), owner = NULL,
           status = excluded.status, resume_to = excluded.resume_to, active = excluded.active,
           promote = excluded.promote, applied = excluded.applied, silent = excluded.silent,
           failure = excluded.failure, updated_at = excluded.updated_at";
const REMOVE: &str =
    "DELETE FROM {schema}.projection_shards WHERE name = $1 AND version = $2 AND shard = $3";
const REMOVE_LETTERS: &str = "DELETE FROM {schema}.projection_dead_letters
    WHERE name = $1 AND version = $2 AND NOT EXISTS (
      SELECT FROM {schema}.projection_shards WHERE name = $1 AND version = $2)";

pub(super) async fn read(store: &Inner, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
    let sql = format!("SELECT {COLUMNS} FROM {SHARDS} WHERE $1::text IS NULL OR s.name = $1");
    let rows = alive(|| {
        sqlx::query(store.text(&sql))
            .bind(name)
            .fetch_all(&store.events)
    });
    let rows = rows
        .await
        .map_err(|error| read::failed("where projections stand", error))?;
    let mut standings = in_order(&rows)?;
    if standings.iter().any(is_inline) {
        place_inline(&mut standings, store.settle().await?);
    }
    Ok(standings)
}

/// Waits for batches that are open, and lets no other begin.
pub(super) async fn lock(
    store: &Inner,
    connection: &mut PgConnection,
    projection: &ProjectionId,
    settled: Position,
) -> Result<Vec<Standing>, CheckpointError> {
    let action = "lock the checkpoints";
    let sql = format!(
        "SELECT {COLUMNS} FROM {SHARDS} WHERE s.name = $1 ORDER BY s.version, s.shard FOR UPDATE OF s"
    );
    let rows = sqlx::query(store.text(&sql))
        .bind(&projection.name)
        .fetch_all(connection)
        .await
        .map_err(failed(projection, action))?;
    let mut standings = in_order(&rows).map_err(unread(projection, action))?;
    place_inline(&mut standings, settled);
    Ok(standings)
}

pub(super) async fn put(
    store: &Inner,
    connection: &mut PgConnection,
    standing: &Standing,
) -> Result<(), sqlx::Error> {
    let Shard { projection, index } = &standing.shard;
    let failure = standing.failure.as_ref();
    let failure = failure.map(|failure| encoded(serde_json::to_string(failure)));
    sqlx::query(store.text(PUT))
        .bind(&projection.name)
        .bind(version(projection))
        .bind(count(*index))
        .bind(count(standing.shards))
        .bind(&standing.event_types)
        .bind(standing.repeatable)
        .bind(parameter(standing.position))
        .bind(standing.anchor.map(|(position, _)| parameter(position)))
        .bind(standing.anchor.map(|(_, event_id)| event_id))
        .bind(standing.epoch.saturating_add(1))
        .bind(standing.lifecycle.as_str())
        .bind(standing.before.as_str())
        .bind(standing.active)
        .bind(standing.promote)
        .bind(marks(&standing.applied)?)
        .bind(marks(&standing.silent)?)
        .bind(failure.transpose()?)
        .execute(connection)
        .await
        .map(|_| ())
}

/// With the last one of a projection go its dead letters.
pub(super) async fn remove(
    store: &Inner,
    connection: &mut PgConnection,
    shard: &Shard,
) -> Result<(), sqlx::Error> {
    sqlx::query(store.text(REMOVE))
        .bind(&shard.projection.name)
        .bind(version(&shard.projection))
        .bind(count(shard.index))
        .execute(&mut *connection)
        .await?;
    sqlx::query(store.text(REMOVE_LETTERS))
        .bind(&shard.projection.name)
        .bind(version(&shard.projection))
        .execute(connection)
        .await
        .map(|_| ())
}

/// What runs inside the appends stands where readers are.
fn place_inline(standings: &mut [Standing], settled: Position) {
    for standing in standings.iter_mut().filter(|standing| is_inline(standing)) {
        standing.position = settled;
    }
}

fn is_inline(standing: &Standing) -> bool {
    standing.lifecycle == Lifecycle::Inline
}

/// The database may sort names by a language.
fn in_order(rows: &[PgRow]) -> Result<Vec<Standing>, ReadError> {
    let mut standings: Vec<_> = rows.iter().map(standing).collect::<Result<_, _>>()?;
    standings.sort_by(|one, other| one.shard.cmp(&other.shard));
    Ok(standings)
}

pub(super) fn standing(row: &PgRow) -> Result<Standing, ReadError> {
    let what = "a row of projection_shards";
    let cells = Cells { row, what };
    let anchor = match cells.get::<Option<i64>>("anchor_position")? {
        None => None,
        Some(_) => Some((
            cells.position("anchor_position")?,
            cells.get("anchor_event_id")?,
        )),
    };
    let projection = ProjectionId::new(cells.get::<String>("name")?, cells.count("version")?);
    Ok(Standing {
        shard: Shard::new(projection, cells.count("shard")?),
        shards: cells.count("shards")?,
        event_types: cells.get("event_types")?,
        repeatable: cells.get("repeatable")?,
        position: cells.position("position")?,
        anchor,
        epoch: cells.get("epoch")?,
        owner: cells.get("owner")?,
        lifecycle: cells.parse("status", Lifecycle::parse)?,
        before: cells.parse("resume_to", Lifecycle::parse)?,
        active: cells.get("active")?,
        promote: cells.get("promote")?,
        applied: cells.marks("applied")?,
        silent: cells.marks("silent")?,
        failure: cells.parse_some("failure", |text| serde_json::from_str(text).ok())?,
    })
}

/// No marks are stored as NULL.
fn marks(marks: &Marks) -> Result<Option<String>, sqlx::Error> {
    if *marks == Marks::default() {
        return Ok(None);
    }
    encoded(serde_json::to_string(marks)).map(Some)
}

fn encoded(json: serde_json::Result<String>) -> Result<String, sqlx::Error> {
    json.map_err(|error| sqlx::Error::Encode(error.into()))
}
