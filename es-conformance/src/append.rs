//! What an append records, and what it refuses.

use es_core::{
    AppendError, Appended, EventStore, ExpectedVersion, Json, Metadata, NewEvent, StreamId, Version,
};
use futures::future::join_all;
use uuid::Uuid;

use crate::{
    Store,
    fixtures::{
        add, append, assert_holds, event, exact, new_ids, notes, refused, stream, stream_in_pages,
        whole_stream,
    },
};

/// An append without events is not valid, on a new and on an old stream.
pub async fn an_empty_append_is_invalid(store: &dyn EventStore) {
    let stream = stream();
    let err = refused(store, &stream, ExpectedVersion::Any, &[]).await;
    assert!(
        matches!(err, AppendError::Invalid { .. }),
        "expected Invalid, got: {err}",
    );

    let first = notes(1);
    add(store, &stream, &first).await;
    let err = refused(store, &stream, exact(9), &[]).await;
    assert!(
        matches!(err, AppendError::Invalid { .. }),
        "an empty append is not valid whatever it expects, got: {err}",
    );
    assert_holds(store, &stream, &first).await;
}

/// A batch that has the same id twice is refused and records nothing.
pub async fn a_batch_with_the_same_id_twice_is_refused(store: &dyn EventStore) {
    let stream = stream();
    let mut events = notes(3);
    events[2].event_id = events[0].event_id;

    let err = refused(store, &stream, ExpectedVersion::NoStream, &events).await;

    assert!(
        matches!(&err, AppendError::DuplicateId { event_id, .. } if *event_id == events[0].event_id),
        "expected DuplicateId of {}, got: {err}",
        events[0].event_id,
    );
    assert_holds(store, &stream, &[]).await;
}

/// Versions are 1, 2, 3, also across appends, and the answer tells version and position of the last.
pub async fn versions_count_from_one_without_holes(store: &dyn EventStore) {
    let stream = stream();
    let events = notes(6);

    let first = append(store, &stream, ExpectedVersion::NoStream, &events[..1]).await;
    let second = append(store, &stream, exact(1), &events[1..4]).await;
    let third = append(store, &stream, ExpectedVersion::Any, &events[4..]).await;

    let held = whole_stream(store, &stream).await;
    assert_eq!(held.len(), 6, "six events were appended");
    for (answer, version) in [(first, 1), (second, 4), (third, 6)] {
        let last = &held[version - 1];
        assert_eq!(
            answer,
            Appended {
                version: last.event_version,
                position: last.position,
            },
            "an append answers with the place of its last event",
        );
    }
    assert_holds(store, &stream, &events).await;
}

/// `Any` is met by an empty stream and by one with events.
pub async fn any_accepts_every_version(store: &dyn EventStore) {
    let stream = stream();
    for version in 1..=3 {
        let appended = append(store, &stream, ExpectedVersion::Any, &notes(1)).await;
        assert_eq!(appended.version, Version::new(version), "the next version");
    }
}

/// `NoStream` is met by an empty stream only.
pub async fn no_stream_accepts_only_an_empty_stream(store: &dyn EventStore) {
    let stream = stream();
    let first = notes(2);
    append(store, &stream, ExpectedVersion::NoStream, &first).await;

    let err = refused(store, &stream, ExpectedVersion::NoStream, &notes(1)).await;

    assert_conflict(&err, &stream, ExpectedVersion::NoStream, 2);
    assert_holds(store, &stream, &first).await;
}

/// `StreamExists` is met by a stream with events only.
pub async fn stream_exists_accepts_only_a_stream_with_events(store: &dyn EventStore) {
    let stream = stream();
    let err = refused(store, &stream, ExpectedVersion::StreamExists, &notes(1)).await;
    assert_conflict(&err, &stream, ExpectedVersion::StreamExists, 0);
    assert_holds(store, &stream, &[]).await;

    append(store, &stream, ExpectedVersion::NoStream, &notes(1)).await;
    let appended = append(store, &stream, ExpectedVersion::StreamExists, &notes(1)).await;
    assert_eq!(appended.version, Version::new(2), "the second event");
}

/// `Exact` is met by that version only; `Exact(0)` by an empty stream.
pub async fn exact_accepts_only_that_version(store: &dyn EventStore) {
    let stream = stream();
    let err = refused(store, &stream, exact(1), &notes(1)).await;
    assert_conflict(&err, &stream, exact(1), 0);

    let mut held = notes(2);
    append(store, &stream, exact(0), &held).await;
    for wrong in [0, 1, 3, 1_000_000] {
        let err = refused(store, &stream, exact(wrong), &notes(1)).await;
        assert_conflict(&err, &stream, exact(wrong), 2);
    }
    held.extend(notes(1));
    let appended = append(store, &stream, exact(2), &held[2..]).await;

    assert_eq!(appended.version, Version::new(3), "the third event");
    assert_holds(store, &stream, &held).await;
}

/// A conflict is told in one sentence: the stream, what it has, what was expected, what to do.
pub async fn a_conflict_tells_the_truth_in_one_sentence(store: &dyn EventStore) {
    let stream = stream();
    let err = refused(store, &stream, exact(4), &notes(1)).await;
    assert_eq!(
        err.to_string(),
        format!(
            "stream `{stream}` has no events, the caller expected version 4; reload and decide again"
        ),
    );

    add(store, &stream, &notes(3)).await;
    let err = refused(store, &stream, ExpectedVersion::NoStream, &notes(1)).await;
    assert_eq!(
        err.to_string(),
        format!(
            "stream `{stream}` has version 3, the caller expected no events; it exists already, so load it, or use another id"
        ),
    );
    assert!(err.is_retryable(), "a conflict may be decided again");
}

/// An aggregate id belongs to one type of aggregate; another is refused, whatever is expected.
pub async fn an_aggregate_id_belongs_to_one_type(store: &dyn EventStore) {
    let stream = stream();
    let first = notes(2);
    add(store, &stream, &first).await;

    let other = StreamId::new("another_type", stream.aggregate_id);
    for expected in [
        ExpectedVersion::Any,
        ExpectedVersion::NoStream,
        ExpectedVersion::StreamExists,
        exact(2),
        exact(7),
    ] {
        let err = refused(store, &other, expected, &notes(1)).await;
        assert!(
            matches!(&err, AppendError::OtherAggregateType { actual, .. } if actual == "conformance"),
            "expected OtherAggregateType `conformance` when expecting {expected}, got: {err}",
        );
    }
    let err = refused(store, &other, ExpectedVersion::Any, &first).await;
    assert!(
        matches!(err, AppendError::OtherAggregateType { .. }),
        "the same ids under another type are no repetition, got: {err}",
    );

    assert_holds(store, &stream, &first).await;
}

/// An event id that another stream has is refused, and the whole batch with it.
pub async fn an_event_id_of_another_stream_is_refused(store: &dyn EventStore) {
    let taken = notes(1);
    add(store, &stream(), &taken).await;
    let stream = stream();
    let mut events = notes(3);
    events[1].event_id = taken[0].event_id;

    let err = refused(store, &stream, ExpectedVersion::Any, &events).await;

    assert!(
        matches!(&err, AppendError::DuplicateId { event_id, .. } if *event_id == taken[0].event_id),
        "expected DuplicateId of {}, got: {err}",
        taken[0].event_id,
    );
    assert!(!err.is_retryable(), "the same append would fail again");
    assert_holds(store, &stream, &[]).await;
}

/// Where the version is not met and an id is taken, the answer is the conflict.
pub async fn a_conflict_comes_before_a_taken_id(store: &dyn EventStore) {
    let taken = notes(1);
    add(store, &stream(), &taken).await;
    let stream = stream();
    add(store, &stream, &notes(2)).await;

    let err = refused(store, &stream, exact(5), &taken).await;

    assert_conflict(&err, &stream, exact(5), 2);
}

/// Of twenty writers with the same expected version one wins; the others are told of a conflict.
pub async fn of_racing_writers_with_one_expected_version_one_wins<S: Store>(store: &S) {
    let stream = stream();
    let mut held = notes(1);
    append(store, &stream, ExpectedVersion::NoStream, &held).await;

    let writers: Vec<_> = (0..20).map(|_| notes(2)).collect();
    let answers = join_all(writers.iter().cloned().map(|events| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move { store.append(&stream, exact(1), &events).await })
    }))
    .await;

    let mut winners = Vec::new();
    for (answer, events) in answers.into_iter().zip(&writers) {
        match answer.expect("a writer must not panic") {
            Ok(_) => winners.push(events),
            Err(err) => assert_conflict(&err, &stream, exact(1), 3),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one writer wins");
    held.extend_from_slice(winners[0]);
    assert_holds(store, &stream, &held).await;
}

/// Twenty writers that expect nothing all succeed, each batch in one piece.
pub async fn racing_writers_that_accept_any_version_all_succeed<S: Store>(store: &S) {
    let stream = stream();
    let writers: Vec<_> = (0..20).map(|_| notes(3)).collect();

    let answers = join_all(writers.iter().cloned().map(|events| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move { store.append(&stream, ExpectedVersion::Any, &events).await })
    }))
    .await;

    let held = whole_stream(store, &stream).await;
    assert_eq!(held.len(), 60, "all events of all writers are there");
    for (answer, events) in answers.into_iter().zip(&writers) {
        let appended = match answer.expect("a writer must not panic") {
            Ok(appended) => appended,
            Err(err) => {
                panic!("a writer that accepts any version must succeed, got: {err}: {err:?}")
            }
        };
        let end = appended.version.get() as usize;
        let batch: Vec<_> = held[end - 3..end].iter().map(|e| e.event_id).collect();
        assert_eq!(batch, new_ids(events), "a batch stays in one piece");
        assert_eq!(held[end - 1].position, appended.position, "the place told");
    }
}

/// One append of five thousand events is read back in pages of any size.
pub async fn a_large_append_is_read_back_in_pages(store: &dyn EventStore) {
    let stream = stream();
    let events = notes(5_000);

    let appended = append(store, &stream, ExpectedVersion::NoStream, &events).await;

    assert_eq!(appended.version, Version::new(5_000), "the last version");
    for limit in [1, 999, 1_000, 1_001] {
        let held = stream_in_pages(store, &stream, limit).await;
        assert_eq!(held.len(), 5_000, "in pages of {limit}");
        for (n, (held, event)) in held.iter().zip(&events).enumerate() {
            assert_eq!(
                held.event_version.get() as usize,
                n + 1,
                "in pages of {limit}"
            );
            assert_eq!(held.event_id, event.event_id, "in pages of {limit}");
            assert_eq!(held.event_data, event.event_data, "in pages of {limit}");
        }
    }
}

/// The content comes back as the very text that went in.
pub async fn event_data_is_kept_verbatim(store: &dyn EventStore) {
    let texts = [
        "null",
        "true",
        r#""text""#,
        "[]",
        r#"{"z":1,"a":2,"m":{"y":[1,[2,[3,{"deep":{}}]]],"b":null}}"#,
        r#"{ "spaces" :  1,
            "lines": [ ] }"#,
        r#"{"unicode":"žluťoučký 鳥 🜲 \u00e9 \ud83d\ude00"}"#,
        r#"{"nul":"\u0000","escapes":"\" \\ \/ \b \f \n \r \t"}"#,
        r#"{"beyond_f64":123456789012345678901234567890.123456789012345678901234567890}"#,
        r#"{"u64":18446744073709551615,"i64":-9223372036854775808,"e":1e400,"zero":-0.0,"one":1.0}"#,
        r#"{"twice":1,"twice":2}"#,
    ];
    let stream = stream();
    let mut events: Vec<_> = texts
        .iter()
        .map(|text| NewEvent::new("kept", Json::parse(*text).expect("the fixture is JSON")))
        .collect();
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let long = format!(r#"{{"long":"{}"}}"#, "x".repeat(200_000));
    for text in [nested, long] {
        events.push(NewEvent::new("kept", Json::parse(text).expect("JSON")));
    }

    add(store, &stream, &events).await;

    for (held, event) in whole_stream(store, &stream).await.iter().zip(&events) {
        assert_eq!(
            held.event_data.as_str(),
            event.event_data.as_str(),
            "the content must come back verbatim",
        );
    }
    assert_holds(store, &stream, &events).await;
}

/// Metadata, schema version, type and id come back as they went in.
pub async fn metadata_and_schema_version_are_kept(store: &dyn EventStore) {
    let mut full = Metadata::default();
    full.correlation_id = Some(Uuid::now_v7());
    full.causation_id = Some(Uuid::now_v7());
    full.actor = Some("Éowyn \"the shield-maiden\" 🛡".to_owned());
    full.headers.insert("trace".to_owned(), "a=b;c".to_owned());
    full.headers.insert(String::new(), String::new());
    let mut sparse = Metadata::default();
    sparse.actor = Some(String::new());
    let stream = stream();
    let mut events = vec![event("plain"), event("full"), event("sparse")];
    events[1].metadata = full;
    events[1].schema_version = 7;
    events[2].metadata = sparse;
    events[2].schema_version = 2_147_483_647;

    add(store, &stream, &events).await;

    let held = whole_stream(store, &stream).await;
    assert_eq!(held.len(), events.len(), "all events are there");
    for (held, event) in held.iter().zip(&events) {
        assert_eq!(held.event_id, event.event_id);
        assert_eq!(held.event_type, event.event_type);
        assert_eq!(held.metadata, event.metadata);
        assert_eq!(held.schema_version, event.schema_version);
    }
}

#[track_caller]
fn assert_conflict(err: &AppendError, stream: &StreamId, expected: ExpectedVersion, actual: u32) {
    assert!(
        matches!(
            err,
            AppendError::Conflict { stream: s, expected: e, actual: a }
                if s == stream && *e == expected && *a == Version::new(actual)
        ),
        "expected a conflict of `{stream}` at {actual} with {expected}, got: {err}: {err:?}",
    );
}
