//! Tables that are not as the statements need them.

use es_sqlx::{OpenError, postgres::PgOptions};

use crate::{
    oracle::{add, lamp},
    postgres_server::{fresh_store, url},
    torture::checkpoints,
    tricks::{run, session},
};

/// Each is refused when the store is opened and when it is migrated, with what is missing in the
/// message, and the tables stay as they are. Seen to fail when `check_columns` or the comparison of
/// types is left out.
#[tokio::test]
async fn schema_mismatch() {
    for (damage, named) in [
        ("ALTER TABLE events DROP COLUMN metadata", "events.metadata"),
        ("ALTER TABLE events DROP COLUMN position", "events.position"),
        (
            "ALTER TABLE projection_shards RENAME COLUMN epoch TO era",
            "projection_shards.epoch",
        ),
        (
            "ALTER TABLE snapshots DROP COLUMN fingerprint",
            "snapshots.fingerprint",
        ),
        ("DROP TABLE snapshots", "snapshots.snapshot_id"),
        (
            "ALTER TABLE events DROP CONSTRAINT events_pkey",
            "events_pkey",
        ),
        (
            "ALTER TABLE events DROP CONSTRAINT idx_events_aggregate",
            "idx_events_aggregate",
        ),
        (
            "ALTER TABLE events DROP CONSTRAINT events_position",
            "events_position",
        ),
    ] {
        let store = fresh_store().await;
        add(&store, &lamp(), 1).await;
        let mut db = session(store.schema()).await;
        run(&mut db, damage).await;

        let options = PgOptions::new(url()).schema(store.schema());
        let opened = options.connect().await.map(drop);
        for refused in [opened, store.migrate().await] {
            let error = refused.unwrap_err();
            assert!(matches!(error, OpenError::Misconfigured { .. }), "{error}");
            assert!(error.to_string().contains(named), "{damage}: {error}");
            assert!(!error.is_retryable());
        }
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM events")
            .fetch_one(&mut db)
            .await
            .unwrap();
        assert_eq!(rows, 1);
    }
    checkpoints::changed_type_list(fresh_store().await).await;
}
