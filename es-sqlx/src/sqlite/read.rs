//! Reading: a stream, the log, a scan.

use std::collections::BTreeSet;

use es_core::{Filter, LogPage, Position, ReadError, RecordedEvent, Scan, StreamId, Version};
use sqlx::{QueryBuilder, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::row::{self, bound, columns, parameter, timestamp};
use crate::error::is_transient;

/// Up to this many event types are read as ordered index ranges that SQLite merges.
const BRANCHES_MAX: usize = 16;

const HEAD: &str = "SELECT last_position FROM log_head";
const STREAM: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM events
     WHERE aggregate_id = ?1 AND aggregate_type = ?2 AND event_version > ?3
     ORDER BY event_version LIMIT ?4"
);
const SELECT: &str = concat!("SELECT ", columns!(), " FROM events WHERE position > ");

const SCAN: &str = concat!("SELECT ", columns!(), " FROM events WHERE event_type = ");

pub(super) async fn head(pool: &SqlitePool) -> Result<Position, ReadError> {
    let head: i64 = sqlx::query_scalar(HEAD)
        .fetch_one(pool)
        .await
        .map_err(|error| failed("the end of the log", error))?;
    row::position(head)
}

pub(super) async fn stream(
    pool: &SqlitePool,
    stream: &StreamId,
    after: Version,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows = sqlx::query(STREAM)
        .bind(stream.aggregate_id)
        .bind(stream.aggregate_type.as_str())
        .bind(after.get())
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(|error| failed(&format!("stream `{stream}`"), error))?;
    events(&rows)
}

/// The head is read first. What was committed then is complete up to it, so the page may be read in
/// a later statement.
pub(super) async fn log(
    pool: &SqlitePool,
    filter: &Filter,
    after: Position,
    limit: u32,
) -> Result<LogPage, ReadError> {
    if limit == 0 {
        return Ok(LogPage {
            events: Vec::new(),
            covered: after,
        });
    }
    let settled = head(pool).await?;
    let covered_all = LogPage {
        events: Vec::new(),
        covered: settled.max(after),
    };
    if settled <= after {
        return Ok(covered_all);
    }
    let mut query = match filter {
        Filter::EventTypes(types) if types.is_empty() => return Ok(covered_all),
        filter => page(filter, after, settled, limit),
    };
    let rows = query
        .build()
        .fetch_all(pool)
        .await
        .map_err(|error| failed("the log", error))?;
    let events = events(&rows)?;
    let covered = match events.last() {
        Some(last) if events.len() == limit as usize => last.position,
        _ => settled,
    };
    Ok(LogPage { events, covered })
}

fn page(filter: &Filter, after: Position, settled: Position, limit: u32) -> QueryBuilder<Sqlite> {
    let (after, settled) = (parameter(after), parameter(settled));
    let mut query = QueryBuilder::new("");
    let range = |query: &mut QueryBuilder<Sqlite>| {
        query.push(SELECT).push_bind(after);
        query.push(" AND position <= ").push_bind(settled);
    };
    match filter {
        Filter::EventTypes(types) if types.len() <= BRANCHES_MAX => {
            // A type that is named twice is read once.
            let names: BTreeSet<&str> = types.iter().map(|name| &**name).collect();
            for (index, name) in names.into_iter().enumerate() {
                query.push(if index == 0 { "" } else { " UNION ALL " });
                range(&mut query);
                query.push(" AND event_type = ").push_bind(name.to_string());
            }
        }
        Filter::EventTypes(types) => {
            range(&mut query);
            // The plus keeps SQLite from the index on types: it would sort all that is left by
            // position, for each page.
            query.push(" AND +event_type IN (");
            let mut names = query.separated(", ");
            for name in types {
                names.push_bind(name.to_string());
            }
            query.push(")");
        }
        Filter::All => range(&mut query),
    }
    query.push(" ORDER BY position LIMIT ").push_bind(limit);
    query
}

pub(super) async fn scan(
    pool: &SqlitePool,
    scan: &Scan,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let settled = head(pool).await?;
    let mut query = QueryBuilder::<Sqlite>::new(SCAN);
    query.push_bind(scan.event_type.to_string());
    // The plus keeps SQLite from the index on positions: it would sort the whole type by time.
    query
        .push(" AND +position <= ")
        .push_bind(parameter(settled));
    if let Some(from) = scan.from {
        query.push(" AND created_at >= ").push_bind(bound(from));
    }
    if let Some(until) = scan.until {
        query.push(" AND created_at < ").push_bind(bound(until));
    }
    if let Some((time, position)) = scan.after {
        query
            .push(" AND (created_at, position) > (")
            .push_bind(timestamp(time));
        query.push(", ").push_bind(parameter(position)).push(")");
    }
    query
        .push(" ORDER BY created_at, position LIMIT ")
        .push_bind(limit);
    let rows = query
        .build()
        .fetch_all(pool)
        .await
        .map_err(|error| failed(&format!("events of type `{}`", scan.event_type), error))?;
    events(&rows)
}

fn events(rows: &[SqliteRow]) -> Result<Vec<RecordedEvent>, ReadError> {
    rows.iter().map(row::event).collect()
}

pub(super) fn failed(what: &str, source: sqlx::Error) -> ReadError {
    ReadError::Backend {
        what: what.to_owned(),
        transient: is_transient(&source),
        source: source.into(),
    }
}
