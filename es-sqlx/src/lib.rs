//! Postgres and SQLite stores for [`es_core`].
//!
//! Choose by feature: `postgres` gives [`PgStore`], `sqlite` gives [`SqliteStore`]; neither is on by
//! default. What both do stands in files of the same names: read one, know both.

mod error;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod head;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod queue;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod rows;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod tables;

pub use self::error::OpenError;
#[cfg(feature = "postgres")]
pub use self::postgres::PgStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
