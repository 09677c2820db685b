//! Erasing a stream, and what the trigger lets pass.

use std::fs;

use chrono::Utc;
use es_core::{
    AppendError, EventStore, ExpectedVersion, Json, Snapshot, SnapshotStore, StreamErased,
    StreamId, Version,
};
use uuid::Uuid;

use crate::{add, folder, lamp, open, read, several, sql, stranger};

fn tombstone() -> StreamErased {
    StreamErased::new("asked to", "the officer")
}

fn snapshot(stream: &StreamId) -> Snapshot {
    Snapshot {
        snapshot_id: Uuid::now_v7(),
        aggregate_id: stream.aggregate_id,
        aggregate_type: stream.aggregate_type.clone(),
        version: Version::new(2),
        created_at: Utc::now(),
        state: Json::parse(r#"{"secret":"swordfish"}"#).unwrap(),
        fingerprint: None,
    }
}

/// Seen to fail without `PRAGMA secure_delete`: SQLite forgets content, it does not overwrite it.
#[tokio::test]
async fn what_is_erased_is_not_in_the_file_any_more() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    let holds_the_secret = || {
        let bytes = fs::read(&file).unwrap();
        bytes.windows(9).any(|window| window == b"swordfish")
    };
    let mut events = several(30);
    events[3].metadata.actor = Some("swordfish".to_owned());
    store
        .append(&stream, ExpectedVersion::NoStream, &events)
        .await
        .unwrap();
    store.save_snapshot(&snapshot(&stream)).await.unwrap();
    store.close().await;
    assert!(holds_the_secret());

    let store = open(&file).await;
    store.erase(&stream, &tombstone()).await.unwrap();
    store.save_snapshot(&snapshot(&stream)).await.unwrap();
    assert_eq!(
        store.load_snapshot(&stream, Version::MAX).await.unwrap(),
        None
    );
    let late = store
        .append(&stream, ExpectedVersion::Any, &several(1))
        .await;
    assert!(matches!(late, Err(AppendError::Erased { .. })), "{late:?}");
    let erased = read(&store, &stream).await;
    assert_eq!(erased.len(), 31);
    assert!(
        erased[..30]
            .iter()
            .all(|event| event.is_erased() && event.metadata.is_empty())
    );
    store.close().await;
    assert!(!holds_the_secret());
}

/// The tombstone permits an erasure and nothing else, in its own stream and nowhere else.
#[tokio::test]
async fn a_stranger_can_only_do_what_the_tombstone_permits() {
    let (_folder, file) = folder();
    let (store, erased, other) = (open(&file).await, lamp(), lamp());
    add(&store, &erased, 2).await;
    add(&store, &other, 2).await;
    store.erase(&erased, &tombstone()).await.unwrap();
    let before = (read(&store, &erased).await, read(&store, &other).await);
    let mut db = stranger(&file).await;

    for statement in [
        r#"UPDATE events SET event_data = '{"$erased":true}', metadata = NULL WHERE position = 3"#,
        r#"UPDATE events SET event_data = '{"$erased":true}', metadata = NULL WHERE position = 5"#,
        "UPDATE events SET event_data = '{}' WHERE position = 1",
        "UPDATE events SET event_data = CAST('{\"$erased\":true}' AS BLOB) WHERE position = 1",
        "UPDATE events SET metadata = '{}' WHERE position = 1",
        "UPDATE events SET event_type = 'dimmed' WHERE position = 1",
        "UPDATE events SET event_version = 9 WHERE position = 1",
        "UPDATE events SET position = 9 WHERE position = 1",
        "UPDATE events SET event_id = randomblob(16) WHERE position = 1",
        "UPDATE events SET aggregate_id = randomblob(16) WHERE position = 1",
        "UPDATE events SET aggregate_type = 'x' WHERE position = 1",
        "UPDATE events SET created_at = 'x' WHERE position = 1",
        "UPDATE events SET schema_version = 2 WHERE position = 1",
        "UPDATE events SET rowid = 99 WHERE position = 1",
    ] {
        let error = sql(&mut db, statement)
            .await
            .expect_err(statement)
            .to_string();
        assert!(
            error.contains("events are append-only: UPDATE refused"),
            "{statement}: {error}"
        );
    }
    let error = sql(&mut db, "DELETE FROM events WHERE position = 1")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("DELETE refused"));
    assert_eq!(
        (read(&store, &erased).await, read(&store, &other).await),
        before
    );
}

/// A file of the first program is brought up to date, and keeps its events.
#[tokio::test]
async fn a_file_at_migration_1_migrates() {
    let (_folder, file) = folder();
    let mut db = stranger(&file).await;
    sql(
        &mut db,
        include_str!("../../migrations/sqlite/0001_events.sql"),
    )
    .await
    .unwrap();
    sql(
        &mut db,
        "CREATE TABLE es_migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
             applied_at TEXT NOT NULL);
         INSERT INTO es_migrations VALUES (1, 'events', '2026-01-01T00:00:00Z');
         PRAGMA application_id = 1702059825;
         INSERT INTO events VALUES (x'00000000000000000000000000000001',
             x'00000000000000000000000000000002', 'lamp', 'switched', 1, '{}',
             '2026-01-01T00:00:00.000000Z', 1, 1, NULL);
         UPDATE log_head SET last_position = 1, last_created_at = '2026-01-01T00:00:00.000000Z'",
    )
    .await
    .unwrap();

    let (store, stream) = (open(&file).await, StreamId::new("lamp", Uuid::from_u128(2)));
    add(&store, &stream, 1).await;
    assert_eq!(read(&store, &stream).await.len(), 2);
    let refused = sql(&mut db, "UPDATE events SET event_data = '{}'")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("append-only"));
    let erased = store.erase(&stream, &tombstone()).await.unwrap();
    assert_eq!(erased.version, Version::new(3));
}
