//! The contract on SQLite: in a file and in memory.
#![cfg(feature = "sqlite")]

use es_sqlx::SqliteStore;

mod file {
    use super::SqliteStore;

    async fn fresh() -> SqliteStore {
        // The folder outlives the store: the operating system forgets it, not the test.
        let folder = tempfile::tempdir().unwrap().keep();
        let file = folder.join("events.db");
        SqliteStore::open(file.to_string_lossy()).await.unwrap()
    }

    es_conformance::store_tests!(fresh());
    es_conformance::property_tests!(fresh());
}

mod memory {
    use super::SqliteStore;

    es_conformance::store_tests!(async { SqliteStore::in_memory().await.unwrap() });
    es_conformance::property_tests!(async { SqliteStore::in_memory().await.unwrap() });
}
