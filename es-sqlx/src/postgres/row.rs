//! A row of `events` and the event it holds.

use chrono::NaiveDateTime;
use es_core::{Json, Metadata, Name, Position, ReadError, RecordedEvent, Version};
use sqlx::{Postgres, Row, postgres::PgRow};

/// The columns that [`event`] reads. JSON comes as the text it was stored as.
pub(super) const COLUMNS: &str = "position, event_id, aggregate_id, aggregate_type, event_type,
    event_version, schema_version, event_data::text AS event_data, metadata::text AS metadata,
    created_at";

pub(super) fn position(position: i64) -> Result<Position, ReadError> {
    match u64::try_from(position) {
        Ok(position) => Ok(Position::new(position)),
        Err(_) => Err(ReadError::Corrupt {
            what: "a position".to_owned(),
            problem: format!("it is negative: {position}"),
        }),
    }
}

/// For parameters: what is above the column's range is above every position.
pub(super) fn parameter(position: Position) -> i64 {
    i64::try_from(position.get()).unwrap_or(i64::MAX)
}

/// For parameters: what is above the column's range is above every version.
pub(super) fn version_parameter(version: Version) -> i32 {
    i32::try_from(version.get()).unwrap_or(i32::MAX)
}

pub(super) fn event(row: &PgRow) -> Result<RecordedEvent, ReadError> {
    let position = position(row.try_get("position").unwrap_or(-1))?;
    let row = Cells { row, position };
    let metadata = match row.get::<Option<String>>("metadata")? {
        None => Metadata::default(),
        Some(text) => serde_json::from_str(&text).map_err(|_| row.damaged("metadata"))?,
    };
    Ok(RecordedEvent {
        event_id: row.get("event_id")?,
        aggregate_id: row.get("aggregate_id")?,
        aggregate_type: Name::from(row.get::<String>("aggregate_type")?),
        event_type: Name::from(row.get::<String>("event_type")?),
        event_version: Version::new(row.count("event_version")?),
        created_at: row.get::<NaiveDateTime>("created_at")?.and_utc(),
        event_data: Json::from_stored(row.get::<String>("event_data")?),
        position,
        schema_version: row.count("schema_version")?,
        metadata,
    })
}

struct Cells<'r> {
    row: &'r PgRow,
    position: Position,
}

impl<'r> Cells<'r> {
    fn get<T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>>(
        &self,
        column: &'static str,
    ) -> Result<T, ReadError> {
        // The driver's error may quote the content.
        self.row.try_get(column).map_err(|_| self.damaged(column))
    }

    fn count(&self, column: &'static str) -> Result<u32, ReadError> {
        let count: i32 = self.get(column)?;
        u32::try_from(count).map_err(|_| self.damaged(column))
    }

    fn damaged(&self, column: &'static str) -> ReadError {
        ReadError::Corrupt {
            what: format!("the event at position {}", self.position),
            problem: format!("column `{column}` does not hold what it must"),
        }
    }
}
