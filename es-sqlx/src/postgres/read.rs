//! Reading: a stream, the log, a scan.

use std::{collections::BTreeSet, sync::Arc};

use es_core::{Filter, LogPage, Name, Position, ReadError, RecordedEvent, Scan, StreamId, Version};
use sqlx::{AssertSqlSafe, PgExecutor, Postgres, QueryBuilder, postgres::PgRow};

use super::{
    Inner,
    row::{self, COLUMNS, parameter, version_parameter},
};
use crate::error::{explain, is_connection_lost, is_transient};

pub(super) fn stream_sql(schema: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM {schema}.events
         WHERE aggregate_id = $1 AND aggregate_type = $2 AND event_version > $3
         ORDER BY event_version LIMIT $4"
    )
}

pub(super) async fn stream(
    store: &Inner,
    stream: &StreamId,
    after: Version,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows = alive(|| stream_rows(&store.events, store, stream, after, limit));
    of_stream(stream, rows.await)
}

pub(super) async fn stream_on<'a>(
    connection: impl PgExecutor<'a>,
    store: &Inner,
    stream: &StreamId,
    after: Version,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows = stream_rows(connection, store, stream, after, limit);
    of_stream(stream, rows.await)
}

fn of_stream(
    stream: &StreamId,
    rows: Result<Vec<PgRow>, sqlx::Error>,
) -> Result<Vec<RecordedEvent>, ReadError> {
    events(&rows.map_err(|error| failed(&format!("stream `{stream}`"), error))?)
}

async fn stream_rows<'a>(
    connection: impl PgExecutor<'a>,
    store: &Inner,
    stream: &StreamId,
    after: Version,
    limit: u32,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(AssertSqlSafe(Arc::clone(&store.sql.read_stream)))
        .bind(stream.aggregate_id)
        .bind(stream.aggregate_type.as_str())
        .bind(version_parameter(after))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
}

/// How many connections may turn out to be dead, after a restart of the server, before a reader is told.
const DEAD_MAX: usize = 3;

/// Reading again does no harm: a connection that the server has closed is found out by using it.
pub(super) async fn alive<T, F>(read: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    for _ in 0..DEAD_MAX {
        match read().await {
            Err(error) if is_connection_lost(&error) => {}
            result => return result,
        }
    }
    read().await
}

/// The page is read in a statement after the horizon was settled: only a newer snapshot is sure to
/// show everything up to it.
pub(super) async fn log(
    store: &Inner,
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
    let settled = store.settle().await?;
    let nothing = LogPage {
        events: Vec::new(),
        covered: settled.max(after),
    };
    if settled <= after || matches!(filter, Filter::EventTypes(types) if types.is_empty()) {
        return Ok(nothing);
    }
    let rows = match filter {
        Filter::All => page(store, &store.sql.page, after, settled, None, limit).await?,
        Filter::EventTypes(types) => of_types(store, types, after, settled, limit).await?,
    };
    let events = events(&rows)?;
    let covered = match events.last() {
        Some(last) if events.len() == limit as usize => last.position,
        _ => settled,
    };
    Ok(LogPage { events, covered })
}

/// Looks at a stretch of the log first, where common types fill the page at once. What is rarer is then
/// picked out with the index of types, however far it is.
///
/// Postgres is not asked which way is better: it would take for a rare type the way that is good for a
/// common one, and read the rest of the log for each page.
async fn of_types(
    store: &Inner,
    types: &[Name],
    after: Position,
    settled: Position,
    limit: u32,
) -> Result<Vec<PgRow>, ReadError> {
    let types: BTreeSet<&str> = types.iter().map(|name| &**name).collect();
    let types: Vec<&str> = types.into_iter().collect();
    let stretch = after.get().saturating_add(u64::from(limit) * 2);
    let end = settled.min(Position::new(stretch));
    let mut rows = page(
        store,
        &store.sql.page_of_types,
        after,
        end,
        Some(&types),
        limit,
    )
    .await?;
    let found = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    if found < limit && end < settled {
        let sql = &store.sql.page_of_rare_types;
        let rest = page(store, sql, end, settled, Some(&types), limit - found).await?;
        rows.extend(rest);
    }
    Ok(rows)
}

pub(super) fn page_sql(schema: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM {schema}.events WHERE position > $1 AND position <= $2
         ORDER BY position LIMIT $3"
    )
}

pub(super) fn page_of_types_sql(schema: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM {schema}.events
         WHERE position > $1 AND position <= $2 AND event_type = ANY($4)
         ORDER BY position LIMIT $3"
    )
}

/// Compared as rows, type and position are a range of one index alone.
pub(super) fn page_of_rare_types_sql(schema: &str) -> String {
    format!(
        "SELECT page.* FROM unnest($4) AS wanted(name) CROSS JOIN LATERAL
           (SELECT {COLUMNS} FROM {schema}.events
             WHERE (event_type, position) > (wanted.name, $1)
               AND (event_type, position) <= (wanted.name, $2)
             ORDER BY event_type, position LIMIT $3) page
         ORDER BY page.position LIMIT $3"
    )
}

async fn page(
    store: &Inner,
    sql: &Arc<str>,
    after: Position,
    until: Position,
    types: Option<&[&str]>,
    limit: u32,
) -> Result<Vec<PgRow>, ReadError> {
    let read = || {
        let query = sqlx::query(AssertSqlSafe(Arc::clone(sql)))
            .bind(parameter(after))
            .bind(parameter(until))
            .bind(i64::from(limit));
        match types {
            Some(types) => query.bind(types).fetch_all(&store.events),
            None => query.fetch_all(&store.events),
        }
    };
    alive(read).await.map_err(|error| failed("the log", error))
}

pub(super) async fn scan(
    store: &Inner,
    scan: &Scan,
    limit: u32,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let settled = store.settle().await?;
    let read = async || {
        let mut query = scan_page(&store.schema, scan, settled, limit);
        query.build().fetch_all(&store.events).await
    };
    let rows = alive(read)
        .await
        .map_err(|error| failed(&format!("events of type `{}`", scan.event_type), error))?;
    events(&rows)
}

fn scan_page(schema: &str, scan: &Scan, settled: Position, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new("");
    query.push(format_args!(
        "SELECT {COLUMNS} FROM {}.events WHERE event_type = ",
        schema
    ));
    query.push_bind(scan.event_type.to_string());
    query
        .push(" AND position <= ")
        .push_bind(parameter(settled));
    if let Some(from) = scan.from {
        query
            .push(" AND created_at >= ")
            .push_bind(from.naive_utc());
    }
    if let Some(until) = scan.until {
        query
            .push(" AND created_at < ")
            .push_bind(until.naive_utc());
    }
    if let Some((time, position)) = scan.after {
        query
            .push(" AND (created_at, position) > (")
            .push_bind(time.naive_utc());
        query.push(", ").push_bind(parameter(position)).push(")");
    }
    query
        .push(" ORDER BY created_at, position LIMIT ")
        .push_bind(i64::from(limit));
    query
}

fn events(rows: &[PgRow]) -> Result<Vec<RecordedEvent>, ReadError> {
    rows.iter().map(row::event).collect()
}

pub(super) fn failed(what: &str, source: sqlx::Error) -> ReadError {
    ReadError::Backend {
        what: what.to_owned(),
        transient: is_transient(&source),
        source: explain(source),
    }
}
