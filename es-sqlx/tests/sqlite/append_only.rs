//! The database refuses to change what was recorded, whoever asks.

use es_core::{Batch, ProjectionId};
use es_sqlx::SqliteStore;

use crate::{add, folder, lamp, open, read, set_up, sql, stranger};

#[tokio::test]
async fn a_stranger_cannot_update_or_delete_events() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 2).await;
    let before = read(&store, &stream).await;
    let mut db = stranger(&file).await;

    for (statement, word) in [
        ("UPDATE events SET event_data = '{}'", "UPDATE"),
        ("UPDATE events SET position = position + 10", "UPDATE"),
        ("DELETE FROM events", "DELETE"),
        ("DELETE FROM events WHERE event_version = 2", "DELETE"),
    ] {
        let error = sql(&mut db, statement).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("events are append-only: {word} refused")),
            "{statement}: {error}"
        );
    }
    assert_eq!(read(&store, &stream).await, before);
}

/// REPLACE deletes without the DELETE trigger, unless the connection asks for it.
#[tokio::test]
async fn a_projection_cannot_replace_events() {
    let store = SqliteStore::in_memory().await.unwrap();
    let stream = lamp();
    add(&store, &stream, 1).await;
    let before = read(&store, &stream).await;

    let projection = ProjectionId::new("rogue", 1);
    let mut batch = set_up(&store, &projection).await;
    let replaced = sql(
        batch.connection(),
        "INSERT OR REPLACE INTO events SELECT event_id, aggregate_id, aggregate_type, event_type,
         event_version, '{}', created_at, position, schema_version, metadata FROM events",
    )
    .await;

    let error = replaced.unwrap_err().to_string();
    assert!(error.contains("events are append-only"), "{error}");
    batch.commit().await.unwrap();
    assert_eq!(read(&store, &stream).await, before);
}
