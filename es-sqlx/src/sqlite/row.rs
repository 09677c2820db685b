//! A row of `events` and the event it holds, and what all rows have in common.

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Timelike, Utc};
use es_core::{Json, Metadata, Name, Position, ReadError, RecordedEvent, Version};
use sqlx::{Row, Sqlite, sqlite::SqliteRow};

/// The columns that [`event`] reads.
macro_rules! columns {
    () => {
        "position, event_id, aggregate_id, aggregate_type, event_type, event_version, \
         schema_version, event_data, metadata, created_at"
    };
}
pub(super) use columns;

/// The database's clock in milliseconds.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}
pub(super) use now;

/// Six decimals always, so that the texts sort like the times.
pub(super) fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The least text that is not before `time`, which may be finer or farther than the column is.
pub(super) fn bound(time: DateTime<Utc>) -> String {
    let beyond = TimeDelta::nanoseconds(i64::from(time.nanosecond() % 1000));
    let up = match beyond.is_zero() {
        true => Some(time),
        false => time.checked_add_signed(TimeDelta::microseconds(1) - beyond),
    };
    match up {
        Some(time) if time.year() < 0 => String::new(),
        Some(time) if time.year() <= 9999 => timestamp(time),
        // After every digit.
        _ => "~".to_owned(),
    }
}

pub(super) fn position(position: i64) -> Result<Position, ReadError> {
    match u64::try_from(position) {
        Ok(position) => Ok(Position::new(position)),
        Err(_) => Err(ReadError::Corrupt {
            what: "a position".to_owned(),
            problem: format!("it is negative: {position}"),
        }),
    }
}

/// For parameters: what is above SQLite's integers is above every position.
pub(super) fn parameter(position: Position) -> i64 {
    i64::try_from(position.get()).unwrap_or(i64::MAX)
}

pub(super) fn event(row: &SqliteRow) -> Result<RecordedEvent, ReadError> {
    let position = position(row.try_get("position").unwrap_or(-1))?;
    let row = Cells {
        row,
        what: format_args!("the event at position {position}"),
    };
    let metadata = match row.get::<Option<String>>("metadata")? {
        None => Metadata::default(),
        Some(text) => serde_json::from_str(&text).map_err(|_| row.damaged("metadata"))?,
    };
    Ok(RecordedEvent {
        event_id: row.get("event_id")?,
        aggregate_id: row.get("aggregate_id")?,
        aggregate_type: Name::from(row.get::<String>("aggregate_type")?),
        event_type: Name::from(row.get::<String>("event_type")?),
        event_version: Version::new(row.get("event_version")?),
        created_at: row.time("created_at")?,
        event_data: Json::from_stored(row.get::<String>("event_data")?),
        position,
        schema_version: row.get("schema_version")?,
        metadata,
    })
}

/// The columns of a row. What does not fit is told without its content.
pub(super) struct Cells<'r, W> {
    pub(super) row: &'r SqliteRow,
    /// Which row.
    pub(super) what: W,
}

impl<'r, W: fmt::Display> Cells<'r, W> {
    pub(super) fn get<T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
        &self,
        column: &'static str,
    ) -> Result<T, ReadError> {
        // The driver's error may quote the content.
        self.row.try_get(column).map_err(|_| self.damaged(column))
    }

    fn time(&self, column: &'static str) -> Result<DateTime<Utc>, ReadError> {
        let text: String = self.get(column)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| self.damaged(column))?;
        Ok(time.to_utc())
    }

    /// Milliseconds since 1970.
    pub(super) fn moment(&self, column: &'static str) -> Result<DateTime<Utc>, ReadError> {
        DateTime::from_timestamp_millis(self.get(column)?).ok_or_else(|| self.damaged(column))
    }

    /// What has a name: the state of a projection, say.
    pub(super) fn named<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ReadError> {
        let text: String = self.get(column)?;
        parse(&text).ok_or_else(|| self.damaged(column))
    }

    fn damaged(&self, column: &'static str) -> ReadError {
        ReadError::Corrupt {
            what: self.what.to_string(),
            problem: format!("column `{column}` does not hold what it must"),
        }
    }
}
