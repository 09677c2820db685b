//! What happens when an append is repeated.

use es_core::{AppendError, EventStore, ExpectedVersion, Json, NewEvent, StreamId};
use futures::future::join_all;

use crate::{
    Store,
    fixtures::{add, append, assert_holds, exact, notes, refused, stream, whole_stream},
};

/// A repeated append returns the first result and records nothing, for each kind of expectation.
pub async fn a_repeated_append_returns_the_first_result(store: &dyn EventStore) {
    for (before, expected) in [
        (0, ExpectedVersion::Any),
        (0, ExpectedVersion::NoStream),
        (0, exact(0)),
        (2, ExpectedVersion::Any),
        (2, ExpectedVersion::StreamExists),
        (2, exact(2)),
    ] {
        let stream = stream();
        let mut held = notes(before);
        if before > 0 {
            add(store, &stream, &held).await;
        }
        let events = notes(3);
        let first = append(store, &stream, expected, &events).await;

        for _ in 0..3 {
            let again = append(store, &stream, expected, &events).await;
            assert_eq!(again, first, "the first result, expecting {expected}");
        }
        held.extend(events);
        assert_holds(store, &stream, &held).await;
    }
}

/// A repeated append returns the first result also after the stream has gone on.
pub async fn an_append_can_be_repeated_after_later_ones(store: &dyn EventStore) {
    let stream = stream();
    let mut held = notes(2);
    let first = append(store, &stream, ExpectedVersion::NoStream, &held).await;
    let second_events = notes(2);
    let second = append(store, &stream, exact(2), &second_events).await;
    held.extend(second_events.clone());
    let later = notes(4);
    add(store, &stream, &later).await;

    let first_again = append(store, &stream, ExpectedVersion::NoStream, &held[..2]).await;
    let second_again = append(store, &stream, exact(2), &second_events).await;

    assert_eq!(first_again, first, "the first result");
    assert_eq!(second_again, second, "the first result");
    held.extend(later);
    assert_holds(store, &stream, &held).await;
}

/// Twelve writers that repeat the same append at the same time all get the one result.
pub async fn racing_repetitions_record_once<S: Store>(store: &S) {
    for expected in [ExpectedVersion::Any, ExpectedVersion::NoStream] {
        let stream = stream();
        let events = notes(3);

        let answers = join_all((0..12).map(|_| {
            let (store, stream, events) = (store.clone(), stream.clone(), events.clone());
            tokio::spawn(async move { append(&store, &stream, expected, &events).await })
        }))
        .await;

        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.expect("a repetition must succeed"))
            .collect();
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "all writers get the same result, got: {answers:?}",
        );
        assert_holds(store, &stream, &events).await;
    }
}

/// The same ids at another place than expected are not a repetition.
pub async fn the_same_ids_at_another_version_are_no_repetition(store: &dyn EventStore) {
    let stream = stream();
    let mut held = notes(2);
    let events = notes(2);
    add(store, &stream, &held).await;
    append(store, &stream, exact(2), &events).await;
    held.extend(events.clone());

    for wrong in [exact(1), exact(3), ExpectedVersion::NoStream] {
        let err = refused(store, &stream, wrong, &events).await;
        assert!(
            matches!(err, AppendError::Conflict { .. }),
            "expected a conflict when expecting {wrong}, got: {err}",
        );
    }
    let err = refused(store, &stream, exact(4), &events).await;
    assert_duplicate(&err, &stream, &events);
    assert_holds(store, &stream, &held).await;
}

/// An append with some old and some new ids is refused and records nothing.
pub async fn a_partial_overlap_is_refused(store: &dyn EventStore) {
    let stream = stream();
    let held = notes(3);
    add(store, &stream, &held).await;
    let new = notes(1).remove(0);

    for batch in [
        vec![held[2].clone(), new.clone()],
        vec![new.clone(), held[0].clone()],
        vec![
            held[0].clone(),
            held[1].clone(),
            held[2].clone(),
            new.clone(),
        ],
        vec![held[1].clone(), new, held[2].clone()],
    ] {
        for expected in [
            ExpectedVersion::Any,
            ExpectedVersion::StreamExists,
            exact(3),
        ] {
            let err = refused(store, &stream, expected, &batch).await;
            assert_duplicate(&err, &stream, &held);
        }
    }
    assert_holds(store, &stream, &held).await;
}

/// Old ids in another order, or with one left out between, are refused.
pub async fn old_ids_in_another_order_are_refused(store: &dyn EventStore) {
    let stream = stream();
    let held = notes(3);
    add(store, &stream, &held).await;

    for batch in [
        vec![held[1].clone(), held[0].clone()],
        vec![held[0].clone(), held[2].clone()],
        vec![held[2].clone(), held[1].clone(), held[0].clone()],
    ] {
        let err = refused(store, &stream, ExpectedVersion::Any, &batch).await;
        assert_duplicate(&err, &stream, &held);
    }
    assert_holds(store, &stream, &held).await;
}

/// A batch whose ids lie in two streams is refused in both of them.
pub async fn ids_of_two_streams_are_refused(store: &dyn EventStore) {
    let (one, two) = (stream(), stream());
    let (in_one, in_two) = (notes(1), notes(1));
    add(store, &one, &in_one).await;
    add(store, &two, &in_two).await;
    let both = [in_one[0].clone(), in_two[0].clone()];

    for stream in [&one, &two] {
        let err = refused(store, stream, ExpectedVersion::Any, &both).await;
        assert_duplicate(&err, stream, &both);
    }
    assert_holds(store, &one, &in_one).await;
    assert_holds(store, &two, &in_two).await;
}

/// A repetition never changes what is stored, even if it brings other content.
pub async fn a_repetition_never_changes_what_is_stored(store: &dyn EventStore) {
    let stream = stream();
    let events = notes(1);
    let first = add(store, &stream, &events).await;
    let before = whole_stream(store, &stream).await;

    let mut other = events;
    other[0].event_data = Json::from_stored(r#"{"other":true}"#);
    let again = add(store, &stream, &other).await;

    assert_eq!(again, first, "the first result");
    assert_eq!(
        whole_stream(store, &stream).await,
        before,
        "what was stored"
    );
}

#[track_caller]
fn assert_duplicate(err: &AppendError, stream: &StreamId, taken: &[NewEvent]) {
    assert!(
        matches!(
            err,
            AppendError::DuplicateId { stream: s, event_id }
                if s == stream && taken.iter().any(|event| event.event_id == *event_id)
        ),
        "expected DuplicateId of a taken id in `{stream}`, got: {err}: {err:?}",
    );
}
