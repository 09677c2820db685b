//! One append in one trip to the driver's thread: admitted and recorded by the same query.

use std::sync::{Arc, OnceLock};

use chrono::{SubsecRound, Utc};
use es_core::{Append, AppendError, Appended, Version};
use sqlx::{
    Arguments, AssertSqlSafe, SqlSafeStr, SqlStr, SqliteConnection, error::BoxDynError,
    sqlite::SqliteArguments,
};

use super::{
    insert::{COLUMNS, add_event},
    row::{self, timestamp},
};
use crate::queue::Answer;

/// With more events the second trip does not matter.
const EVENTS_MAX: usize = 32;

/// How many statements the writer's connection keeps prepared for this.
pub(super) const KEPT: usize = 2 * EVENTS_MAX;

/// Records `append` in a transaction of its own if nothing is to be said against it, or answers that the
/// stream is at another version. `None` if it is none of the simple ones; nothing has happened then, and
/// the other path finds out why.
///
/// After an error the transaction may be open.
pub(super) async fn record(
    db: &mut SqliteConnection,
    append: &Append,
) -> Result<Option<Answer>, sqlx::Error> {
    let events = append.events.len();
    let Some(after) = append.expected.exact() else {
        return Ok(None);
    };
    let (1..=EVENTS_MAX, Some(version)) = (events, after.after(events)) else {
        return Ok(None);
    };
    let arguments = arguments(append, after).map_err(sqlx::Error::Encode)?;
    // There is one row at most, but whoever asks for one is not served to the end, which is `COMMIT`.
    let rows: Vec<(i64, Option<u32>)> = sqlx::query_as_with(text(events, after), arguments)
        .fetch_all(db)
        .await?;
    Ok(match rows.first() {
        None => None,
        Some((_, Some(actual))) => Some(Err(AppendError::Conflict {
            stream: append.stream.clone(),
            expected: append.expected,
            actual: Version::new(*actual),
        })),
        Some((position, None)) => {
            let position = row::position(*position);
            let position = position.map_err(|error| sqlx::Error::Decode(error.into()))?;
            Some(Ok(Appended { version, position }))
        }
    })
}

fn arguments(append: &Append, after: Version) -> Result<SqliteArguments, BoxDynError> {
    let created_at: Arc<str> = timestamp(Utc::now().trunc_subsecs(6)).into();
    let (aggregate_id, aggregate_type) = (
        append.stream.aggregate_id,
        append.stream.aggregate_type.as_str(),
    );
    let mut arguments = SqliteArguments::default();
    arguments.reserve(9 + 9 * append.events.len(), 0);
    arguments.add(Arc::clone(&created_at))?;
    arguments.add(Arc::clone(&created_at))?;
    arguments.add(aggregate_id)?;
    if after != Version::EMPTY {
        arguments.add(after.get())?;
        arguments.add(aggregate_type)?;
    }
    for (event, version) in append.events.iter().zip(after.get() + 1..) {
        arguments.add(Arc::clone(&created_at))?;
        add_event(&mut arguments, &append.stream, event, version)?;
    }
    arguments.add(aggregate_id)?;
    arguments.add(after.get())?;
    arguments.add(aggregate_type)?;
    arguments.add(append.events.first().map(|event| event.event_id))?;
    Ok(arguments)
}

/// The same text for as many events, so that it is prepared once.
fn text(events: usize, after: Version) -> SqlStr {
    static TEXTS: [[OnceLock<Arc<str>>; 2]; EVENTS_MAX + 1] =
        [const { [const { OnceLock::new() }; 2] }; EVENTS_MAX + 1];
    let is_new = after == Version::EMPTY;
    let text = TEXTS[events][usize::from(is_new)].get_or_init(|| write(events, is_new).into());
    AssertSqlSafe(Arc::clone(text)).into_sql_str()
}

macro_rules! last {
    () => {
        "FROM (SELECT event_version, aggregate_type, event_type FROM events
               WHERE aggregate_id = ? ORDER BY event_version DESC LIMIT 1)"
    };
}
const IS_AT: &str = concat!(
    "EXISTS (SELECT 1 ",
    last!(),
    " WHERE event_version = ? AND aggregate_type = ? AND event_type <> '$stream_erased')"
);
const IS_NEW: &str = "NOT EXISTS (SELECT 1 FROM events WHERE aggregate_id = ?)";
const NO_INLINE: &str = "NOT EXISTS (SELECT 1 FROM projection_shards WHERE status = 'inline')";
/// Not if the first event is there already: then it may be a repetition.
const CONFLICT: &str = concat!(
    "SELECT 0, event_version ",
    last!(),
    " WHERE event_version <> ? AND aggregate_type = ? AND event_type <> '$stream_erased'
     AND NOT EXISTS (SELECT 1 FROM events WHERE event_id = ?)"
);

/// `changes()` is what the statement before has changed: one row if the append was admitted. A clock that
/// went back is left to the other path, and so is everything that a key refuses.
fn write(events: usize, is_new: bool) -> String {
    let admitted = if is_new { IS_NEW } else { IS_AT };
    let mut text = format!(
        "BEGIN IMMEDIATE;
         UPDATE log_head SET last_position = last_position + {events}, last_created_at = ?
         WHERE last_created_at <= ? AND {admitted} AND {NO_INLINE}
         RETURNING last_position, NULL;
         INSERT INTO events ({COLUMNS})"
    );
    for left in (0..events).rev() {
        text.push_str(&format!(
            " SELECT ?, last_position - {left}, ?, ?, ?, ?, ?, ?, ?, ? FROM log_head WHERE changes() = 1"
        ));
        text.push_str(if left == 0 { "; " } else { " UNION ALL" });
    }
    text.push_str(&format!(
        "{CONFLICT} AND {NO_INLINE} AND changes() = 0; COMMIT"
    ));
    text
}
