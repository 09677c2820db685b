//! A damaged row is named, its content is not repeated.

use es_core::{
    Chain, EventStore, Filter, Json, Position, ReadError, Snapshot, SnapshotStore, Version,
};

use crate::{add, folder, lamp, open, sql, stranger};

#[tokio::test]
async fn a_damaged_row_is_named_without_its_content() {
    let damages = [
        (
            "event_id",
            "UPDATE events SET event_id = x'0102' WHERE position = 2",
        ),
        (
            "event_id",
            "UPDATE events SET event_id = 'swordfish' WHERE position = 2",
        ),
        (
            "created_at",
            "UPDATE events SET created_at = 'swordfish' WHERE position = 2",
        ),
        (
            "event_version",
            "UPDATE events SET event_version = -7 WHERE position = 2",
        ),
        (
            "event_data",
            "UPDATE events SET event_data = x'737764' WHERE position = 2",
        ),
        (
            "event_data",
            "UPDATE events SET event_data = CAST(x'ff' AS TEXT) WHERE position = 2",
        ),
        (
            "metadata",
            "UPDATE events SET metadata = 'swordfish' WHERE position = 2",
        ),
        (
            "schema_version",
            "UPDATE events SET schema_version = -1 WHERE position = 2",
        ),
    ];
    for (column, damage) in damages {
        let (_folder, file) = folder();
        let (store, stream) = (open(&file).await, lamp());
        add(&store, &stream, 3).await;
        let mut db = stranger(&file).await;
        sql(
            &mut db,
            "PRAGMA ignore_check_constraints = ON; DROP TRIGGER events_no_update",
        )
        .await
        .unwrap();
        sql(&mut db, damage).await.unwrap();

        let error = store
            .read_log(&Filter::All, Position::START, 10)
            .await
            .expect_err(damage);
        assert!(
            matches!(error, ReadError::Corrupt { .. }),
            "{damage}: {error:?}"
        );
        assert!(!error.is_retryable());
        assert_eq!(
            Chain(&error).to_string(),
            format!(
                "the event at position 2 is damaged: column `{column}` does not hold what it must; \
                 restore it from a backup"
            ),
            "{damage}"
        );
        assert!(!format!("{error:?}").contains("swordfish"));
    }
}

#[tokio::test]
async fn what_is_not_damaged_can_still_be_read() {
    let (_folder, file) = folder();
    let (store, damaged, sound) = (open(&file).await, lamp(), lamp());
    add(&store, &damaged, 1).await;
    add(&store, &sound, 2).await;
    let mut db = stranger(&file).await;
    sql(&mut db, "DROP TRIGGER events_no_update").await.unwrap();
    sql(
        &mut db,
        "UPDATE events SET created_at = 'x' WHERE position = 1",
    )
    .await
    .unwrap();

    assert!(
        store
            .read_stream(&damaged, Version::EMPTY, 10)
            .await
            .is_err()
    );
    assert_eq!(
        store
            .read_stream(&sound, Version::EMPTY, 10)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn a_damaged_snapshot_is_named() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    let snapshot = Snapshot {
        snapshot_id: uuid::Uuid::now_v7(),
        aggregate_id: stream.aggregate_id,
        aggregate_type: stream.aggregate_type.clone(),
        version: Version::new(1),
        created_at: chrono::Utc::now(),
        state: Json::parse("{}").unwrap(),
        fingerprint: None,
    };
    store.save_snapshot(&snapshot).await.unwrap();
    let mut db = stranger(&file).await;
    for (column, damage) in [
        (
            "created_at",
            "UPDATE snapshots SET created_at = 'swordfish'",
        ),
        ("snapshot_id", "UPDATE snapshots SET snapshot_id = x'01'"),
        ("state", "UPDATE snapshots SET state = x'01'"),
    ] {
        store.save_snapshot(&snapshot).await.unwrap();
        sql(&mut db, damage).await.unwrap();
        let error = store
            .load_snapshot(&stream, Version::MAX)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the snapshot of stream `{stream}` is damaged: column `{column}` does not hold \
                 what it must; restore it from a backup"
            )
        );
    }
}
