//! Which names a stream and an event may have.

use es_core::{
    Append, AppendError, Event, EventStore, ExpectedVersion, Json, NewEvent, StreamErased, StreamId,
};
use uuid::Uuid;

use crate::fixtures::{add, assert_holds, notes, refused, stream, whole_stream};

/// Names of up to 255 bytes are kept.
pub async fn names_may_have_255_bytes(store: &dyn EventStore) {
    for name in ["n".repeat(255), format!("n{}", "é".repeat(127))] {
        let stream = StreamId::new(name.clone(), Uuid::now_v7());
        let events = [NewEvent::new(name.clone(), Json::from_stored("{}"))];
        add(store, &stream, &events).await;

        let held = whole_stream(store, &stream).await;
        assert_eq!(held.len(), 1, "the event is there");
        assert_eq!(held[0].event_type, name.as_str());
        assert_eq!(held[0].aggregate_type, name.as_str());
    }
}

/// Names that are empty or have more than 255 bytes are not valid, and nothing is recorded.
pub async fn empty_and_longer_names_are_invalid(store: &dyn EventStore) {
    for name in [String::new(), "n".repeat(256), "é".repeat(128)] {
        let bad_stream = StreamId::new(name.clone(), Uuid::now_v7());
        let good_stream = stream();
        let mut bad_events = notes(2);
        bad_events[1].event_type = name.clone().into();

        for (stream, events) in [(&bad_stream, notes(1)), (&good_stream, bad_events)] {
            let err = refused(store, stream, ExpectedVersion::Any, &events).await;
            assert!(
                matches!(err, AppendError::Invalid { .. }),
                "expected Invalid for a name of {} bytes, got: {err}",
                name.len(),
            );
        }
        assert_holds(store, &good_stream, &[]).await;
    }
}

/// Names that begin with `$` are the store's own: no append may use them.
pub async fn names_of_the_store_itself_are_invalid(store: &dyn EventStore) {
    let stream = stream();
    let held = notes(1);
    add(store, &stream, &held).await;
    let own_stream = StreamId::new("$own", Uuid::now_v7());
    for (stream, event_type) in [
        (&stream, StreamErased::EVENT_TYPE),
        (&stream, "$own"),
        (&own_stream, "note"),
    ] {
        let mut events = notes(2);
        events[1].event_type = event_type.into();
        let alone = refused(store, stream, ExpectedVersion::Any, &events).await;
        let append = Append::new(stream.clone(), ExpectedVersion::Any, events);
        let together = store.append_all(&[append]).await;

        for err in [Err(alone), together] {
            assert!(
                matches!(&err, Err(AppendError::Invalid { stream: s, .. }) if s == stream),
                "expected Invalid for `{event_type}` in `{stream}`, got: {err:?}",
            );
        }
    }
    assert_holds(store, &stream, &held).await;
    assert_holds(store, &own_stream, &[]).await;
}
