//! What can go wrong before a store can be used, and how driver errors are classified.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use std::error::Error;

use es_core::{BoxError, ProjectionId};

/// Why a store could not be opened, migrated or checked. Nothing was written, and passwords in URLs
/// are never repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL or path cannot be one of this backend.
    #[error("not a valid {backend} address: {problem}")]
    InvalidAddress {
        /// The backend.
        backend: &'static str,
        /// What is wrong, and what a valid one looks like.
        problem: String,
    },
    /// There is no database there, or it does not let us in.
    #[error(
        "could not open the {backend} database at {address}; check that it runs, exists and may be written"
    )]
    Unreachable {
        /// The backend.
        backend: &'static str,
        /// Where, without the password.
        address: String,
        /// Whether it may succeed later.
        transient: bool,
        /// What the driver said.
        source: BoxError,
    },
    /// The database holds tables of another program under our names.
    #[error(
        "the database at {address} is not an event store of ours: {problem}; choose another database, or another schema"
    )]
    Foreign {
        /// Where, without the password.
        address: String,
        /// What was found.
        problem: String,
    },
    /// A newer program has migrated the database.
    #[error(
        "the database at {address} has migration {found}, this program knows up to {known}; deploy the newer program"
    )]
    Newer {
        /// Where, without the password.
        address: String,
        /// The newest migration found.
        found: u32,
        /// The newest migration this program knows.
        known: u32,
    },
    /// The database is ours but set up so that events could be lost.
    #[error("the database at {address} must not be used: {problem}")]
    Misconfigured {
        /// Where, without the password.
        address: String,
        /// What is wrong, and how to repair it.
        problem: String,
    },
    /// A projection cannot run inside the appends to this database. Nothing of it was kept.
    #[error("projection `{projection}` cannot run inside the appends: {problem}")]
    Inline {
        /// The projection.
        projection: ProjectionId,
        /// Why, and what to do.
        problem: String,
    },
    /// The driver failed.
    #[error("could not {action} the database at {address}")]
    Backend {
        /// Where, without the password.
        address: String,
        /// What was being done.
        action: &'static str,
        /// Whether it may succeed later.
        transient: bool,
        /// What the driver said.
        source: BoxError,
    },
}

impl OpenError {
    /// Whether trying again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable {
                transient: true,
                ..
            } | Self::Backend {
                transient: true,
                ..
            }
        )
    }
}

/// Whether the same statement may succeed later: lost or confused connections, time-outs, and the codes that
/// say "try again" (Postgres 25P03, 40001, 40P01, 55P03, 57014, 57P01–03, 53xxx; SQLITE_BUSY, SQLITE_LOCKED).
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            let code = code.as_ref();
            match code.parse::<i32>() {
                // SQLite reports extended codes in decimal; the primary code is the low byte.
                Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6),
                _ => {
                    matches!(
                        code,
                        "25P03"
                            | "40001"
                            | "40P01"
                            | "55P03"
                            | "57014"
                            | "57P01"
                            | "57P02"
                            | "57P03"
                    ) || code.starts_with("53")
                        || code.starts_with("08")
                }
            }
        }),
        _ => false,
    }
}

/// Whether an error, or one of its causes, comes from the driver and may be gone when it is tried again.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn has_transient_cause(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(is_transient) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the connection broke, so that nobody knows how far the statement came.
#[cfg(feature = "postgres")]
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // admin_shutdown, crash_shutdown: said to a connection that was idle before.
        sqlx::Error::Database(database) => {
            matches!(database.code().as_deref(), Some("57P01" | "57P02"))
        }
        _ => false,
    }
}

/// Adds the next step where the driver's error alone would not tell it.
#[cfg(feature = "postgres")]
pub(crate) fn explain(error: sqlx::Error) -> BoxError {
    match next_step(&error) {
        Some(step) => Box::new(Explained { step, error }),
        None => error.into(),
    }
}

/// What to do about an error, by its code.
#[cfg(feature = "postgres")]
pub(crate) fn next_step(error: &sqlx::Error) -> Option<&'static str> {
    match error.as_database_error()?.code()?.as_ref() {
        // undefined_table, invalid_schema_name
        "42P01" | "3F000" => Some("the tables are not there; call `PgStore::migrate()` first"),
        // insufficient_privilege
        "42501" => Some("the role lacks a right; `roles/postgres.sql` has what it needs"),
        // no_active_sql_transaction
        "25P01" => Some("no transaction is open on this connection; begin one first"),
        // in_failed_sql_transaction
        "25P02" => Some("an earlier statement of this transaction has failed; roll it back"),
        _ => None,
    }
}

/// An error with the next step.
#[cfg(feature = "postgres")]
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
struct Explained {
    step: &'static str,
    #[source]
    error: sqlx::Error,
}
