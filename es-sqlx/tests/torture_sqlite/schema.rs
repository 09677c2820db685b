//! Tables that are not as the statements need them.

use es_sqlx::{OpenError, SqliteStore};
use sqlx::Connection;

use crate::{
    file::{File, run},
    oracle::{add, lamp},
    torture::checkpoints,
};

/// A projection of other types is refused before anything is written. Seen to fail when the types are
/// not compared.
#[tokio::test]
async fn schema_mismatch() {
    checkpoints::changed_type_list(File::new().open().await).await;
}

/// Each is refused when the file is opened, with what is missing in the message, and the file stays as
/// it is. Seen to fail when `open` did not look at columns, keys and triggers.
#[tokio::test]
async fn schema_mismatch_of_tables() {
    for (damage, named) in [
        (
            "ALTER TABLE snapshots DROP COLUMN fingerprint",
            "fingerprint",
        ),
        (
            "ALTER TABLE projection_shards RENAME COLUMN epoch TO era",
            "epoch",
        ),
        (
            "ALTER TABLE projection_nodes DROP COLUMN runs",
            "projection_nodes.runs",
        ),
        (
            "DROP INDEX idx_dead_letters_position",
            "idx_dead_letters_position",
        ),
        ("DROP TABLE snapshots", "snapshots"),
        (
            "DROP INDEX idx_events_aggregate",
            "events(aggregate_id, event_version)",
        ),
        (
            "DROP INDEX idx_events_aggregate;
             CREATE INDEX idx_events_aggregate ON events (aggregate_id, event_version)",
            "events(aggregate_id, event_version)",
        ),
        (
            "DROP INDEX idx_events_type_position",
            "idx_events_type_position",
        ),
        ("DROP TRIGGER events_no_delete", "events_no_delete"),
        ("DELETE FROM log_head", "log_head"),
    ] {
        let file = File::new();
        let store = file.open().await;
        add(&store, &lamp(), 1).await;
        store.close().await;
        let mut db = file.stranger().await;
        run(&mut db, damage).await;
        db.close().await.unwrap();
        let before = std::fs::read(file.path()).unwrap();

        let error = SqliteStore::open(file.path()).await.unwrap_err();
        assert!(matches!(error, OpenError::Misconfigured { .. }), "{error}");
        assert!(error.to_string().contains(named), "{damage}: {error}");
        assert!(before == std::fs::read(file.path()).unwrap());
    }
}
