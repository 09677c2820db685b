//! Who is alive, and who runs what.

use std::time::{Duration, Instant};

use es_core::{CheckpointError, Claim, Fleet, Node, ProjectionId, ReadError, Shard};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteRow, types::Json};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    failed,
    standing::{self, Owner},
    unreadable,
    waiting::Committed,
};
use crate::{
    error::is_transient,
    sqlite::{
        SqliteStore, read,
        row::{self, Cells, now, parameter},
        transaction::Open,
    },
};

/// How long news of nodes wait for the write lock.
const PATIENCE: Duration = Duration::from_millis(200);

/// A day after their death.
const BURY: &str = concat!(
    "DELETE FROM projection_nodes WHERE alive_until < ",
    now!(),
    " - 86400000"
);
const ALIVE: &str = concat!(
    "SELECT node, name, runs, alive_until - ",
    now!(),
    " AS rest FROM projection_nodes WHERE rest > 0 ORDER BY node"
);
const FACTS: &str = concat!(
    "SELECT (SELECT last_position FROM log_head),
     EXISTS (SELECT 1 FROM events WHERE position = ?1 AND event_id = ?2),
     EXISTS (SELECT 1 FROM projection_nodes WHERE node = ?3 AND alive_until > ",
    now!(),
    ")"
);
const TAKE: &str = "UPDATE projection_shards SET owner = ?4, epoch = epoch + 1
    WHERE name = ?1 AND version = ?2 AND shard = ?3 RETURNING epoch";
const OWNER: &str = "SELECT owner FROM projection_shards
    WHERE name = ?1 AND version = ?2 AND shard = ?3";
const RELEASE: &str = "UPDATE projection_shards SET owner = NULL
    WHERE name = ?1 AND version = ?2 AND shard = ?3 AND owner = ?4 AND epoch = ?5";

pub(super) async fn beat(
    store: &SqliteStore,
    node: &Node,
    ttl: Duration,
) -> Result<Fleet, ReadError> {
    let leases = &store.0.writer.leases;
    leases.announce(node, ttl);
    if let Some(committed) = write_news(store).await? {
        return Ok(committed.into_fleet());
    }
    // Somebody has the write lock and keeps it.
    let committed = match leases.committed() {
        Some(committed) => committed,
        None => {
            let mut reader = store.reader().await?;
            let mut snapshot = reader.begin().await.map_err(unknown_who)?;
            committed(&mut snapshot).await?
        }
    };
    Ok(leases.bring_up_to_date(committed))
}

pub(super) async fn leave(store: &SqliteStore, node: Uuid) -> Result<(), ReadError> {
    store.0.writer.leases.say_farewell(node);
    write_news(store).await.map(drop)
}

/// None if they still wait.
async fn write_news(store: &SqliteStore) -> Result<Option<Committed>, ReadError> {
    let write = async {
        let mut open = Open::begin(&store.0.writer).await.map_err(unknown_who)?;
        open.announce().await.map_err(unknown_who)?;
        let buried = sqlx::query(BURY).execute(open.connection()).await;
        buried.map_err(unknown_who)?;
        let committed = committed(open.connection()).await?;
        open.commit().await.map_err(unknown_who)?;
        Ok(committed)
    };
    match timeout(PATIENCE, write).await {
        Ok(Ok(committed)) => Ok(Some(committed)),
        Ok(Err(error)) if !ReadError::is_retryable(&error) => Err(error),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

pub(super) async fn committed(db: &mut SqliteConnection) -> Result<Committed, ReadError> {
    let nodes = sqlx::query(ALIVE).fetch_all(&mut *db).await;
    let nodes = nodes.map_err(unknown_who)?;
    Ok(Committed {
        nodes: nodes.iter().map(living).collect::<Result<_, _>>()?,
        standings: standing::list(db, None, Owner::DeadOrAlive).await?,
        read: Instant::now(),
    })
}

fn living(row: &SqliteRow) -> Result<(Node, Duration), ReadError> {
    let what = "a row of projection_nodes";
    let cells = Cells { row, what };
    let Json(runs) = cells.get::<Json<Vec<(String, u32)>>>("runs")?;
    let runs = runs.into_iter();
    let node = Node {
        id: cells.get("node")?,
        name: cells.get("name")?,
        runs: runs
            .map(|(name, version)| ProjectionId { name, version })
            .collect(),
    };
    let rest: i64 = cells.get("rest")?;
    let rest = Duration::from_millis(u64::try_from(rest).unwrap_or_default());
    Ok((node, rest))
}

pub(super) async fn acquire(
    store: &SqliteStore,
    shard: &Shard,
    event_types: &[&str],
    node: Uuid,
) -> Result<Claim, CheckpointError> {
    let projection = &shard.projection;
    let action = "take the lease";
    let held = |owner| CheckpointError::Held {
        projection: projection.clone(),
        owner,
    };
    let leases = &store.0.writer.leases;
    if let Some(owner) = leases.holder(shard).filter(|owner| *owner != node) {
        return Err(held(owner));
    }
    let failed = failed(projection, action);
    let mut open = match Open::begin(&store.0.writer).await {
        Ok(open) => open,
        Err(error) => {
            // Perhaps it is a batch of that shard that has the write lock for so long.
            let owner = owner(store, shard).await.ok().flatten();
            return Err(match owner.filter(|owner| *owner != node) {
                Some(owner) if is_transient(&error) => held(owner),
                _ => failed(error),
            });
        }
    };
    // The node may be one whose announcement waits.
    open.announce().await.map_err(&failed)?;
    let db = open.connection();
    let found = standing::list(db, Some(&projection.name), Owner::Alive).await;
    let found = found.map_err(unreadable(projection, action))?;
    let Some(found) = found.into_iter().find(|found| found.shard == *shard) else {
        return Err(CheckpointError::Unknown {
            shard: shard.clone(),
        });
    };
    if let Some(owner) = found.owner.filter(|owner| *owner != node) {
        return Err(held(owner));
    }
    let (end, anchored, is_alive): (i64, bool, bool) = sqlx::query_as(FACTS)
        .bind(found.anchor.map(|(position, _)| parameter(position)))
        .bind(found.anchor.map(|(_, event_id)| event_id))
        .bind(node)
        .fetch_one(&mut *db)
        .await
        .map_err(&failed)?;
    found.check_lifecycle()?;
    if !is_alive {
        let projection = projection.clone();
        return Err(CheckpointError::NotAlive { projection, node });
    }
    found.check_fit(
        event_types,
        row::position(end).map_err(unreadable(projection, action))?,
        anchored,
    )?;
    let epoch: i64 = sqlx::query_scalar(TAKE)
        .bind(&projection.name)
        .bind(projection.version)
        .bind(shard.index)
        .bind(node)
        .fetch_one(db)
        .await
        .map_err(&failed)?;
    open.commit().await.map_err(&failed)?;
    Ok(Claim {
        shard: found.shard,
        shards: found.shards,
        owner: node,
        epoch,
        position: found.position,
        lifecycle: found.lifecycle,
        active: found.active,
        applied: found.applied,
        silent: found.silent,
    })
}

/// Who had the shard last, be he alive or not.
async fn owner(store: &SqliteStore, shard: &Shard) -> Result<Option<Uuid>, sqlx::Error> {
    let owner = sqlx::query_scalar(OWNER)
        .bind(&shard.projection.name)
        .bind(shard.projection.version)
        .bind(shard.index)
        .fetch_optional(store.pool())
        .await;
    owner.map(Option::flatten)
}

pub(super) async fn release(store: &SqliteStore, claim: &Claim) -> Result<(), CheckpointError> {
    let projection = &claim.shard.projection;
    let released = sqlx::query(RELEASE)
        .bind(&projection.name)
        .bind(projection.version)
        .bind(claim.shard.index)
        .bind(claim.owner)
        .bind(claim.epoch)
        .execute(&*store.0.writer.pool())
        .await;
    released
        .map(drop)
        .map_err(failed(projection, "release the lease"))
}

fn unknown_who(error: sqlx::Error) -> ReadError {
    read::failed("who is alive", error)
}
