//! What can go wrong with rows.

use std::fmt::Debug;

use super::ReadModel;

/// Why rows could not be read, changed or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// A row to insert is there already.
    #[error("table `{table}` has a row {key} already; `put` would replace it")]
    Exists {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
    },

    /// A row to change is not there.
    #[error("table `{table}` has no row {key}")]
    Missing {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
    },

    /// Nobody knows whether there is such a row.
    #[error("row {key} of table `{table}` was not loaded; name its key when loading")]
    NotLoaded {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
    },

    /// The key of a row was changed while the row was.
    #[error("row {key} of table `{table}` was given another key; remove it and insert a new one")]
    KeyChanged {
        /// The table.
        table: &'static str,
        /// The key it had.
        key: String,
    },

    /// The database has a row of a key that it was not asked for, because it takes two keys for the same
    /// that are not.
    #[error(
        "table `{table}` answered with row {key}, which is not what was asked for; give its key a column \
         that keeps values as they are"
    )]
    NotAsked {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
    },

    /// The database failed.
    #[error("could not {action} rows of table `{table}`")]
    Database {
        /// The table.
        table: &'static str,
        /// What was to be done.
        action: &'static str,
        /// What it says.
        source: sqlx::Error,
    },
}

impl RowsError {
    pub(super) fn exists<R: ReadModel>(key: &R::Key) -> Self {
        let (table, key) = of::<R>(key);
        Self::Exists { table, key }
    }

    pub(super) fn missing<R: ReadModel>(key: &R::Key) -> Self {
        let (table, key) = of::<R>(key);
        Self::Missing { table, key }
    }

    pub(super) fn not_loaded<R: ReadModel>(key: &R::Key) -> Self {
        let (table, key) = of::<R>(key);
        Self::NotLoaded { table, key }
    }

    pub(super) fn key_changed<R: ReadModel>(key: &R::Key) -> Self {
        let (table, key) = of::<R>(key);
        Self::KeyChanged { table, key }
    }

    pub(super) fn not_asked<R: ReadModel>(key: &R::Key) -> Self {
        let (table, key) = of::<R>(key);
        Self::NotAsked { table, key }
    }

    pub(super) fn database<R: ReadModel>(
        action: &'static str,
    ) -> impl FnOnce(sqlx::Error) -> RowsError {
        move |source| Self::Database {
            table: R::TABLE,
            action,
            source,
        }
    }
}

fn of<R: ReadModel>(key: &R::Key) -> (&'static str, String) {
    (R::TABLE, format!("{key:?}"))
}
