//! Showing a stream to a fold: the snapshot and what follows it in one statement.

use std::ops::ControlFlow;

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
    let mut at = visit.after;
    if visit.snapshot {
        let begun = page(db, SNAPSHOT_AND_TAIL, visit, at).await?;
        let offered = begun.map_or(Offer::Unread, |row| offer(&row, visit, visitor));
        match offered {
            Offer::Shown(Shown::Over) => return Ok(()),
            Offer::Shown(Shown::Until(version)) => at = version,
            Offer::Tail(version) => {
                at = version;
                if rows(db, visit, visitor, &mut at).await?.is_break() {
                    return Ok(());
                }
            }
            Offer::Unread => {}
        }
    }
    while at < visit.at_most {
        let row = page(db, TAIL, visit, at).await?;
        match row.and_then(|row| show(&row, at, visitor)) {
            Some(Shown::Over) => return Ok(()),
            Some(Shown::Until(version)) => at = version,
            None => {
                if rows(db, visit, visitor, &mut at).await?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// What became of the first page.
enum Offer {
    Shown(Shown),
    /// The snapshot is believed, but the events after it must be read row by row.
    Tail(Version),
    /// Nothing was shown that is of use.
    Unread,
}

enum Shown {
    /// There may be more after this version.
    Until(Version),
    Over,
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

fn offer(row: &SqliteRow, visit: &Visit, visitor: &mut dyn StreamVisitor) -> Offer {
    let version = match row.try_get::<Option<u32>, _>("snapshot_version") {
        Ok(Some(version)) => Version::new(version),
        // The page is the beginning of the stream.
        Ok(None) => return show(row, visit.after, visitor).map_or(Offer::Unread, Offer::Shown),
        Err(_) => return Offer::Unread,
    };
    let (Ok(fingerprint), Ok(state)) = (row.try_get("fingerprint"), row.try_get("state")) else {
        // A snapshot that cannot be read is as good as none.
        return Offer::Unread;
    };
    let is_believed = visitor.snapshot(SnapshotView {
        version,
        fingerprint,
        state,
    });
    match is_believed {
        true => show(row, version, visitor).map_or(Offer::Tail(version), Offer::Shown),
        false => Offer::Unread,
    }
}

/// Shows a page of events after `at`, or nothing if it must be read row by row.
fn show(row: &SqliteRow, at: Version, visitor: &mut dyn StreamVisitor) -> Option<Shown> {
    let views = frame::views(row, at)?;
    let is_last = views.len() < PAGE as usize;
    let mut at = at;
    for view in views {
        at = view.version;
        if visitor.event(view).is_break() {
            return Some(Shown::Over);
        }
    }
    Some(if is_last {
        Shown::Over
    } else {
        Shown::Until(at)
    })
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
