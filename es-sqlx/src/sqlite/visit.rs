//! Showing a stream to a fold: the snapshot and what follows it in one statement.

use std::{ops::ControlFlow, pin::pin, task::Poll};

use es_core::{ReadError, SnapshotView, StreamVisitor, Version, Visit};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    frame::{self, view_columns},
    read,
};

/// Events of one row.
const PAGE: u32 = 1_000;

macro_rules! tail {
    ($after:literal) => {
        concat!(
            "SELECT ",
            view_columns!(),
            " FROM (SELECT event_version, event_type, schema_version, event_data FROM events
              WHERE aggregate_id = ?1 AND aggregate_type = ?2 AND event_version > ",
            $after,
            " AND event_version <= ?4 ORDER BY event_version LIMIT 0 + ?5)"
        )
    };
}
const TAIL: &str = tail!("?3");
/// A snapshot ahead of its stream tells of another history.
const SNAPSHOT_AND_TAIL: &str = concat!(
    "WITH newest AS MATERIALIZED (SELECT version, fingerprint, state FROM snapshots
         WHERE aggregate_id = ?1 AND aggregate_type = ?2 AND version <= ?4
         ORDER BY version DESC LIMIT 1),
     usable AS MATERIALIZED (SELECT * FROM newest WHERE version > ?3 AND EXISTS (
         SELECT 1 FROM events WHERE aggregate_id = ?1 AND aggregate_type = ?2
         AND event_version = newest.version))
     SELECT tail.*, usable.version AS snapshot_version, fingerprint, state FROM (",
    tail!("coalesce((SELECT version FROM usable), ?3)"),
    ") AS tail LEFT JOIN usable"
);

pub(super) async fn stream(
    db: &mut SqliteConnection,
    visit: &Visit,
    visitor: &mut dyn StreamVisitor,
) -> Result<(), ReadError> {
    let (mut at, mut begun) = begin(db, visit, visitor).await?;
    while at < visit.at_most {
        let row = match begun.take() {
            Some(row) => Some(row),
            None => page(db, TAIL, visit, at).await?,
        };
        let Some(views) = row.as_ref().and_then(|row| frame::views(row, at)) else {
            if rows(db, visit, visitor, &mut at).await?.is_break() {
                return Ok(());
            }
            continue;
        };
        if views.len() < PAGE as usize || views.until() >= visit.at_most {
            // Whether it breaks off or not, this is the end.
            let _ = show(views, visitor, &mut at);
            return Ok(());
        }
        // The driver's thread reads the next page while this one shows the page at hand.
        let mut next = pin!(page(db, TAIL, visit, views.until()));
        let read = futures::poll!(next.as_mut());
        if show(views, visitor, &mut at).is_break() {
            return Ok(());
        }
        begun = match read {
            Poll::Ready(read) => read?,
            Poll::Pending => next.await?,
        };
    }
    Ok(())
}

/// Where to go on, and a page of events from there if it has been read.
async fn begin(
    db: &mut SqliteConnection,
    visit: &Visit,
    visitor: &mut dyn StreamVisitor,
) -> Result<(Version, Option<SqliteRow>), ReadError> {
    if visit.snapshot
        && let Some(row) = page(db, SNAPSHOT_AND_TAIL, visit, visit.after).await?
        && let Some(at) = offer(&row, visit, visitor)
    {
        return Ok((at, Some(row)));
    }
    Ok((visit.after, None))
}

/// `None` if the page is too big for one row.
async fn page(
    db: &mut SqliteConnection,
    sql: &'static str,
    visit: &Visit,
    at: Version,
) -> Result<Option<SqliteRow>, ReadError> {
    let row = sqlx::query(sql)
        .bind(visit.stream.aggregate_id)
        .bind(visit.stream.aggregate_type.as_str())
        .bind(at.get())
        .bind(visit.at_most.get())
        .bind(PAGE)
        .fetch_one(db)
        .await;
    match row {
        Ok(row) => Ok(Some(row)),
        Err(error) if read::is_too_big(&error) => Ok(None),
        Err(error) => Err(read::failed(&format!("stream `{}`", visit.stream), error)),
    }
}

/// The version after which the page begins, unless it begins after a snapshot that is of no use.
fn offer(row: &SqliteRow, visit: &Visit, visitor: &mut dyn StreamVisitor) -> Option<Version> {
    let Some(version) = row
        .try_get::<Option<u32>, _>("snapshot_version")
        .ok()?
        .map(Version::new)
    else {
        return Some(visit.after);
    };
    // A snapshot that cannot be read is as good as none.
    let is_believed = visitor.snapshot(SnapshotView {
        version,
        fingerprint: row.try_get("fingerprint").ok()?,
        state: row.try_get("state").ok()?,
    });
    is_believed.then_some(version)
}

fn show(
    views: frame::Views<'_>,
    visitor: &mut dyn StreamVisitor,
    at: &mut Version,
) -> ControlFlow<()> {
    for view in views {
        *at = view.version;
        visitor.event(view)?;
    }
    ControlFlow::Continue(())
}

/// A page row by row: slower, and it tells what is damaged.
async fn rows(
    db: &mut SqliteConnection,
    visit: &Visit,
    visitor: &mut dyn StreamVisitor,
    at: &mut Version,
) -> Result<ControlFlow<()>, ReadError> {
    let page = read::stream_rows(db, &visit.stream, *at, PAGE).await?;
    for event in &page {
        if event.event_version > visit.at_most || visitor.event(event.into()).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        *at = event.event_version;
    }
    match page.len() < PAGE as usize {
        true => Ok(ControlFlow::Break(())),
        false => Ok(ControlFlow::Continue(())),
    }
}
