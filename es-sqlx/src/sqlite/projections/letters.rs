//! The dead letters.

use es_core::{
    DeadLetter, LetterState, Letters, Name, Parked, ProjectionId, ReadError, StreamId, Version,
};
use serde_json::json;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow, types::Json};
use uuid::Uuid;

use crate::sqlite::{
    read,
    row::{self, Cells, now, parameter},
};

/// Any number of letters in one array. `WHERE true` tells the parser that no `JOIN … ON` is to come.
const PUT: &str = concat!(
    "INSERT INTO projection_dead_letters (name, version, event_id, position, aggregate_type,
     aggregate_id, event_type, event_version, state, failure, attempts, retry, owed, since, tried)
     SELECT value ->> 'name', value ->> 'version', unhex(value ->> 'event_id'), value ->> 'position',
     value ->> 'aggregate_type', unhex(value ->> 'aggregate_id'), value ->> 'event_type',
     value ->> 'event_version', value ->> 'state', value ->> 'failure', value ->> 'attempts',
     value ->> 'retry', value ->> 'owed', ",
    now!(),
    ", ",
    now!(),
    " FROM json_each(?1) WHERE true
     ON CONFLICT (name, version, event_id) DO UPDATE SET state = excluded.state,
     failure = excluded.failure, attempts = excluded.attempts, retry = excluded.retry,
     owed = excluded.owed, tried = excluded.tried"
);
const RETRY: &str = "UPDATE projection_dead_letters SET retry = true
    WHERE name = ?1 AND version = ?2 AND state = ?3 AND aggregate_id = coalesce(?4, aggregate_id)";
const REMOVE: &str = "DELETE FROM projection_dead_letters WHERE name = ?1 AND version = ?2
    AND (?3 IS NULL OR event_id IN (SELECT unhex(value) FROM json_each(?3)))";
const PARKED: &str = "SELECT aggregate_id, max(retry) FROM projection_dead_letters
    WHERE name = ?1 AND version = ?2 AND state = ?3
    GROUP BY aggregate_id ORDER BY aggregate_id LIMIT ?4";

pub(super) async fn put(
    db: &mut SqliteConnection,
    letters: &[DeadLetter],
) -> Result<(), sqlx::Error> {
    if letters.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = letters.iter().map(as_json).collect();
    let put = sqlx::query(PUT).bind(Json(rows)).execute(db).await;
    put.map(drop)
}

fn as_json(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "name": letter.projection.name,
        "version": letter.projection.version,
        "event_id": letter.event_id.simple().to_string(),
        "position": parameter(letter.position),
        "aggregate_type": letter.stream.aggregate_type.as_str(),
        "aggregate_id": letter.stream.aggregate_id.simple().to_string(),
        "event_type": letter.event_type.as_str(),
        "event_version": letter.event_version.get(),
        "state": letter.state.as_str(),
        "failure": letter.failure,
        "attempts": letter.attempts,
        "retry": letter.retry,
        "owed": letter.owed,
    })
}

pub(super) async fn retry(
    db: &mut SqliteConnection,
    projection: &ProjectionId,
    aggregate_id: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    let asked = sqlx::query(RETRY)
        .bind(&projection.name)
        .bind(projection.version)
        .bind(LetterState::Parked.as_str())
        .bind(aggregate_id)
        .execute(db)
        .await?;
    Ok(asked.rows_affected())
}

pub(super) async fn remove(
    db: &mut SqliteConnection,
    projection: &ProjectionId,
    event_ids: Option<&[Uuid]>,
) -> Result<u64, sqlx::Error> {
    let hex = |id: &Uuid| id.simple().to_string();
    let event_ids = event_ids.map(|ids| Json(ids.iter().map(hex).collect::<Vec<_>>()));
    let removed = sqlx::query(REMOVE)
        .bind(&projection.name)
        .bind(projection.version)
        .bind(event_ids)
        .execute(db)
        .await?;
    Ok(removed.rows_affected())
}

/// The letters of one event share its position: they come in one page, or the next would miss some.
pub(super) async fn list(
    db: &mut SqliteConnection,
    letters: &Letters,
    limit: u32,
) -> Result<Vec<DeadLetter>, ReadError> {
    let Some(others) = limit.checked_sub(1) else {
        return Ok(Vec::new());
    };
    let mut query = QueryBuilder::new("SELECT * FROM projection_dead_letters WHERE ");
    write_filter(&mut query, letters);
    query.push(" AND position <= coalesce((SELECT position FROM projection_dead_letters WHERE ");
    write_filter(&mut query, letters);
    query.push(" ORDER BY position LIMIT 1 OFFSET ");
    query.push_bind(others);
    query.push("), 9223372036854775807) ORDER BY position, name, version");
    let rows = query
        .build()
        .fetch_all(db)
        .await
        .map_err(|error| read::failed("the dead letters", error))?;
    rows.iter().map(letter).collect()
}

fn write_filter(query: &mut QueryBuilder<Sqlite>, letters: &Letters) {
    query.push("position > ");
    query.push_bind(parameter(letters.after));
    if let Some(projection) = &letters.projection {
        query.push(" AND name = ");
        query.push_bind(projection.name.clone());
        query.push(" AND version = ");
        query.push_bind(projection.version);
    }
    if let Some(aggregate_id) = letters.aggregate_id {
        query.push(" AND aggregate_id = ");
        query.push_bind(aggregate_id);
    }
    if let Some(state) = letters.state {
        query.push(" AND state = ");
        query.push_bind(state.as_str());
    }
}

pub(super) async fn parked(
    db: &mut SqliteConnection,
    projection: &ProjectionId,
    limit: u32,
) -> Result<Vec<Parked>, ReadError> {
    let failed = |error| {
        let what = format!("the parked aggregates of projection `{projection}`");
        read::failed(&what, error)
    };
    let rows = sqlx::query(PARKED)
        .bind(&projection.name)
        .bind(projection.version)
        .bind(LetterState::Parked.as_str())
        .bind(limit)
        .fetch_all(db)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Parked {
                aggregate_id: row.try_get(0).map_err(failed)?,
                retry: row.try_get(1).map_err(failed)?,
            })
        })
        .collect()
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, ReadError> {
    let what = "a dead letter";
    let position = row::position(Cells { row, what }.get("position")?)?;
    let cells = Cells {
        row,
        what: format_args!("a dead letter at position {position}"),
    };
    let name = |column| cells.get::<String>(column).map(Name::from);
    let Json(failure) = cells.get("failure")?;
    Ok(DeadLetter {
        projection: ProjectionId {
            name: cells.get("name")?,
            version: cells.get("version")?,
        },
        event_id: cells.get("event_id")?,
        position,
        stream: StreamId::new(name("aggregate_type")?, cells.get("aggregate_id")?),
        event_version: Version::new(cells.get("event_version")?),
        event_type: name("event_type")?,
        state: cells.named("state", LetterState::parse)?,
        failure,
        attempts: cells.get("attempts")?,
        retry: cells.get("retry")?,
        owed: cells.get("owed")?,
        since: cells.moment("since")?,
        tried: cells.moment("tried")?,
    })
}
