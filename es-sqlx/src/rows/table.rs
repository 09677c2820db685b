//! What a projection asks of its connection.

use std::future::Future;

use sqlx::SqlSafeStr;

use super::ReadModel;

/// A connection that runs SQL: `sqlx::PgConnection` or `sqlx::SqliteConnection`.
pub trait RunSql: Send + sealed::Connection {
    /// Runs one or several statements without parameters, to create a table for example.
    ///
    /// # Errors
    ///
    /// What the database says.
    fn run(
        &mut self,
        statements: impl SqlSafeStr + Send,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// A connection to a database in which `R` can be a table.
///
/// Ask for it to write a projection once for all databases:
/// `impl<C: HasTable<Occupant>> Project<C> for RoomOccupancy`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold rows of `{R}`",
    note = "`es_sqlx::read_model!` makes a row of a struct; `{Self}` must be `sqlx::PgConnection` or \
            `sqlx::SqliteConnection`, and the feature of `es-sqlx` for it be on"
)]
pub trait HasTable<R: ReadModel>: RunSql {
    /// The rows of these keys that there are.
    #[doc(hidden)]
    fn fetch(
        &mut self,
        keys: &[&R::Key],
    ) -> impl Future<Output = Result<Vec<R>, sqlx::Error>> + Send;

    /// Adds rows, or replaces those that have their keys. No key may be given twice.
    #[doc(hidden)]
    fn upsert(&mut self, rows: &[&R]) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Removes the rows of these keys.
    #[doc(hidden)]
    fn delete(&mut self, keys: &[&R::Key]) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

pub(super) mod sealed {
    /// Keeps the traits of this module to the connections of this crate.
    pub trait Connection {}
}
