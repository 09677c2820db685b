//! Rows of `projection_dead_letters`.

use chrono::{DateTime, Utc};
use es_core::{
    DeadLetter, LetterState, Letters, Name, Parked, ProjectionId, ReadError, StreamId, Version,
};
use sqlx::{PgConnection, Postgres, QueryBuilder, postgres::PgRow};
use uuid::Uuid;

use super::{cells::Cells, count, version};
use crate::postgres::{
    Inner,
    read::{self, alive},
    row::{parameter, version_parameter},
};

const COLUMNS: &str = "name, version, event_id, position, aggregate_type, aggregate_id, event_type,
    event_version, state, failure::text AS failure, attempts, retry, owed, since, tried";
/// The arrays come through sub-selects, or the statement would be planned anew for each length. Of an
/// event that is there twice the last one counts.
const PUT: &str = "INSERT INTO {schema}.projection_dead_letters
           (name, version, event_id, position, aggregate_type, aggregate_id, event_type,
            event_version, state, failure, attempts, retry, owed, since, tried)
    SELECT DISTINCT ON (l.name, l.version, l.event_id)
           l.name, l.version, l.event_id, l.position, l.aggregate_type, l.aggregate_id,
           l.event_type, l.event_version, l.state, l.failure::json, l.attempts, l.retry,
           l.owed, clock_timestamp(), clock_timestamp()
      FROM unnest((SELECT $1::text[]), (SELECT $2::int[]), (SELECT $3::uuid[]),
                  (SELECT $4::bigint[]), (SELECT $5::text[]), (SELECT $6::uuid[]),
                  (SELECT $7::text[]), (SELECT $8::int[]), (SELECT $9::text[]),
                  (SELECT $10::text[]), (SELECT $11::int[]), (SELECT $12::bool[]),
                  (SELECT $13::bool[]))
           WITH ORDINALITY AS l(name, version, event_id, position, aggregate_type, aggregate_id,
                event_type, event_version, state, failure, attempts, retry, owed, i)
     ORDER BY l.name, l.version, l.event_id, l.i DESC
    ON CONFLICT (name, version, event_id) DO UPDATE SET state = excluded.state,
           failure = excluded.failure, attempts = excluded.attempts, retry = excluded.retry,
           owed = excluded.owed, tried = excluded.tried";
const RETRY: &str = "UPDATE {schema}.projection_dead_letters SET retry = true
    WHERE name = $1 AND version = $2 AND state = 'parked'
      AND ($3::uuid IS NULL OR aggregate_id = $3)";
const REMOVE: &str = "DELETE FROM {schema}.projection_dead_letters
    WHERE name = $1 AND version = $2 AND event_id = ANY((SELECT $3::uuid[])::uuid[])";
const REMOVE_ALL: &str =
    "DELETE FROM {schema}.projection_dead_letters WHERE name = $1 AND version = $2";
const PARKED: &str = "SELECT aggregate_id, bool_or(retry) FROM {schema}.projection_dead_letters
    WHERE name = $1 AND version = $2 AND state = 'parked'
    GROUP BY aggregate_id ORDER BY aggregate_id LIMIT $3";

pub(super) async fn list(
    store: &Inner,
    letters: &Letters,
    limit: u32,
) -> Result<Vec<DeadLetter>, ReadError> {
    let read = async || {
        let mut query = page(&store.schema, letters, limit);
        query.build().fetch_all(&store.events).await
    };
    let rows = alive(read)
        .await
        .map_err(|error| read::failed("dead letters", error))?;
    let mut letters: Vec<_> = rows.iter().map(letter).collect::<Result<_, _>>()?;
    letters.sort_by(|one, other| {
        (one.position, &one.projection).cmp(&(other.position, &other.projection))
    });
    Ok(letters)
}

/// With all of the last position: `after` could not tell them apart.
fn page(schema: &str, letters: &Letters, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!(
        "SELECT {COLUMNS} FROM {schema}.projection_dead_letters WHERE position > "
    ));
    query.push_bind(parameter(letters.after));
    if let Some(projection) = &letters.projection {
        query
            .push(" AND name = ")
            .push_bind(projection.name.clone());
        query.push(" AND version = ").push_bind(version(projection));
    }
    if let Some(aggregate_id) = letters.aggregate_id {
        query.push(" AND aggregate_id = ").push_bind(aggregate_id);
    }
    if let Some(state) = letters.state {
        query.push(" AND state = ").push_bind(state.as_str());
    }
    query
        .push(" ORDER BY position FETCH FIRST ")
        .push_bind(i64::from(limit))
        .push(" ROWS WITH TIES");
    query
}

pub(super) async fn parked(
    store: &Inner,
    projection: &ProjectionId,
    limit: u32,
) -> Result<Vec<Parked>, ReadError> {
    let read = || {
        sqlx::query_as(store.text(PARKED))
            .bind(&projection.name)
            .bind(version(projection))
            .bind(i64::from(limit))
            .fetch_all(&store.events)
    };
    let rows: Vec<(Uuid, bool)> = alive(read)
        .await
        .map_err(|error| read::failed("parked aggregates", error))?;
    let parked = rows.into_iter().map(|(aggregate_id, retry)| Parked {
        aggregate_id,
        retry,
    });
    Ok(parked.collect())
}

pub(super) async fn put(
    store: &Inner,
    connection: &mut PgConnection,
    letters: &[DeadLetter],
) -> Result<(), sqlx::Error> {
    if letters.is_empty() {
        return Ok(());
    }
    let failures: Vec<_> = letters
        .iter()
        .map(|letter| serde_json::to_string(&letter.failure))
        .collect::<Result<_, _>>()
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(store.text(PUT))
        .bind(all(letters, |letter| letter.projection.name.as_str()))
        .bind(all(letters, |letter| version(&letter.projection)))
        .bind(all(letters, |letter| letter.event_id))
        .bind(all(letters, |letter| parameter(letter.position)))
        .bind(all(letters, |letter| letter.stream.aggregate_type.as_str()))
        .bind(all(letters, |letter| letter.stream.aggregate_id))
        .bind(all(letters, |letter| letter.event_type.as_str()))
        .bind(all(letters, |letter| {
            version_parameter(letter.event_version)
        }))
        .bind(all(letters, |letter| letter.state.as_str()))
        .bind(failures)
        .bind(all(letters, |letter| count(letter.attempts)))
        .bind(all(letters, |letter| letter.retry))
        .bind(all(letters, |letter| letter.owed))
        .execute(connection)
        .await
        .map(|_| ())
}

fn all<'a, T>(letters: &'a [DeadLetter], column: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
    letters.iter().map(column).collect()
}

pub(super) async fn retry(
    store: &Inner,
    connection: &mut PgConnection,
    projection: &ProjectionId,
    aggregate_id: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    sqlx::query(store.text(RETRY))
        .bind(&projection.name)
        .bind(version(projection))
        .bind(aggregate_id)
        .execute(connection)
        .await
        .map(|done| done.rows_affected())
}

pub(super) async fn remove(
    store: &Inner,
    connection: &mut PgConnection,
    projection: &ProjectionId,
    event_ids: Option<&[Uuid]>,
) -> Result<u64, sqlx::Error> {
    let text = match event_ids {
        Some(_) => REMOVE,
        None => REMOVE_ALL,
    };
    let mut remove = sqlx::query(store.text(text))
        .bind(&projection.name)
        .bind(version(projection));
    if let Some(event_ids) = event_ids {
        remove = remove.bind(event_ids);
    }
    remove
        .execute(connection)
        .await
        .map(|done| done.rows_affected())
}

fn letter(row: &PgRow) -> Result<DeadLetter, ReadError> {
    let what = "a row of projection_dead_letters";
    let cells = Cells { row, what };
    let aggregate_type = Name::from(cells.get::<String>("aggregate_type")?);
    Ok(DeadLetter {
        projection: ProjectionId::new(cells.get::<String>("name")?, cells.count("version")?),
        event_id: cells.get("event_id")?,
        position: cells.position("position")?,
        stream: StreamId::new(aggregate_type, cells.get("aggregate_id")?),
        event_version: Version::new(cells.count("event_version")?),
        event_type: Name::from(cells.get::<String>("event_type")?),
        state: cells.parse("state", LetterState::parse)?,
        failure: cells.parse("failure", |text| serde_json::from_str(text).ok())?,
        attempts: cells.count("attempts")?,
        retry: cells.get("retry")?,
        owed: cells.get("owed")?,
        since: cells.get::<DateTime<Utc>>("since")?,
        tried: cells.get::<DateTime<Utc>>("tried")?,
    })
}
