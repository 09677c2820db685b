//! Where the tests run: a database of their own for each, on each of the two kinds.

use async_trait::async_trait;
use es_core::ProjectionStore;
use es_sqlx::{PgStore, SqliteStore, postgres::PgOptions};
use sqlx::{AssertSqlSafe, PgConnection, Row, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// A connection that a read model is written through. Numbers and ids stand in the text of the statements,
/// so that the SQL is the same everywhere.
#[async_trait]
pub(crate) trait Db: Send + 'static {
    /// Runs statements and returns how many rows they changed together.
    async fn change(&mut self, statements: String) -> Result<u64, sqlx::Error>;
}

#[async_trait]
impl Db for PgConnection {
    async fn change(&mut self, statements: String) -> Result<u64, sqlx::Error> {
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(self).await;
        Ok(done?.rows_affected())
    }
}

#[async_trait]
impl Db for SqliteConnection {
    async fn change(&mut self, statements: String) -> Result<u64, sqlx::Error> {
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(self).await;
        Ok(done?.rows_affected())
    }
}

/// A store with a database of its own.
#[async_trait]
pub(crate) trait Bench: Clone + Send + Sync + 'static {
    type Db: Db;
    type Store: ProjectionStore<Connection = Self::Db> + Clone + 'static;
    /// Inside a batch: lets the database end it soon if its process does not get on, which it does
    /// anyway, after a longer time. A file is held until the process dies.
    const IMPATIENCE: Option<&'static str>;

    async fn new() -> Self;
    fn store(&self) -> &Self::Store;
    /// The same database through connections of its own, as another process has.
    async fn again(&self) -> Self::Store;
    /// Runs statements beside everything else.
    async fn execute(&self, statements: &str) -> u64;
    /// Rows of a text and a number.
    async fn rows(&self, query: &str) -> Vec<(String, i64)>;

    async fn number(&self, query: &str) -> i64 {
        let query = format!("SELECT '', ({query})");
        self.rows(&query).await[0].1
    }
}

/// A file in a folder of its own.
#[derive(Clone)]
pub(crate) struct SqliteFile {
    store: SqliteStore,
    folder: std::sync::Arc<TempDir>,
}

impl SqliteFile {
    fn path(&self) -> String {
        let path = self.folder.path().join("log.db");
        path.to_str().unwrap().to_owned()
    }
}

#[async_trait]
impl Bench for SqliteFile {
    type Db = SqliteConnection;
    type Store = SqliteStore;
    const IMPATIENCE: Option<&'static str> = None;

    async fn new() -> Self {
        let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let path = folder.path().join("log.db");
        let store = SqliteStore::open(path.to_str().unwrap()).await.unwrap();
        Self { store, folder }
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    async fn again(&self) -> SqliteStore {
        SqliteStore::open(self.path()).await.unwrap()
    }

    async fn execute(&self, statements: &str) -> u64 {
        // Through the writer's queue, like everybody else of this process.
        let mut transaction = self.store.begin().await.unwrap();
        let changed = transaction.connection().change(statements.to_owned()).await;
        transaction.commit().await.unwrap();
        changed.unwrap()
    }

    async fn rows(&self, query: &str) -> Vec<(String, i64)> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned()));
        let rows = rows.fetch_all(self.store.pool()).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// For events, and as many for read models.
pub(crate) const CONNECTIONS: u32 = 6;

/// A schema on the test server.
#[derive(Clone)]
pub(crate) struct PgSchema {
    store: PgStore,
}

impl PgSchema {
    pub(crate) fn url() -> String {
        std::env::var("ES_TEST_POSTGRES_URL")
            .expect("needs a Postgres: run scripts/test, or set ES_TEST_POSTGRES_URL")
    }

    pub(crate) fn pool(&self) -> &sqlx::PgPool {
        self.store.pool()
    }
}

#[async_trait]
impl Bench for PgSchema {
    type Db = PgConnection;
    type Store = PgStore;
    const IMPATIENCE: Option<&'static str> =
        Some("SET LOCAL idle_in_transaction_session_timeout = 100");

    async fn new() -> Self {
        let schema = format!("test_{}", Uuid::now_v7().simple());
        let options = PgOptions::new(Self::url())
            .max_connections(CONNECTIONS)
            .schema(schema);
        let store = options.connect().await.expect("the test server answers");
        store.migrate().await.expect("the schema is empty");
        Self { store }
    }

    fn store(&self) -> &PgStore {
        &self.store
    }

    async fn again(&self) -> PgStore {
        let options = PgOptions::new(Self::url()).max_connections(CONNECTIONS);
        let options = options.schema(self.store.schema());
        options.connect().await.unwrap()
    }

    async fn execute(&self, statements: &str) -> u64 {
        let mut connection = self.pool().acquire().await.unwrap();
        connection.change(statements.to_owned()).await.unwrap()
    }

    async fn rows(&self, query: &str) -> Vec<(String, i64)> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned()));
        let rows = rows.fetch_all(self.pool()).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}
