//! Reading one stream.

use es_core::{EventStore, Position, StreamId, Version};

use crate::{
    Store,
    fixtures::{add, event, ids, new_ids, notes, stream, whole_stream},
};

/// A stream that does not exist is empty, not an error.
pub async fn a_missing_stream_is_empty(store: &dyn EventStore) {
    for after in [Version::EMPTY, Version::new(3), Version::MAX] {
        let held = store
            .read_stream(&stream(), after, 10)
            .await
            .expect("no error");
        assert!(
            held.is_empty(),
            "a missing stream has {} events",
            held.len()
        );
    }
}

/// A read starts after the version given, and the end of the stream is an empty page.
pub async fn a_read_starts_after_the_version_given(store: &dyn EventStore) {
    let (stream, events) = (stream(), notes(5));
    add(store, &stream, &events).await;

    for after in 0..=5_u32 {
        let held = store
            .read_stream(&stream, Version::new(after), 100)
            .await
            .expect("a stream can be read");
        assert_eq!(
            ids(&held),
            new_ids(&events[after as usize..]),
            "the events after version {after}",
        );
    }
    for after in [Version::new(6), Version::MAX] {
        let held = store
            .read_stream(&stream, after, 100)
            .await
            .expect("no error");
        assert!(held.is_empty(), "nothing is after version {after}");
    }
}

/// A read returns at most as many events as asked for, from the oldest on; none if asked for none.
pub async fn a_read_is_limited(store: &dyn EventStore) {
    let (stream, events) = (stream(), notes(5));
    add(store, &stream, &events).await;

    for limit in [0, 1, 4, 5, 6, u32::MAX] {
        let held = store
            .read_stream(&stream, Version::EMPTY, limit)
            .await
            .expect("a stream can be read");
        let end = events.len().min(limit as usize);
        assert_eq!(
            ids(&held),
            new_ids(&events[..end]),
            "at most {limit} events"
        );
    }
}

/// A stream holds its own events only, however the writes of several were mixed.
pub async fn a_stream_holds_its_own_events_only(store: &dyn EventStore) {
    let (one, two) = (stream(), stream());
    let (in_one, in_two) = (notes(4), notes(4));
    for n in 0..4 {
        add(store, &one, &in_one[n..=n]).await;
        add(store, &two, &in_two[n..=n]).await;
    }

    assert_eq!(ids(&whole_stream(store, &one).await), new_ids(&in_one));
    assert_eq!(ids(&whole_stream(store, &two).await), new_ids(&in_two));
}

/// The same aggregate id under another type is another stream, and empty.
pub async fn another_type_with_the_same_id_is_empty(store: &dyn EventStore) {
    let stream = stream();
    add(store, &stream, &notes(3)).await;

    let other = StreamId::new("another_type", stream.aggregate_id);
    let held = store
        .read_stream(&other, Version::EMPTY, 10)
        .await
        .expect("no error");

    assert!(
        held.is_empty(),
        "`{other}` shows {} events of `{stream}`",
        held.len()
    );
}

/// A recorded event tells its stream, its type, its place in the stream and in the log.
pub async fn a_recorded_event_is_complete(store: &dyn EventStore) {
    let (stream, new) = (stream(), event("recorded"));

    let appended = add(store, &stream, std::slice::from_ref(&new)).await;

    let held = whole_stream(store, &stream).await;
    assert_eq!(held.len(), 1, "one event");
    assert_eq!(held[0].event_id, new.event_id);
    assert_eq!(held[0].aggregate_id, stream.aggregate_id);
    assert_eq!(held[0].aggregate_type, stream.aggregate_type);
    assert_eq!(held[0].event_type, new.event_type);
    assert_eq!(held[0].event_version, Version::new(1));
    assert_eq!(held[0].position, appended.position);
    assert!(
        held[0].position > Position::START,
        "a position is after the start"
    );
}

/// What was acknowledged can be read at once, also through another handle.
pub async fn an_acknowledged_append_can_be_read_at_once<S: Store>(store: &S) {
    let other = store.clone();
    let stream = stream();
    for n in 1..=20 {
        add(store, &stream, &notes(1)).await;
        let held = whole_stream(&other, &stream).await;
        assert_eq!(held.len(), n, "an acknowledged event is missing");
    }
}
