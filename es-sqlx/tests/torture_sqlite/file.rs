//! A file for each test, the store in it, and connections that go past the store.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use es_sqlx::SqliteStore;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;

use crate::oracle::{Tallies, Tally};

/// Where a child process finds the file.
const FILE: &str = "ES_TEST_FILE";

pub(crate) struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        Self {
            _folder: folder,
            path,
        }
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        let store = SqliteStore::open(self.path.to_str().unwrap()).await;
        store.unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A connection that knows nothing of the store.
    pub(crate) async fn stranger(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(std::time::Duration::from_secs(20));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    /// Starts an ignored test of this binary as a process of its own.
    pub(crate) fn child(&self, test: &str) -> Process {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored"])
            .env(FILE, &self.path)
            .stdout(Stdio::null())
            .spawn();
        Process(child.unwrap())
    }
}

/// Another process. Dropping it is `kill -9`.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The store of the test that started this process; `None` where somebody runs all ignored tests.
pub(crate) async fn store_of_parent() -> Option<SqliteStore> {
    let file = std::env::var(FILE).ok()?;
    Some(SqliteStore::open(file).await.unwrap())
}

pub(crate) async fn run(connection: &mut SqliteConnection, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(connection)
        .await
        .unwrap();
}

/// What the table says, for comparison with a read model.
pub(crate) async fn fold(store: &SqliteStore) -> Tallies {
    let sql = "SELECT aggregate_id, max(event_version), count(*) FROM events GROUP BY 1";
    let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(sql).fetch_all(store.pool()).await.unwrap();
    rows.into_iter()
        .map(|(aggregate, version, count)| (aggregate, Tally { version, count }))
        .collect()
}

/// Everything is as SQLite needs it.
pub(crate) async fn assert_sound(store: &SqliteStore) {
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(verdict, "ok");
}

/// What someone can do who means it.
pub(crate) const UNPROTECTED: &str = "DROP TRIGGER events_no_delete";
/// The store is not opened without it.
pub(crate) const PROTECTED: &str = "CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only: DELETE refused'); END";
