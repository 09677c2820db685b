//! The test server, and a schema of its own for each test.

use std::time::{Duration, SystemTime};

use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;
use uuid::{Timestamp, Uuid};

/// The address of a server that tests may use.
pub(crate) fn url() -> String {
    std::env::var("ES_TEST_POSTGRES_URL")
        .expect("needs a Postgres: run scripts/test, or set ES_TEST_POSTGRES_URL")
}

/// The name of a schema that nobody else uses.
pub(crate) fn fresh_schema() -> String {
    format!("test_{}", Uuid::now_v7().simple())
}

/// A store with its tables in a schema of its own. A throw-away server forgets it; on one that stays,
/// a later test clears it away.
pub(crate) async fn fresh_store() -> PgStore {
    let options = match std::env::var_os("ES_TEST_POSTGRES_POOLED") {
        None => PgOptions::new(url()).max_connections(8),
        // Behind a pooler that shares connections they are left as they are, and nobody listens.
        Some(_) => {
            let address: PgConnectOptions = url().parse().expect("an address");
            let pool = PgPoolOptions::new()
                .max_connections(8)
                .connect_lazy_with(address);
            PgOptions::from_pool(pool).notify(false)
        }
    };
    let options = options.schema(fresh_schema());
    let store = options.connect().await.expect("the test server answers");
    store.migrate().await.expect("the schema is empty");
    SWEPT.get_or_init(|| sweep(store.pool())).await;
    store
}

static SWEPT: OnceCell<()> = OnceCell::const_new();

/// Drops what tests left more than an hour ago, also those that failed: the names tell the time.
async fn sweep(pool: &PgPool) {
    let query =
        sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'test\\_%'");
    let schemas: Vec<String> = query
        .fetch_all(pool)
        .await
        .expect("the catalogue is readable");
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    let (hour_ago, _) = Timestamp::try_from(hour_ago).expect("after 1970").to_unix();
    for schema in schemas {
        let id = schema
            .strip_prefix("test_")
            .and_then(|id| Uuid::try_parse(id).ok());
        let made = id
            .and_then(|id| id.get_timestamp())
            .map(|time| time.to_unix().0);
        if made.is_some_and(|made| made < hour_ago) {
            // Another process may be sweeping too.
            let drop = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE"));
            let _ = sqlx::query(drop).execute(pool).await;
        }
    }
}
