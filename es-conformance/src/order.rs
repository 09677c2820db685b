//! The order of the log under concurrent writers, and the settled horizon.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use es_core::{
    Append, Event, EventStore, ExpectedVersion, Filter, NewEvent, Position, RecordedEvent,
    StreamErased, Version,
};
use futures::future::join_all;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::{
    Store,
    fixtures::{
        Reader, SOON, add, append_all, event, new_ids, notes, settle, stream, whole_log,
        whole_stream,
    },
};

/// Positions rise with the versions inside a stream.
pub async fn positions_rise_with_versions(store: &dyn EventStore) {
    let (one, two) = (stream(), stream());
    for n in 0..10 {
        add(store, &one, &notes(n % 3 + 1)).await;
        add(store, &two, &notes(1)).await;
    }

    for stream in [one, two] {
        let held = whole_stream(store, &stream).await;
        for pair in held.windows(2) {
            assert!(
                pair[0].position < pair[1].position,
                "version {} is at {}, version {} at {}",
                pair[0].event_version,
                pair[0].position,
                pair[1].event_version,
                pair[1].position,
            );
        }
    }
}

/// An append that starts after another was acknowledged has a higher position.
pub async fn a_later_append_has_a_higher_position<S: Store>(store: &S) {
    let other = store.clone();
    let mut last = Position::START;
    for n in 0..40 {
        let handle: &dyn EventStore = if n % 2 == 0 { store } else { &other };
        let appended = add(handle, &stream(), &notes(2)).await;
        assert!(
            appended.position > last,
            "position {} was given after {last} was acknowledged",
            appended.position,
        );
        last = appended.position;
    }
}

/// `created_at` does not fall inside a stream, and has whole microseconds.
pub async fn created_at_does_not_fall_in_a_stream<S: Store>(store: &S) {
    let stream = stream();
    join_all((0..6).map(|_| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move {
            for n in 0..10 {
                add(&store, &stream, &notes(n % 3 + 1)).await;
                tokio::task::yield_now().await;
            }
        })
    }))
    .await
    .into_iter()
    .for_each(|writer| writer.expect("a writer must not panic"));

    let held = whole_stream(store, &stream).await;
    for event in &held {
        let nanos = event.created_at.timestamp_subsec_nanos();
        assert_eq!(
            nanos % 1_000,
            0,
            "created_at {} has nanoseconds",
            event.created_at
        );
    }
    for pair in held.windows(2) {
        assert!(
            pair[0].created_at <= pair[1].created_at,
            "created_at falls from {} to {} at version {}",
            pair[0].created_at,
            pair[1].created_at,
            pair[1].event_version,
        );
    }
}

/// While eight writers append, to one stream and to several, and erase, readers see each event
/// exactly once, in order, and none late.
pub async fn nothing_appears_late<S: Store>(store: &S) {
    let shared = stream();
    let end = Arc::new(OnceLock::new());
    let readers: Vec<_> = [1, 7, 100]
        .into_iter()
        .map(|limit| follow(store.clone(), Filter::All, limit, end.clone()))
        .chain([follow(
            store.clone(),
            Filter::event_types(["odd"]),
            7,
            end.clone(),
        )])
        .map(tokio::spawn)
        .collect();
    let writers = (0..8_usize).map(|writer| {
        let (store, shared) = (store.clone(), shared.clone());
        tokio::spawn(async move {
            let own = [stream(), stream()];
            let mut written = Vec::new();
            let mut last = Position::START;
            for n in 0..63_usize {
                let kind = if (n + writer) % 2 == 0 { "even" } else { "odd" };
                let events: Vec<_> = (0..n % 5 + 1).map(|_| event(kind)).collect();
                if n % 7 == 3 {
                    let half = |n: usize, events: &[NewEvent]| {
                        Append::new(own[n].clone(), ExpectedVersion::Any, events.to_vec())
                    };
                    let more = [event(kind)];
                    append_all(&store, &[half(0, &events), half(1, &more)]).await;
                    written.extend(more);
                } else {
                    let stream = if n % 4 == 0 { &shared } else { &own[n % 2] };
                    last = last.max(add(&store, stream, &events).await.position);
                }
                written.extend(events);
                tokio::task::yield_now().await;
            }
            let tombstone = StreamErased::new("asked to", "the officer");
            let erased = store.erase(&own[1], &tombstone).await;
            let erased = erased.expect("a stream can be erased");
            (written, last.max(erased.position))
        })
    });

    let mut written = Vec::new();
    let mut last = Position::START;
    for writer in join_all(writers).await {
        let (events, position) = writer.expect("a writer must not panic");
        written.extend(events);
        last = last.max(position);
    }
    end.set(last).expect("the end is known once");
    settle(store, last).await;
    let log = whole_log(store, &Filter::All, 1_000).await;

    let mut expected = new_ids(&written);
    let mut found: Vec<_> = log
        .iter()
        .filter(|event| event.event_type != StreamErased::EVENT_TYPE)
        .map(|event| event.event_id)
        .collect();
    assert_eq!(log.len(), found.len() + 8, "a tombstone of each writer");
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(
        found.len(),
        expected.len(),
        "the log holds what was written"
    );
    assert_eq!(found, expected, "the log holds what was written");
    for (reader, kind) in readers.into_iter().zip([None, None, None, Some("odd")]) {
        let seen = reader
            .await
            .expect("a reader that follows the log must not fail");
        assert_in_order(&seen);
        let seen: Vec<_> = seen.iter().map(|event| event.event_id).collect();
        let expected: Vec<_> = log
            .iter()
            .filter(|event| kind.is_none_or(|kind| event.event_type == kind))
            .map(|event| event.event_id)
            .collect();
        let late = expected.iter().filter(|id| !seen.contains(id)).count();
        assert_eq!(
            late,
            0,
            "{late} of {} events appeared behind a reader that had passed their place",
            expected.len(),
        );
        assert_eq!(
            seen, expected,
            "a reader sees each event exactly once, in order"
        );
    }
}

/// An acknowledged append is settled soon.
pub async fn an_acknowledged_append_settles(store: &dyn EventStore) {
    for _ in 0..20 {
        let appended = add(store, &stream(), &notes(2)).await;
        settle(store, appended.position).await;
    }
}

/// The settled horizon never falls, and never passes the end of the log's acknowledged appends.
pub async fn the_settled_horizon_never_falls<S: Store>(store: &S) {
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                add(&store, &stream(), &notes(2)).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let mut last = Position::START;
    while !writer.is_finished() {
        let settled = store.settled().await.expect("the horizon can be read");
        assert!(
            settled >= last,
            "the settled horizon fell from {last} to {settled}"
        );
        last = settled;
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer must not panic");

    let appended = add(store, &stream(), &notes(1)).await;
    assert!(
        appended.position > last,
        "an append went to {}, though {last} was settled before",
        appended.position,
    );
}

/// Waiting for events ends when another handle appends.
pub async fn waiting_ends_with_an_append_of_another_handle<S: Store>(store: &S) {
    for _ in 0..5 {
        let settled = store.settled().await.expect("the horizon can be read");
        let waiter = {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    store
                        .wait_for_events(settled)
                        .await
                        .expect("the log can be waited for");
                    if store.settled().await.expect("the horizon can be read") > settled {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        };
        // Both cases are meant: the append may come before or during the wait.
        tokio::time::sleep(Duration::from_millis(20)).await;
        add(&store.clone(), &stream(), &notes(1)).await;

        let woken = timeout(SOON, waiter).await;
        woken
            .expect("a waiter must see an append of another handle soon")
            .expect("the waiter must not panic");
    }
}

/// Waiting for events that are already there ends at once.
pub async fn waiting_for_what_is_there_ends_at_once(store: &dyn EventStore) {
    let appended = add(store, &stream(), &notes(1)).await;
    settle(store, appended.position).await;

    let waited = timeout(SOON, store.wait_for_events(Position::START)).await;

    waited
        .expect("waiting must end, because the events are there")
        .expect("the log can be waited for");
}

/// A wait that is dropped leaves the store usable.
pub async fn a_dropped_wait_leaves_the_store_usable(store: &dyn EventStore) {
    let stream = stream();
    for n in 1..=5_u32 {
        let settled = store.settled().await.expect("the horizon can be read");
        drop(timeout(Duration::from_millis(2), store.wait_for_events(settled)).await);
        let appended = add(store, &stream, &notes(1)).await;
        assert_eq!(appended.version, Version::new(n), "the next version");
        settle(store, appended.position).await;
    }
}

/// Appends that are refused leave nothing for a reader of the log.
pub async fn refused_appends_leave_no_trace_in_the_log<S: Store>(store: &S) {
    let stream = stream();
    let held = notes(1);
    add(store, &stream, &held).await;
    join_all((0..8).map(|_| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let answer = store
                    .append(&stream, ExpectedVersion::NoStream, &notes(3))
                    .await;
                assert!(answer.is_err(), "a second first event must be refused");
            }
        })
    }))
    .await
    .into_iter()
    .for_each(|writer| writer.expect("every append must be refused"));

    crate::fixtures::assert_holds(store, &stream, &held).await;
}

/// Follows the log until the writers are done and everything they wrote is covered.
async fn follow<S: Store>(
    store: S,
    filter: Filter,
    limit: u32,
    end: Arc<OnceLock<Position>>,
) -> Vec<RecordedEvent> {
    let mut reader = Reader::new(filter, limit);
    let mut stuck_since = Instant::now();
    loop {
        if end.get().is_some_and(|end| reader.after >= *end) {
            return reader.seen;
        }
        if reader.page(&store).await {
            stuck_since = Instant::now();
            continue;
        }
        assert!(
            end.get().is_none() || stuck_since.elapsed() < SOON,
            "a reader is stuck at {}, though appends up to {end:?} were acknowledged",
            reader.after,
        );
        let wait = store.wait_for_events(reader.after);
        if let Ok(waited) = timeout(Duration::from_millis(100), wait).await {
            waited.expect("the log can be waited for");
        }
    }
}

#[track_caller]
fn assert_in_order(seen: &[RecordedEvent]) {
    for pair in seen.windows(2) {
        assert!(
            pair[0].position < pair[1].position,
            "a reader saw position {} after {}",
            pair[1].position,
            pair[0].position,
        );
    }
    let mut versions: HashMap<Uuid, Version> = HashMap::new();
    for event in seen {
        let last = versions.insert(event.aggregate_id, event.event_version);
        assert!(
            last < Some(event.event_version),
            "a reader saw version {} of {} after {last:?}",
            event.event_version,
            event.aggregate_id,
        );
    }
}
