//! A row of ours, and what to say where it is damaged.

use es_core::{Marks, Position, ReadError};
use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow};

pub(super) struct Cells<'r> {
    pub(super) row: &'r PgRow,
    /// Which row it is, for people.
    pub(super) what: &'static str,
}

impl<'r> Cells<'r> {
    pub(super) fn get<T: Decode<'r, Postgres> + Type<Postgres>>(
        &self,
        column: &str,
    ) -> Result<T, ReadError> {
        // The driver's error may quote the content.
        self.row.try_get(column).map_err(|_| self.damaged(column))
    }

    pub(super) fn count(&self, column: &str) -> Result<u32, ReadError> {
        let count: i32 = self.get(column)?;
        u32::try_from(count).map_err(|_| self.damaged(column))
    }

    pub(super) fn position(&self, column: &str) -> Result<Position, ReadError> {
        let position: i64 = self.get(column)?;
        u64::try_from(position)
            .map(Position::new)
            .map_err(|_| self.damaged(column))
    }

    /// From text that not all values have.
    pub(super) fn parse<T>(
        &self,
        column: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ReadError> {
        self.parse_some(column, parse)?
            .ok_or_else(|| self.damaged(column))
    }

    /// The same where there may be none.
    pub(super) fn parse_some<T>(
        &self,
        column: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        match self.get(column)? {
            None => Ok(None),
            Some(text) => match parse(text) {
                None => Err(self.damaged(column)),
                value => Ok(value),
            },
        }
    }

    /// NULL where there are none.
    pub(super) fn marks(&self, column: &str) -> Result<Marks, ReadError> {
        let marks = self.parse_some(column, |text| serde_json::from_str(text).ok())?;
        Ok(marks.unwrap_or_default())
    }

    fn damaged(&self, column: &str) -> ReadError {
        ReadError::Corrupt {
            what: self.what.to_owned(),
            problem: format!("column `{column}` does not hold what it must"),
        }
    }
}
