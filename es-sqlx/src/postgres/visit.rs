//! Loading an aggregate: snapshot and tail in one round trip, each event shown from the row's own bytes.

use std::sync::Arc;

use es_core::{EventView, ReadError, SnapshotView, StreamVisitor, Version, Visit};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, postgres::PgRow};

use super::{
    Inner,
    read::{alive, failed},
    row::version_parameter,
};

/// The statements, without and with a look for a snapshot.
#[derive(Debug)]
pub(super) struct Texts {
    events: Arc<str>,
    snapshot: Arc<str>,
}

impl Texts {
    /// $1 stream, $2 its type, $3 and $4 the range of versions.
    ///
    /// After a snapshot the events begin with the one it was taken at, which proves that the log has
    /// it, and brings it along.
    pub(super) fn new(schema: &str) -> Self {
        let columns = "e.event_version, e.event_type, e.schema_version, e.event_data::text";
        let range = "e.aggregate_id = $1 AND e.aggregate_type = $2
                 AND e.event_version > $3 AND e.event_version <= $4";
        Self {
            events: format!(
                "SELECT {columns} FROM {schema}.events e WHERE {range} ORDER BY e.event_version"
            )
            .into(),
            // The snapshot's version comes from a sub-select, not from the join: so it bounds what is
            // read of the index, instead of being compared with each event of the stream.
            snapshot: format!(
                "WITH s AS MATERIALIZED (
                   SELECT version, state::text, fingerprint FROM {schema}.snapshots t
                    WHERE aggregate_id = $1 AND aggregate_type = $2
                      AND version > $3 AND version <= $4
                      AND EXISTS (SELECT 1 FROM {schema}.events
                                   WHERE aggregate_id = $1 AND event_version = t.version)
                    ORDER BY version DESC LIMIT 1)
                 SELECT {columns}, s.state, s.fingerprint
                   FROM {schema}.events e LEFT JOIN s ON s.version = e.event_version
                  WHERE {range} AND e.event_version >= coalesce((SELECT version FROM s), 0)
                  ORDER BY e.event_version"
            )
            .into(),
        }
    }
}

/// How a visit went.
enum End {
    Done,
    /// The snapshot was not believed.
    Disbelieved,
}

pub(super) async fn run(
    store: &Inner,
    visit: &Visit,
    visitor: &mut dyn StreamVisitor,
) -> Result<(), ReadError> {
    match attempt(store, visit, visit.snapshot, visitor).await? {
        End::Done => Ok(()),
        End::Disbelieved => attempt(store, visit, false, visitor).await.map(|_| ()),
    }
}

async fn attempt(
    store: &Inner,
    visit: &Visit,
    snapshot: bool,
    visitor: &mut dyn StreamVisitor,
) -> Result<End, ReadError> {
    let texts = &store.sql.visit;
    let text = if snapshot {
        &texts.snapshot
    } else {
        &texts.events
    };
    let fetch = || {
        sqlx::query(AssertSqlSafe(Arc::clone(text)))
            .bind(visit.stream.aggregate_id)
            .bind(visit.stream.aggregate_type.as_str())
            .bind(version_parameter(visit.after))
            .bind(version_parameter(visit.at_most))
            .fetch(&store.events)
    };
    let first = async || {
        let mut rows = fetch();
        rows.try_next().await.map(|row| (row, rows))
    };
    let unreadable = |error| failed(&format!("stream `{}`", visit.stream), error);
    // Once a row has been shown it is too late to begin anew.
    let (mut next, mut rows) = alive(first).await.map_err(unreadable)?;
    let mut may_offer = snapshot;
    while let Some(row) = next {
        let event = event(&row, visit)?;
        // What cannot be read is as good as no snapshot.
        if std::mem::take(&mut may_offer)
            && let Ok(Some(state)) = row.try_get::<Option<&str>, _>(4)
        {
            let believed = visitor.snapshot(SnapshotView {
                version: event.version,
                fingerprint: row.try_get(5).unwrap_or_default(),
                state,
            });
            if !believed {
                return Ok(End::Disbelieved);
            }
        } else if visitor.event(event).is_break() {
            break;
        }
        next = rows.try_next().await.map_err(unreadable)?;
    }
    Ok(End::Done)
}

fn event<'r>(row: &'r PgRow, visit: &Visit) -> Result<EventView<'r>, ReadError> {
    let damaged = |column: &str| ReadError::Corrupt {
        what: format!("an event of stream `{}`", visit.stream),
        problem: format!("column `{column}` does not hold what it must"),
    };
    // The driver's error may quote the content.
    let count = |index: usize, column: &str| {
        let count: Result<i32, _> = row.try_get(index);
        count
            .ok()
            .and_then(|count| u32::try_from(count).ok())
            .ok_or_else(|| damaged(column))
    };
    Ok(EventView {
        version: Version::new(count(0, "event_version")?),
        event_type: row.try_get(1).map_err(|_| damaged("event_type"))?,
        schema_version: count(2, "schema_version")?,
        data: row.try_get(3).map_err(|_| damaged("event_data"))?,
    })
}
