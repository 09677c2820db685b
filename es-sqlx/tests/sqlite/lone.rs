//! An append with an exact expectation is admitted by the query that records it: it must refuse what the
//! other path refuses.

use es_core::{
    AppendError, Appended, EventStore, ExpectedVersion, NewEvent, Position, StreamErased, StreamId,
    Version,
};
use es_sqlx::SqliteStore;

use crate::{add, folder, lamp, open, read, several, sql, stranger, switched};

async fn append(
    store: &SqliteStore,
    stream: &StreamId,
    after: u32,
    events: &[NewEvent],
) -> Result<Appended, AppendError> {
    let expected = ExpectedVersion::Exact(Version::new(after));
    store.append(stream, expected, events).await
}

#[tokio::test]
async fn events_are_recorded_in_order_up_to_the_largest_and_beyond() {
    let store = SqliteStore::in_memory().await.unwrap();
    let stream = lamp();
    let mut all = Vec::new();
    for count in [1, 2, 32, 33] {
        let events = several(count);
        let before = u32::try_from(all.len()).unwrap();
        let appended = append(&store, &stream, before, &events).await.unwrap();
        all.extend(events);
        assert_eq!(appended.version.get() as usize, all.len());
        assert_eq!(usize::try_from(appended.position.get()), Ok(all.len()));
    }
    let recorded = read(&store, &stream).await;
    for (place, (recorded, event)) in (1..).zip(recorded.iter().zip(&all)) {
        assert_eq!(recorded.event_id, event.event_id);
        assert_eq!(recorded.event_version, Version::new(place));
        assert_eq!(recorded.position, Position::new(place.into()));
        assert_eq!(recorded.event_data, event.event_data);
    }
    assert_eq!(recorded.len(), all.len());
}

/// Seen to fail when the query did not look at the type, or at the tombstone.
#[tokio::test]
async fn a_stream_of_another_type_and_an_erased_one_are_refused() {
    let store = SqliteStore::in_memory().await.unwrap();
    let stream = lamp();
    add(&store, &stream, 2).await;
    let other = StreamId::new("fan", stream.aggregate_id);
    for after in [0, 1, 2] {
        let answer = append(&store, &other, after, &several(1)).await;
        assert!(
            matches!(answer, Err(AppendError::OtherAggregateType { .. })),
            "{answer:?}"
        );
    }
    store
        .erase(&stream, &StreamErased::new("asked to", "the officer"))
        .await
        .unwrap();
    for after in [0, 2, 3] {
        let answer = append(&store, &stream, after, &several(1)).await;
        assert!(
            matches!(answer, Err(AppendError::Erased { .. })),
            "{answer:?}"
        );
    }
}

/// Seen to fail when a conflict was answered without a look at the event id.
#[tokio::test]
async fn a_repetition_a_conflict_and_a_taken_id_are_told_apart() {
    let store = SqliteStore::in_memory().await.unwrap();
    let (stream, other, events) = (lamp(), lamp(), several(3));
    let first = append(&store, &stream, 0, &events).await.unwrap();
    assert_eq!(append(&store, &stream, 0, &events).await.unwrap(), first);
    let answer = append(&store, &stream, 2, &several(1)).await;
    assert!(
        matches!(answer, Err(AppendError::Conflict { actual, .. }) if actual == Version::new(3)),
        "{answer:?}"
    );
    let answer = append(&store, &other, 4, &several(1)).await;
    assert!(
        matches!(answer, Err(AppendError::Conflict { actual, .. }) if actual == Version::EMPTY),
        "{answer:?}"
    );
    let taken = [switched(), events[1].clone()];
    let answer = append(&store, &other, 0, &taken).await;
    assert!(
        matches!(answer, Err(AppendError::DuplicateId { event_id, .. }) if event_id == taken[1].event_id),
        "{answer:?}"
    );
    let next = append(&store, &other, 0, &several(1)).await.unwrap();
    assert_eq!(next.position, Position::new(4), "no position is lost");
}

/// Seen to fail when the query did not look at the time of the last event.
#[tokio::test]
async fn time_does_not_go_back() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    let mut db = stranger(&file).await;
    let ahead = "UPDATE log_head SET last_created_at = '2999-01-01T00:00:00.000000Z'";
    sql(&mut db, ahead).await.unwrap();
    append(&store, &stream, 0, &several(1)).await.unwrap();
    append(&store, &stream, 1, &several(1)).await.unwrap();
    for event in read(&store, &stream).await {
        assert_eq!(event.created_at.to_rfc3339(), "2999-01-01T00:00:00+00:00");
    }
}

/// Seen to fail when the query did not look for projections that run inside.
#[tokio::test]
async fn a_projection_that_the_store_was_not_told_of_is_not_left_out() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    append(&store, &stream, 0, &several(1)).await.unwrap();
    let mut db = stranger(&file).await;
    let declare = "INSERT INTO projection_shards (name, version, event_types, status)
        VALUES ('switches', 1, '[]', 'inline')";
    sql(&mut db, declare).await.unwrap();
    for after in [0, 1] {
        let answer = append(&store, &stream, after, &several(1)).await;
        assert!(
            matches!(answer, Err(AppendError::Invalid { .. })),
            "{answer:?}"
        );
    }
}
