//! The rows of an append, in as few trips to the driver's thread as there are.

use std::sync::{Arc, OnceLock};

use es_core::{Append, Appended, NewEvent, Position, RecordedEvent, StreamId, Version};
use sqlx::{
    Arguments, AssertSqlSafe, SqlSafeStr, SqlStr, SqliteConnection, error::BoxDynError,
    sqlite::SqliteArguments,
};

use super::admit::Head;

/// Rows of one statement. It stays prepared for each number of rows.
const ROWS_MAX: usize = 128;

/// How many statements the writer's connection must keep prepared.
pub(super) const KEPT: usize = 3 * ROWS_MAX + 64;

/// In the order in which they are bound.
pub(super) const COLUMNS: &str =
    "created_at, position, event_id, aggregate_id, aggregate_type, event_type,
    event_version, event_data, schema_version, metadata";

/// An append that was admitted to a stream at version `after`.
#[derive(Clone, Copy)]
pub(super) struct Admitted<'a> {
    pub(super) append: &'a Append,
    pub(super) after: Version,
}

/// What stands around the rows in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    Nothing,
    /// `SAVEPOINT es_append` before the first of them.
    Savepoint,
    /// `COMMIT` after the last of them.
    Commit,
}

/// Adds the events of `admitted` to the log that ends at `head`, and moves `head`.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    head: &mut Head,
    admitted: &[Admitted<'_>],
    around: Around,
) -> Result<Vec<Appended>, sqlx::Error> {
    let created_at: Arc<str> = head.timestamp().into();
    let rows: Vec<_> = admitted.iter().flat_map(Admitted::rows).collect();
    let chunks = rows.chunks(ROWS_MAX);
    let last = chunks.len().saturating_sub(1);
    let mut before = head.position;
    for (index, chunk) in chunks.enumerate() {
        let around = match around {
            Around::Savepoint if index == 0 => around,
            Around::Commit if index == last => around,
            _ => Around::Nothing,
        };
        let arguments = arguments(chunk, before, &created_at).map_err(sqlx::Error::Encode)?;
        sqlx::query_with(text(chunk.len(), around), arguments)
            .execute(&mut *db)
            .await?;
        before += count(chunk.len());
    }
    Ok(admitted.iter().map(|append| append.answer(head)).collect())
}

struct Row<'a> {
    stream: &'a StreamId,
    event: &'a NewEvent,
    version: u32,
}

impl<'a> Admitted<'a> {
    fn rows(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let append = self.append;
        let events = append.events.iter().zip(self.after.get() + 1..);
        events.map(|(event, version)| Row {
            stream: &append.stream,
            event,
            version,
        })
    }

    fn answer(&self, head: &mut Head) -> Appended {
        head.position += count(self.append.events.len());
        Appended {
            // It was admitted because it fits.
            version: self
                .after
                .after(self.append.events.len())
                .unwrap_or(Version::MAX),
            position: Position::new(u64::try_from(head.position).unwrap_or_default()),
        }
    }

    /// The events as they were recorded up to `head`.
    pub(super) fn records(&self, appended: Appended, head: &Head) -> Vec<RecordedEvent> {
        let before = appended.position.get() - self.append.events.len() as u64;
        let rows = self.rows().zip(before + 1..);
        rows.map(|(row, position)| RecordedEvent {
            event_id: row.event.event_id,
            aggregate_id: row.stream.aggregate_id,
            aggregate_type: row.stream.aggregate_type.clone(),
            event_type: row.event.event_type.clone(),
            event_version: Version::new(row.version),
            created_at: head.created_at,
            event_data: row.event.event_data.clone(),
            position: Position::new(position),
            schema_version: row.event.schema_version,
            metadata: row.event.metadata.clone(),
        })
        .collect()
    }
}

fn arguments(
    rows: &[Row<'_>],
    before: i64,
    created_at: &Arc<str>,
) -> Result<SqliteArguments, BoxDynError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(1 + 10 * rows.len(), 0);
    arguments.add(Arc::clone(created_at))?;
    for (row, position) in rows.iter().zip(before + 1..) {
        arguments.add(Arc::clone(created_at))?;
        arguments.add(position)?;
        add_event(&mut arguments, row.stream, row.event, row.version)?;
    }
    Ok(arguments)
}

/// The columns of an event from its id on, in the order of [`COLUMNS`].
pub(super) fn add_event(
    arguments: &mut SqliteArguments,
    stream: &StreamId,
    event: &NewEvent,
    version: u32,
) -> Result<(), BoxDynError> {
    arguments.add(event.event_id)?;
    arguments.add(stream.aggregate_id)?;
    arguments.add(stream.aggregate_type.as_str())?;
    arguments.add(event.event_type.as_str())?;
    arguments.add(version)?;
    arguments.add(event.event_data.as_str())?;
    arguments.add(event.schema_version)?;
    arguments.add(metadata(event)?)
}

fn metadata(event: &NewEvent) -> Result<Option<String>, serde_json::Error> {
    match event.metadata.is_empty() {
        true => Ok(None),
        false => serde_json::to_string(&event.metadata).map(Some),
    }
}

/// The same text for the same number of rows, so that it is prepared once. Parameters have no numbers:
/// the driver would ask for the name of each, which SQLite looks for in a list.
fn text(rows: usize, around: Around) -> SqlStr {
    static TEXTS: [[OnceLock<Arc<str>>; 3]; ROWS_MAX + 1] =
        [const { [const { OnceLock::new() }; 3] }; ROWS_MAX + 1];
    let text = TEXTS[rows][around as usize].get_or_init(|| write(rows, around).into());
    AssertSqlSafe(Arc::clone(text)).into_sql_str()
}

fn write(rows: usize, around: Around) -> String {
    let before = match around {
        Around::Savepoint => "SAVEPOINT es_append; ",
        Around::Nothing | Around::Commit => "",
    };
    let mut text = format!(
        "{before}UPDATE log_head SET last_position = last_position + {rows}, last_created_at = ?; \
         INSERT INTO events ({COLUMNS}) VALUES "
    );
    for row in 0..rows {
        text.push_str(if row == 0 { "" } else { ", " });
        text.push_str("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    }
    if around == Around::Commit {
        text.push_str("; COMMIT");
    }
    text
}

fn count(events: usize) -> i64 {
    i64::try_from(events).unwrap_or(i64::MAX)
}
