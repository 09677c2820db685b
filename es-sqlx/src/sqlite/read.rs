//! Reading: a stream, the log, a scan.

use std::collections::BTreeSet;

use es_core::{Filter, LogPage, Position, ReadError, RecordedEvent, Scan, StreamId, Version};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{
    frame::{self, Order},
    row::{self, bound, columns, parameter, timestamp},
};
use crate::error::is_transient;

/// Up to this many event types are read as ordered index ranges that SQLite merges.
const BRANCHES_MAX: usize = 16;

const SELECT: &str = concat!("SELECT ", columns!(), " FROM events WHERE ");

/// SQLite plans a statement anew for each value of a bare `LIMIT ?`.
const LIMIT: &str = " LIMIT 0 + ";

pub(super) const HEAD: &str = "SELECT last_position FROM log_head";
/// Said with a page, it is the end of the same log: a statement sees one moment.
const SETTLED: &str = "(SELECT last_position FROM log_head) AS settled";

pub(super) async fn head(pool: &SqlitePool) -> Result<Position, ReadError> {
    let head: i64 = sqlx::query_scalar(HEAD)
        .fetch_one(pool)
        .await
        .map_err(|error| failed("the end of the log", error))?;
    row::position(head)
}

pub(super) async fn stream(
    db: &mut SqliteConnection,
    stream: &StreamId,
    after: Version,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let page = Page::of_stream(stream, after, limit);
    page.read(db).await.map(|(events, _)| events)
}

/// The same page row by row.
pub(super) async fn stream_rows(
    db: &mut SqliteConnection,
    stream: &StreamId,
    after: Version,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let page = Page::of_stream(stream, after, limit);
    page.read_rows(db).await.map(|(events, _)| events)
}

fn write_stream(query: &mut QueryBuilder<Sqlite>, stream: &StreamId, after: Version, limit: u32) {
    query
        .push(SELECT)
        .push("aggregate_id = ")
        .push_bind(stream.aggregate_id);
    query
        .push(" AND aggregate_type = ")
        .push_bind(stream.aggregate_type.to_string());
    query.push(" AND event_version > ").push_bind(after.get());
    query
        .push(" ORDER BY event_version")
        .push(LIMIT)
        .push_bind(limit);
}

pub(super) async fn log(
    db: &mut SqliteConnection,
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
    let page = Page {
        order: Order::Position,
        what: Box::new(|| "the log".to_owned()),
        write: Box::new(move |query| write_page(query, filter, after, limit)),
    };
    let (events, settled) = page.read(db).await?;
    let covered = match events.last() {
        Some(last) if events.len() == limit as usize => last.position,
        _ => settled.max(after),
    };
    Ok(LogPage { events, covered })
}

fn write_page(query: &mut QueryBuilder<Sqlite>, filter: &Filter, after: Position, limit: u32) {
    let after = parameter(after);
    let range = |query: &mut QueryBuilder<Sqlite>| {
        query.push(SELECT).push("position > ").push_bind(after);
    };
    match filter {
        Filter::EventTypes(types) if types.is_empty() => {
            range(query);
            query.push(" AND false");
        }
        Filter::EventTypes(types) if types.len() <= BRANCHES_MAX => {
            // A type that is named twice is read once.
            let names: BTreeSet<&str> = types.iter().map(|name| &**name).collect();
            for (index, name) in names.into_iter().enumerate() {
                query.push(if index == 0 { "" } else { " UNION ALL " });
                range(query);
                query.push(" AND event_type = ").push_bind(name.to_string());
            }
        }
        Filter::EventTypes(types) => {
            range(query);
            // The plus keeps SQLite from the index on types: it would sort all that is left by
            // position, for each page.
            query.push(" AND +event_type IN (");
            let mut names = query.separated(", ");
            for name in types {
                names.push_bind(name.to_string());
            }
            query.push(")");
        }
        Filter::All => range(query),
    }
    query
        .push(" ORDER BY position")
        .push(LIMIT)
        .push_bind(limit);
}

pub(super) async fn scan(
    db: &mut SqliteConnection,
    scan: &Scan,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let page = Page {
        order: Order::Time,
        what: Box::new(|| format!("events of type `{}`", scan.event_type)),
        write: Box::new(move |query| write_scan(query, scan, limit)),
    };
    page.read(db).await.map(|(events, _)| events)
}

fn write_scan(query: &mut QueryBuilder<Sqlite>, scan: &Scan, limit: u32) {
    query
        .push(SELECT)
        .push("event_type = ")
        .push_bind(scan.event_type.to_string());
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
        .push(" ORDER BY created_at, position")
        .push(LIMIT)
        .push_bind(limit);
}

/// Writes the query of a page's rows.
type Write<'p> = dyn Fn(&mut QueryBuilder<Sqlite>) + Send + Sync + 'p;

/// A page of events: framed, or else row by row, which tells what is damaged.
struct Page<'p> {
    order: Order,
    what: Box<dyn Fn() -> String + Send + Sync + 'p>,
    write: Box<Write<'p>>,
}

impl<'p> Page<'p> {
    fn of_stream(stream: &'p StreamId, after: Version, limit: u32) -> Self {
        Self {
            order: Order::Version,
            what: Box::new(move || format!("stream `{stream}`")),
            write: Box::new(move |query| write_stream(query, stream, after, limit)),
        }
    }

    /// The events, and where the log ended at that moment.
    async fn read(
        &self,
        db: &mut SqliteConnection,
    ) -> Result<(Vec<RecordedEvent>, Position), ReadError> {
        let mut framed = QueryBuilder::new("SELECT ");
        framed
            .push(SETTLED)
            .push(", ")
            .push(frame::EVENTS)
            .push(" FROM (");
        (self.write)(&mut framed);
        framed.push(")");
        match framed.build().fetch_one(&mut *db).await {
            Ok(row) => {
                if let Some(events) = frame::events(&row, self.order) {
                    return Ok((events, settled(&row)?));
                }
            }
            // A page may be larger than SQLite's longest text.
            Err(error) if is_too_big(&error) => {}
            Err(error) => return Err(self.failed(error)),
        }
        self.read_rows(db).await
    }

    /// The end of the log is read first: what was committed then is complete up to it.
    async fn read_rows(
        &self,
        db: &mut SqliteConnection,
    ) -> Result<(Vec<RecordedEvent>, Position), ReadError> {
        let head: i64 = sqlx::query_scalar(HEAD)
            .fetch_one(&mut *db)
            .await
            .map_err(|error| self.failed(error))?;
        let mut query = QueryBuilder::new("");
        (self.write)(&mut query);
        let rows = query
            .build()
            .fetch_all(db)
            .await
            .map_err(|error| self.failed(error))?;
        let settled = row::position(head)?;
        let mut events = rows.iter().map(row::event).collect::<Result<Vec<_>, _>>()?;
        events.retain(|event| event.position <= settled);
        Ok((events, settled))
    }

    fn failed(&self, source: sqlx::Error) -> ReadError {
        failed(&(self.what)(), source)
    }
}

fn settled(row: &SqliteRow) -> Result<Position, ReadError> {
    let settled = row.try_get("settled");
    row::position(settled.map_err(|error| failed("the end of the log", error))?)
}

/// SQLITE_TOOBIG.
pub(super) fn is_too_big(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("18")
}

pub(super) fn failed(what: &str, source: sqlx::Error) -> ReadError {
    ReadError::Backend {
        what: what.to_owned(),
        transient: is_transient(&source),
        source: source.into(),
    }
}
