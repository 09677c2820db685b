//! Who is alive, and who runs what. A row of `projection_nodes` for each process, an owner in each shard.

use std::time::Duration;

use es_core::{
    CheckpointError, Claim, Fleet, Lifecycle, Node, Position, ProjectionId, ReadError, Shard,
    Standing,
};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{
    cells::Cells,
    count, failed,
    standing::{self, COLUMNS, SHARDS},
    unread, version,
};
use crate::postgres::{
    Inner,
    read::{self, alive},
};

/// One statement and a commit that does not wait for the disk. Those who sweep at the same time pass
/// each other by.
const BEAT: &str = "WITH quick AS MATERIALIZED (
      SELECT set_config('synchronous_commit', 'off', true)),
    swept AS (DELETE FROM {schema}.projection_nodes WHERE node IN (
      SELECT node FROM {schema}.projection_nodes
       WHERE node <> $1 AND alive_until < clock_timestamp() - interval '1 day'
         FOR UPDATE SKIP LOCKED))
    INSERT INTO {schema}.projection_nodes (node, name, runs, alive_until)
    SELECT $1, $2, $3::json, clock_timestamp() + $4 * interval '1 millisecond' FROM quick
    ON CONFLICT (node) DO UPDATE SET name = excluded.name, runs = excluded.runs,
           alive_until = excluded.alive_until";
const LIVING: &str = "SELECT node, name, runs::text AS runs,
        extract(epoch FROM alive_until - clock_timestamp())::float8 AS seconds
    FROM {schema}.projection_nodes WHERE alive_until > clock_timestamp() ORDER BY node";
const LEAVE: &str = "DELETE FROM {schema}.projection_nodes WHERE node = $1";

/// Only what was looked at: whatever else changes a row raises its epoch. A row that is locked is one
/// that somebody has.
const TAKE: &str = "WITH free AS MATERIALIZED (
      SELECT epoch FROM {schema}.projection_shards
       WHERE name = $1 AND version = $2 AND shard = $3 AND epoch = $5 FOR UPDATE SKIP LOCKED)
    UPDATE {schema}.projection_shards s
       SET owner = $4, epoch = s.epoch + 1, updated_at = clock_timestamp()
      FROM free
     WHERE s.name = $1 AND s.version = $2 AND s.shard = $3 AND s.epoch = free.epoch
       AND EXISTS (SELECT FROM {schema}.projection_nodes
                    WHERE node = $4 AND alive_until > clock_timestamp())
       AND (s.owner IS NULL OR s.owner = $4 OR NOT EXISTS (
             SELECT FROM {schema}.projection_nodes
              WHERE node = s.owner AND alive_until > clock_timestamp()))
    RETURNING s.shards, s.epoch, s.position, s.status, s.active,
              s.applied::text AS applied, s.silent::text AS silent";
const RELEASE: &str = "UPDATE {schema}.projection_shards SET owner = NULL
    WHERE name = $1 AND version = $2 AND shard = $3 AND owner = $4 AND epoch = $5";

pub(super) async fn beat(store: &Inner, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
    let failed = |error| read::failed("who is alive to run projections", error);
    let runs: Vec<_> = node.runs.iter().map(|id| (&id.name, id.version)).collect();
    let runs =
        serde_json::to_string(&runs).map_err(|error| failed(sqlx::Error::Encode(error.into())))?;
    // Twice is once, so a dead connection is no reason to fail.
    let announce = || {
        sqlx::query(store.text(BEAT))
            .bind(node.id)
            .bind(&node.name)
            .bind(&runs)
            .bind(millis(ttl))
            .execute(&store.events)
    };
    alive(announce).await.map_err(failed)?;
    let living = || sqlx::query(store.text(LIVING)).fetch_all(&store.events);
    let living = alive(living).await.map_err(failed)?;
    Ok(Fleet {
        nodes: living.iter().map(living_node).collect::<Result<_, _>>()?,
        standings: standing::read(store, None).await?,
    })
}

pub(super) async fn leave(store: &Inner, node: Uuid) -> Result<(), ReadError> {
    let leave = || {
        sqlx::query(store.text(LEAVE))
            .bind(node)
            .execute(&store.events)
    };
    alive(leave)
        .await
        .map(|_| ())
        .map_err(|error| read::failed("who is alive to run projections", error))
}

pub(super) async fn acquire(
    store: &Inner,
    shard: &Shard,
    event_types: &[&str],
    node: Uuid,
) -> Result<Claim, CheckpointError> {
    let mut seen = None;
    loop {
        let found = look(store, shard, node).await?;
        found.judge(event_types, node)?;
        if seen == Some(found.standing.epoch) {
            // It is as it was, and could not be taken: a transaction that is open has it.
            return Err(CheckpointError::Held {
                projection: shard.projection.clone(),
                owner: found.had.unwrap_or_default(),
            });
        }
        if let Some(claim) = take(store, shard, node, &found).await? {
            return Ok(claim);
        }
        seen = Some(found.standing.epoch);
    }
}

pub(super) async fn release(store: &Inner, claim: &Claim) -> Result<(), CheckpointError> {
    let Shard { projection, index } = &claim.shard;
    // The batch before may still be rolling back: these connections are patient.
    sqlx::query(store.text(RELEASE))
        .bind(&projection.name)
        .bind(version(projection))
        .bind(count(*index))
        .bind(claim.owner)
        .bind(claim.epoch)
        .execute(&store.models)
        .await
        .map(|_| ())
        .map_err(failed(projection, "release a shard"))
}

async fn look(store: &Inner, shard: &Shard, node: Uuid) -> Result<Look, CheckpointError> {
    let Shard { projection, index } = shard;
    let sql = Look::sql();
    let look = || {
        sqlx::query(store.text(&sql))
            .bind(&projection.name)
            .bind(version(projection))
            .bind(count(*index))
            .bind(node)
            .fetch_optional(&store.events)
    };
    let found = alive(look).await.map_err(failed(projection, ACQUIRE))?;
    let Some(row) = found else {
        return Err(CheckpointError::Unknown {
            shard: shard.clone(),
        });
    };
    Look::of(&row).map_err(unread(projection, ACQUIRE))
}

async fn take(
    store: &Inner,
    shard: &Shard,
    node: Uuid,
    found: &Look,
) -> Result<Option<Claim>, CheckpointError> {
    let Shard { projection, index } = shard;
    let text = match found.had {
        // Its own batch is on its way out.
        Some(owner) if owner == node => &TAKE.replace(" SKIP LOCKED", ""),
        _ => TAKE,
    };
    let taken = sqlx::query(store.text(text))
        .bind(&projection.name)
        .bind(version(projection))
        .bind(count(*index))
        .bind(node)
        .bind(found.standing.epoch)
        .fetch_optional(&store.events)
        .await
        .map_err(failed(projection, ACQUIRE))?;
    taken
        .map(|row| claim(&row, shard, node))
        .transpose()
        .map_err(unread(projection, ACQUIRE))
}

const ACQUIRE: &str = "take a shard";

fn claim(row: &PgRow, shard: &Shard, owner: Uuid) -> Result<Claim, ReadError> {
    let cells = Cells { row, what: SHARD };
    Ok(Claim {
        shard: shard.clone(),
        shards: cells.count("shards")?,
        owner,
        epoch: cells.get("epoch")?,
        position: cells.position("position")?,
        lifecycle: cells.parse("status", Lifecycle::parse)?,
        active: cells.get("active")?,
        applied: cells.marks("applied")?,
        silent: cells.marks("silent")?,
    })
}

const SHARD: &str = "a row of projection_shards";

/// What decides whether a shard may be taken.
struct Look {
    standing: Standing,
    /// Who had it last, be he alive or not.
    had: Option<Uuid>,
    anchored: bool,
    log_end: Position,
    /// Whether the node that asks is alive.
    alive: bool,
}

impl Look {
    fn sql() -> String {
        format!(
            "SELECT {COLUMNS}, s.owner AS had, e.position IS NOT NULL AS anchored,
                (SELECT coalesce(max(position), 0) FROM {{schema}}.events) AS log_end,
                EXISTS (SELECT FROM {{schema}}.projection_nodes
                         WHERE node = $4 AND alive_until > clock_timestamp()) AS alive
            FROM {SHARDS} LEFT JOIN {{schema}}.events e
              ON e.position = s.anchor_position AND e.event_id = s.anchor_event_id
            WHERE s.name = $1 AND s.version = $2 AND s.shard = $3"
        )
    }

    fn of(row: &PgRow) -> Result<Self, ReadError> {
        let cells = Cells { row, what: SHARD };
        Ok(Self {
            standing: standing::standing(row)?,
            had: cells.get("had")?,
            anchored: cells.get("anchored")?,
            log_end: cells.position("log_end")?,
            alive: cells.get("alive")?,
        })
    }

    fn judge(&self, event_types: &[&str], node: Uuid) -> Result<(), CheckpointError> {
        let Self { standing, .. } = self;
        let projection = || standing.shard.projection.clone();
        standing.check_lifecycle()?;
        if !self.alive {
            return Err(CheckpointError::NotAlive {
                projection: projection(),
                node,
            });
        }
        if let Some(owner) = standing.owner.filter(|owner| *owner != node) {
            return Err(CheckpointError::Held {
                projection: projection(),
                owner,
            });
        }
        standing.check_fit(event_types, self.log_end, self.anchored)
    }
}

fn living_node(row: &PgRow) -> Result<(Node, Duration), ReadError> {
    let what = "a row of projection_nodes";
    let cells = Cells { row, what };
    let runs: Vec<(String, u32)> = cells.parse("runs", |text| serde_json::from_str(text).ok())?;
    let runs = runs
        .into_iter()
        .map(|(name, version)| ProjectionId::new(name, version));
    let node = Node {
        id: cells.get("node")?,
        name: cells.get("name")?,
        runs: runs.collect(),
    };
    let seconds: f64 = cells.get("seconds")?;
    let left = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    Ok((node, left))
}

/// A year at most, which is for ever here.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64().min(31_536_000.0) * 1_000.0
}
