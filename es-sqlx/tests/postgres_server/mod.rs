//! The test server, and a schema of its own for each test.

use es_sqlx::{PgStore, postgres::PgOptions};

/// The address of a server that tests may use.
pub(crate) fn url() -> String {
    std::env::var("ES_TEST_POSTGRES_URL")
        .expect("needs a Postgres: run scripts/test, or set ES_TEST_POSTGRES_URL")
}

/// The name of a schema that nobody else uses.
pub(crate) fn fresh_schema() -> String {
    format!("test_{}", uuid::Uuid::now_v7().simple())
}

/// A store with its tables in a schema of its own. The throw-away server forgets it.
pub(crate) async fn fresh_store() -> PgStore {
    let options = PgOptions::new(url())
        .schema(fresh_schema())
        .max_connections(8);
    let store = options.connect().await.expect("the test server answers");
    store.migrate().await.expect("the schema is empty");
    store
}
