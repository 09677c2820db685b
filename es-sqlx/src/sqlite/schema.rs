//! The tables: whose they are, and bringing them up to date.

use std::path::Path;

use sqlx::{Connection, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};

use super::layout;
use crate::{OpenError, error::is_transient};

/// Marks a file as ours in its header: "es_1".
const APPLICATION_ID: i64 = 0x6573_5f31;

/// All migrations with their names, oldest first; the first is version 1.
const MIGRATIONS: [(&str, &str); 3] = [
    (
        "events",
        include_str!("../../migrations/sqlite/0001_events.sql"),
    ),
    (
        "erasure",
        include_str!("../../migrations/sqlite/0002_erasure.sql"),
    ),
    (
        "projections",
        include_str!("../../migrations/sqlite/0003_projections.sql"),
    ),
];

const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS es_migrations (
    version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)";
const APPLIED: &str = "INSERT INTO es_migrations (version, name, applied_at)
    VALUES (?1, ?2, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))";
const IS_OURS: &str = "SELECT count(*) = 3 FROM pragma_table_info('es_migrations')
    WHERE name IN ('version', 'name', 'applied_at')";
const OUR_NAME: &str = "SELECT name FROM sqlite_schema WHERE name IN
    ('events', 'snapshots', 'log_head', 'projection_shards', 'projection_nodes',
     'projection_dead_letters', 'es_migrations') LIMIT 1";
const NEWEST: &str = "SELECT coalesce(max(version), 0) FROM es_migrations";

/// Looks at a file before anything is written to it, be it only the switch to WAL.
pub(super) async fn look(path: &Path, address: &str) -> Result<(), OpenError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(OpenError::InvalidAddress {
                backend: "SQLite",
                problem: format!("{address} is a folder; name a file in it"),
            });
        }
        Ok(metadata) if metadata.len() > 0 => {}
        // Nothing there yet: opening will say if it cannot be created.
        _ => return Ok(()),
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .map_err(|source| unreachable(address, source))?;
    let verdict = judge(&mut connection, address).await;
    // A connection that only read has nothing to lose.
    let _ = connection.close().await;
    verdict.map(|_| ())
}

/// The newest migration in the database, or 0 if it is empty. Looked at in one snapshot: another
/// process may be migrating.
async fn judge(connection: &mut SqliteConnection, address: &str) -> Result<u32, OpenError> {
    let foreign = |problem: &str| OpenError::Foreign {
        address: address.to_owned(),
        problem: problem.to_owned(),
    };
    let failed = |source| failed(address, "look at", source);
    let mut snapshot = connection.begin().await.map_err(failed)?;
    let id: i64 = match sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *snapshot)
        .await
    {
        Ok(id) => id,
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("26") => {
            return Err(foreign("it is not a SQLite file"));
        }
        Err(source) => return Err(unreachable(address, source)),
    };
    if id != 0 && id != APPLICATION_ID {
        return Err(foreign("its header names another program"));
    }
    // Not the header alone: a restored dump has lost it.
    let is_ours: bool = sqlx::query_scalar(IS_OURS)
        .fetch_one(&mut *snapshot)
        .await
        .map_err(failed)?;
    if !is_ours {
        let taken: Option<String> = sqlx::query_scalar(OUR_NAME)
            .fetch_optional(&mut *snapshot)
            .await
            .map_err(failed)?;
        return match taken {
            None => Ok(0),
            Some(name) => Err(foreign(&format!(
                "it has a table named `{name}` that we did not make"
            ))),
        };
    }
    let found: i64 = sqlx::query_scalar(NEWEST)
        .fetch_one(&mut *snapshot)
        .await
        .map_err(failed)?;
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(OpenError::Newer {
            address: address.to_owned(),
            found,
            known,
        });
    }
    if found == known {
        layout::check(&mut snapshot, found, address).await?;
    }
    Ok(found)
}

/// Of many processes the one that gets the write lock migrates, the others find it done. If
/// nothing is to be done the lock is not asked for: another process may be holding it for long.
pub(super) async fn migrate(writer: &SqlitePool, address: &str) -> Result<(), OpenError> {
    let failed = |source| failed(address, "migrate", source);
    let mut connection = writer.acquire().await.map_err(failed)?;
    if judge(&mut connection, address).await? as usize == MIGRATIONS.len() {
        return Ok(());
    }
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    let applied = judge(&mut transaction, address).await?;
    let missing = MIGRATIONS.iter().zip(1_i64..).skip(applied as usize);
    for ((name, sql), version) in missing {
        sqlx::raw_sql(*sql)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(CREATE_VERSIONS)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(APPLIED)
            .bind(version)
            .bind(*name)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    if applied == 0 {
        // 0x65735f31: a pragma takes no parameters.
        sqlx::raw_sql("PRAGMA application_id = 1702059825")
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    // What was made is held to the same rules as what was found.
    judge(&mut transaction, address).await?;
    transaction.commit().await.map_err(failed)
}

fn unreachable(address: &str, source: sqlx::Error) -> OpenError {
    OpenError::Unreachable {
        backend: "SQLite",
        address: address.to_owned(),
        transient: is_transient(&source),
        source: source.into(),
    }
}

pub(super) fn failed(address: &str, action: &'static str, source: sqlx::Error) -> OpenError {
    if is_read_only(&source) {
        return unreachable(address, source);
    }
    OpenError::Backend {
        address: address.to_owned(),
        action,
        transient: is_transient(&source),
        source: source.into(),
    }
}

/// SQLITE_READONLY, in the low byte of the extended code.
fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.parse::<i32>().is_ok_and(|code| code & 0xff == 8))
}
