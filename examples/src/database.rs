//! One address, either database.

use es_sqlx::{OpenError, PgStore, SqliteStore, postgres::PgOptions};

/// A store that was opened by its address.
#[derive(Debug)]
pub enum Database {
    /// A SQLite file.
    Sqlite(SqliteStore),
    /// A schema on a Postgres server.
    Postgres(PgStore),
}

/// Opens `postgres://…` or a SQLite file, and brings its tables up to date.
///
/// # Errors
///
/// If there is no such database, or it is not ours.
pub async fn open(address: &str, schema: &str) -> Result<Database, OpenError> {
    if address.starts_with("postgres:") || address.starts_with("postgresql:") {
        let store = PgOptions::new(address).schema(schema).connect().await?;
        store.migrate().await?;
        return Ok(Database::Postgres(store));
    }
    SqliteStore::open(address).await.map(Database::Sqlite)
}
