//! What an erasure takes, what it leaves, and what it refuses afterwards.

use es_core::{
    Append, AppendError, Appended, EraseError, Event, ExpectedVersion, Filter, Metadata, NewEvent,
    RecordedEvent, Scan, StreamErased, StreamId, Version, Visit,
};
use futures::future::join_all;

use crate::{
    Store,
    fixtures::{
        add, all_refused, append, append_all, assert_holds, event, exact, ids, new_ids, notes,
        refused, settle, stream, whole_log, whole_stream,
    },
    snapshot::{load, save, snapshot},
    visit::Seen,
};

const SECRET: &str = "1 Bag End";

/// Payloads and metadata are gone, whichever way the events are read.
pub async fn payloads_and_metadata_are_gone<S: Store>(store: &S) {
    let (stream, events) = secret_stream(store).await;

    let answer = erase(store, &stream).await;

    settle(store, answer.position).await;
    let scan = store.scan(&Scan::of("secret"), 100).await;
    let log = whole_log(store, &Filter::All, 7).await;
    let mut of_type = log.clone();
    of_type.retain(|event| event.event_type == "secret");
    for (way, found) in [
        ("read_stream", whole_stream(store, &stream).await),
        ("read_log", log),
        ("scan", scan.expect("a scan works")),
        ("read_log by type", of_type),
    ] {
        let held = found.iter().filter(|event| event.stream() == stream);
        let held: Vec<_> = held
            .filter(|event| event.event_type != StreamErased::EVENT_TYPE)
            .collect();
        assert_eq!(held.len(), events.len(), "{way} still shows each event");
        for event in held {
            assert!(event.is_erased(), "{way} shows the content");
            assert_eq!(event.metadata, Metadata::default(), "{way} shows metadata");
        }
    }
    let seen = Seen::of(store, &Visit::all(stream)).await;
    assert_eq!(seen.events.len(), events.len() + 1, "visit_stream");
    for event in &seen.events {
        assert!(!event.data.contains(SECRET), "visit_stream shows content");
    }
}

/// Ids, types, versions, positions and times stay.
pub async fn the_places_and_names_stay<S: Store>(store: &S) {
    let (stream, _) = secret_stream(store).await;
    let before = whole_stream(store, &stream).await;

    erase(store, &stream).await;

    let after = whole_stream(store, &stream).await;
    assert_eq!(
        after.len(),
        before.len() + 1,
        "one event more: the tombstone"
    );
    for (after, before) in after.iter().zip(before) {
        let expected = RecordedEvent {
            event_data: after.event_data.clone(),
            metadata: Metadata::default(),
            ..before
        };
        assert_eq!(*after, expected, "all but payload and metadata stays");
    }
}

/// The tombstone is the last event, tells why and through whom, and comes behind every reader.
pub async fn the_tombstone_comes_last_and_behind_every_reader<S: Store>(store: &S) {
    let (stream, events) = secret_stream(store).await;
    let later = add(store, &crate::fixtures::stream(), &notes(3)).await;
    let reader = settle(store, later.position).await;
    let tombstone = StreamErased::new("asked \"to\" 鳥", "the officer");

    let answer = match store.erase(&stream, &tombstone).await {
        Ok(answer) => answer,
        Err(err) => panic!("a stream can be erased, got: {err}: {err:?}"),
    };

    let held = whole_stream(store, &stream).await;
    let last = held.last().expect("it has events");
    assert_eq!(last.event_type, StreamErased::EVENT_TYPE);
    assert_eq!(last.schema_version, StreamErased::SCHEMA_VERSION);
    assert_eq!(last.event_version.get() as usize, events.len() + 1);
    assert!(!last.is_erased(), "the tombstone has its content");
    let told: StreamErased = last.event_data.decode().expect("a tombstone decodes");
    assert_eq!(told, tombstone, "why and through whom");
    assert_eq!(
        (answer.version, answer.position),
        (last.event_version, last.position),
        "the answer is the tombstone's place",
    );
    assert!(last.position > reader, "a reader stood at {reader} before");
    assert!(
        last.created_at >= held[held.len() - 2].created_at,
        "times do not fall",
    );
    settle(store, answer.position).await;
    let page = store
        .read_log(&Filter::event_types([StreamErased::EVENT_TYPE]), reader, 10)
        .await
        .expect("the log can be read");
    assert_eq!(
        page.events,
        std::slice::from_ref(last),
        "a reader behind it is told"
    );
}

/// Snapshots go with the payloads, and one that comes later is dropped in silence.
pub async fn snapshots_go_and_stay_away<S: Store>(store: &S) {
    let (stream, _) = secret_stream(store).await;
    for version in [1, 3] {
        save(store, &snapshot(&stream, version)).await;
    }

    erase(store, &stream).await;

    for at_most in [Version::new(1), Version::new(3), Version::MAX] {
        assert_eq!(load(store, &stream, at_most).await, None, "no snapshot");
    }
    for version in [1, 3, 4] {
        save(store, &snapshot(&stream, version)).await;
    }
    assert_eq!(load(store, &stream, Version::MAX).await, None, "nor later");
    let visit = Visit {
        snapshot: true,
        ..Visit::all(stream)
    };
    assert_eq!(
        Seen::of(store, &visit).await.offered,
        [],
        "nor to a visitor"
    );
}

/// An erased stream takes no more events, whatever is expected of it.
pub async fn an_erased_stream_takes_no_more_events<S: Store>(store: &S) {
    let (stream, _) = secret_stream(store).await;
    erase(store, &stream).await;
    let before = whole_stream(store, &stream).await;

    for expected in [
        ExpectedVersion::Any,
        ExpectedVersion::NoStream,
        ExpectedVersion::StreamExists,
        exact(3),
        exact(4),
        exact(9),
    ] {
        let err = refused(store, &stream, expected, &notes(1)).await;
        assert_refused_as_erased(&err, &stream, expected);

        let other = crate::fixtures::stream();
        let together = [
            Append::new(other.clone(), ExpectedVersion::Any, notes(1)),
            Append::new(stream.clone(), expected, notes(1)),
        ];
        let err = all_refused(store, &together).await;
        assert_refused_as_erased(&err, &stream, expected);
        assert_holds(store, &other, &[]).await;
    }
    assert_eq!(whole_stream(store, &stream).await, before, "no event more");
}

/// An append from before the erasure can still be repeated: it returns the first result.
pub async fn an_append_before_it_can_be_repeated<S: Store>(store: &S) {
    let (one, two) = (stream(), stream());
    let events = notes(2);
    let first = append(store, &one, ExpectedVersion::NoStream, &events).await;
    let together = [
        Append::new(one.clone(), exact(2), notes(2)),
        Append::new(two.clone(), ExpectedVersion::Any, notes(1)),
    ];
    let first_together = append_all(store, &together).await;

    erase(store, &one).await;

    let again = append(store, &one, ExpectedVersion::NoStream, &events).await;
    assert_eq!(again, first, "the first result");
    let again = append_all(store, &together).await;
    assert_eq!(again, first_together, "the first results");
    let held = whole_stream(store, &one).await;
    assert!(
        held[..4].iter().all(RecordedEvent::is_erased),
        "it stays so"
    );
    assert_eq!(held.len(), 5, "four events and the tombstone");
}

/// The ids of erased events stay taken.
pub async fn the_ids_stay_taken<S: Store>(store: &S) {
    let (erased, events) = secret_stream(store).await;
    erase(store, &erased).await;

    let err = refused(store, &stream(), ExpectedVersion::Any, &events[1..]).await;

    assert!(
        matches!(err, AppendError::DuplicateId { .. }),
        "expected DuplicateId, got: {err}: {err:?}",
    );
}

/// Erased again, a stream stays as it is, and the first answer is returned.
pub async fn a_second_erasure_returns_the_first_answer<S: Store>(store: &S) {
    let (stream, _) = secret_stream(store).await;
    let first = erase(store, &stream).await;
    let before = whole_stream(store, &stream).await;

    for reason in ["asked to", "asked again"] {
        let tombstone = StreamErased::new(reason, "somebody else");
        let again = store.erase(&stream, &tombstone).await;
        assert_eq!(again.expect("it is erased"), first, "the first answer");
    }
    assert_eq!(whole_stream(store, &stream).await, before, "it stays so");
}

/// A stream that does not exist cannot be erased, nor one under another type.
pub async fn an_unknown_stream_is_not_found<S: Store>(store: &S) {
    let (known, events) = secret_stream(store).await;
    let unknown = stream();
    let other = StreamId::new("another_type", known.aggregate_id);

    for missing in [&unknown, &other] {
        match store.erase(missing, &tombstone()).await {
            Ok(answer) => panic!("`{missing}` is not there to be erased, got: {answer:?}"),
            Err(err) => assert!(
                matches!(&err, EraseError::NotFound { stream } if stream == missing),
                "expected NotFound, got: {err}: {err:?}",
            ),
        }
        assert_holds(store, missing, &[]).await;
    }
    let held = whole_stream(store, &known).await;
    assert_eq!(ids(&held), new_ids(&events), "no tombstone");
    assert!(!held.iter().any(RecordedEvent::is_erased), "nothing erased");
    add(store, &unknown, &notes(1)).await;
}

/// Other streams, their snapshots and their later appends are as before.
pub async fn other_streams_are_untouched<S: Store>(store: &S) {
    let (erased, _) = secret_stream(store).await;
    let (other, _) = secret_stream(store).await;
    save(store, &snapshot(&other, 2)).await;
    let before = whole_stream(store, &other).await;

    erase(store, &erased).await;

    assert_eq!(
        whole_stream(store, &other).await,
        before,
        "the other stream"
    );
    let kept = load(store, &other, Version::MAX).await;
    assert_eq!(kept.map(|kept| kept.version), Some(Version::new(2)));
    append(store, &other, exact(3), &notes(1)).await;
}

/// Erasures that race with each other and with appends: one tombstone, at the end, and everything
/// before it erased.
pub async fn racing_erasures_and_appends_leave_one_tombstone<S: Store>(store: &S) {
    for _ in 0..5 {
        let stream = secret_stream(store).await.0;
        let writers = join_all((0..8).map(|_| {
            let (store, stream) = (store.clone(), stream.clone());
            tokio::spawn(async move {
                for _ in 0..4 {
                    match store.append(&stream, ExpectedVersion::Any, &notes(2)).await {
                        Ok(_) => {}
                        Err(AppendError::Erased { .. }) => return,
                        Err(err) => panic!("expected Erased, got: {err}: {err:?}"),
                    }
                    tokio::task::yield_now().await;
                }
            })
        }));
        let erasers = join_all((0..4).map(|_| {
            let (store, stream) = (store.clone(), stream.clone());
            tokio::spawn(async move { erase(&store, &stream).await })
        }));
        let (writers, erasers) = futures::join!(writers, erasers);

        for writer in writers {
            writer.expect("a writer must not fail");
        }
        let held = whole_stream(store, &stream).await;
        let last = held.last().expect("it has events");
        for answer in erasers {
            let answer = answer.expect("an eraser must not fail");
            assert_eq!(answer.position, last.position, "one tombstone for all");
        }
        assert_eq!(last.event_type, StreamErased::EVENT_TYPE, "it comes last");
        let before = &held[..held.len() - 1];
        assert!(before.iter().all(RecordedEvent::is_erased), "all before it");
    }
}

/// A stream of three events that say too much.
async fn secret_stream<S: Store>(store: &S) -> (StreamId, Vec<NewEvent>) {
    let stream = stream();
    let events = vec![secret(), secret(), secret()];
    add(store, &stream, &events).await;
    (stream, events)
}

fn secret() -> NewEvent {
    let mut secret = event("secret");
    secret.event_data = es_core::Json::from_stored(format!(r#"{{"address":"{SECRET}"}}"#));
    secret.schema_version = 2;
    secret.metadata.actor = Some(SECRET.to_owned());
    secret
}

fn tombstone() -> StreamErased {
    StreamErased::new("asked to", "the officer")
}

async fn erase<S: Store>(store: &S, stream: &StreamId) -> Appended {
    match store.erase(stream, &tombstone()).await {
        Ok(answer) => answer,
        Err(err) => panic!("`{stream}` must be erased, got: {err}: {err:?}"),
    }
}

#[track_caller]
fn assert_refused_as_erased(err: &AppendError, stream: &StreamId, expected: ExpectedVersion) {
    assert!(
        matches!(err, AppendError::Erased { stream: s } if s == stream),
        "expected Erased of `{stream}` when expecting {expected}, got: {err}: {err:?}",
    );
    assert!(!err.is_retryable(), "it stays erased");
}
