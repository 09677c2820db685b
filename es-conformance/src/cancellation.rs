//! What a dropped future leaves behind.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use es_core::{
    Append, AppendError, Event, EventStore, ExpectedVersion, NewEvent, RecordedEvent, StreamErased,
    StreamId, Version,
};
use futures::FutureExt;
use tokio::time::timeout;

use crate::{
    Store,
    append_all::is_recorded,
    fixtures::{
        SOON, add, append_all, ids, new_ids, notes, settle, stream, whole_log, whole_stream,
    },
    snapshot::{load, save, snapshot},
};

const MICROS: [u64; 14] = [
    0, 1, 20, 50, 100, 200, 400, 800, 1_200, 1_600, 2_000, 3_000, 5_000, 10_000,
];

/// An append dropped after any number of polls left all of its events or none, and can be repeated.
pub async fn an_append_dropped_after_any_poll_is_whole_or_absent<S: Store>(store: &S) {
    for polls in 0..500 {
        let (stream, events) = (stream(), notes(5));
        let append = store.append(&stream, ExpectedVersion::NoStream, &events);
        let ended = polled(append, polls).await;
        assert_whole_or_absent(store, &stream, &events).await;
        if ended {
            break;
        }
    }
}

/// An append dropped after any time left all of its events or none, and can be repeated.
pub async fn an_append_dropped_after_any_time_is_whole_or_absent<S: Store>(store: &S) {
    for _ in 0..3 {
        for limit in MICROS.map(Duration::from_micros) {
            let (stream, events) = (stream(), notes(20));
            let append = store.append(&stream, ExpectedVersion::Any, &events);
            drop(timeout(limit, append).await);
            assert_whole_or_absent(store, &stream, &events).await;
        }
    }
}

/// An append to several streams dropped after any number of polls left all of them or none.
pub async fn an_append_all_dropped_after_any_poll_is_whole_or_absent<S: Store>(store: &S) {
    for polls in 0..500 {
        let appends = three_streams();
        let ended = polled(store.append_all(&appends), polls).await;
        assert_all_or_none(store, &appends).await;
        if ended {
            break;
        }
    }
}

/// An append to several streams dropped after any time left all of them or none.
pub async fn an_append_all_dropped_after_any_time_is_whole_or_absent<S: Store>(store: &S) {
    for limit in MICROS.map(Duration::from_micros) {
        let appends = three_streams();
        drop(timeout(limit, store.append_all(&appends)).await);
        assert_all_or_none(store, &appends).await;
    }
}

/// An erasure dropped after any number of polls has erased everything or nothing, and can be repeated.
pub async fn an_erasure_dropped_after_any_poll_is_whole_or_absent<S: Store>(store: &S) {
    for polls in 0..500 {
        let stream = erasable(store).await;
        let ended = polled(store.erase(&stream, &tombstone()), polls).await;
        assert_erased_or_untouched(store, &stream).await;
        if ended {
            break;
        }
    }
}

/// An erasure dropped after any time has erased everything or nothing, and can be repeated.
pub async fn an_erasure_dropped_after_any_time_is_whole_or_absent<S: Store>(store: &S) {
    for limit in MICROS.map(Duration::from_micros) {
        let stream = erasable(store).await;
        drop(timeout(limit, store.erase(&stream, &tombstone())).await);
        assert_erased_or_untouched(store, &stream).await;
    }
}

/// A writer task aborted in the middle of its appends left each of them whole or absent.
pub async fn an_aborted_writer_leaves_whole_appends<S: Store>(store: &S) {
    for round in 0..24 {
        let stream = stream();
        let batches: Vec<_> = (0..50).map(|_| notes(4)).collect();
        let writer = {
            let (store, stream, batches) = (store.clone(), stream.clone(), batches.clone());
            tokio::spawn(async move {
                for events in &batches {
                    drop(store.append(&stream, ExpectedVersion::Any, events).await);
                }
            })
        };
        // A store in memory gets on by turns, a database by time.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        for _ in 0..round / 4 {
            add(store, &crate::fixtures::stream(), &notes(1)).await;
        }
        writer.abort();
        drop(writer.await);

        let last = notes(1);
        must_be_usable(store, &stream, &last).await;
        let held = ids(&whole_stream(store, &stream).await);
        for events in &batches {
            let found = new_ids(events)
                .iter()
                .filter(|id| held.contains(id))
                .count();
            assert!(
                found == 0 || found == events.len(),
                "an aborted append left {found} of {} events",
                events.len(),
            );
        }
    }
}

/// A dropped append does not hold the log back: what is appended afterwards settles.
pub async fn a_dropped_append_does_not_hold_the_log_back<S: Store>(store: &S) {
    for polls in 0..500 {
        let (stream, events) = (stream(), notes(3));
        let append = store.append(&stream, ExpectedVersion::Any, &events);
        let ended = polled(append, polls).await;
        let later = add(store, &crate::fixtures::stream(), &notes(1)).await;
        settle(store, later.position).await;
        if ended {
            break;
        }
    }
}

/// Polls a future so many times, each when it asks for it, and drops it; returns whether it ended.
/// Counting up from 0 drops it at each of its `await`s.
async fn polled<F: Future + Unpin>(mut future: F, mut polls: usize) -> bool {
    poll_fn(|context| {
        if polls == 0 {
            return Poll::Ready(false);
        }
        polls -= 1;
        match future.poll_unpin(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polls == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn must_be_usable(store: &dyn EventStore, stream: &StreamId, events: &[NewEvent]) {
    if timeout(SOON, add(store, stream, events)).await.is_err() {
        panic!("after a dropped append the stream must be usable, but an append took {SOON:?}");
    }
}

async fn assert_whole_or_absent(store: &dyn EventStore, stream: &StreamId, events: &[NewEvent]) {
    let (dropped, next) = (new_ids(events), notes(1));
    must_be_usable(store, stream, &next).await;
    let held = ids(&whole_stream(store, stream).await);
    let found: Vec<_> = held
        .iter()
        .copied()
        .filter(|id| dropped.contains(id))
        .collect();
    assert!(
        found.is_empty() || found == dropped,
        "a dropped append left {} of {} events",
        found.len(),
        dropped.len(),
    );

    // The answer was lost: the writer repeats the append as it was.
    must_be_usable(store, stream, events).await;
    let held = whole_stream(store, stream).await;
    assert_eq!(
        held.len(),
        events.len() + 1,
        "after the repetition the stream holds each event once",
    );
    let last = held
        .iter()
        .map(|event| event.position)
        .max()
        .expect("events");
    settle(store, last).await;
    let log = whole_log(store, &es_core::Filter::All, 1_000).await;
    for event in &held {
        let found = log.iter().filter(|e| e.event_id == event.event_id).count();
        assert_eq!(found, 1, "an event of a repeated append in the log");
    }
}

fn three_streams() -> Vec<Append> {
    (2..5)
        .map(|n| Append::new(stream(), ExpectedVersion::Any, notes(n)))
        .collect()
}

async fn assert_all_or_none(store: &dyn EventStore, appends: &[Append]) {
    // What is still on its way is through or gone once each stream has taken another event.
    for append in appends {
        must_be_usable(store, &append.stream, &notes(1)).await;
    }
    is_recorded(store, appends).await;
    // The answer was lost: the writer repeats the append as it was.
    if timeout(SOON, append_all(store, appends)).await.is_err() {
        panic!("after a dropped append its repetition took more than {SOON:?}");
    }
    assert!(is_recorded(store, appends).await, "the repetition is there");
    for append in appends {
        let held = whole_stream(store, &append.stream).await;
        assert_eq!(held.len(), append.events.len() + 1, "each event once");
    }
}

async fn erasable<S: Store>(store: &S) -> StreamId {
    let stream = stream();
    add(store, &stream, &notes(5)).await;
    save(store, &snapshot(&stream, 5)).await;
    stream
}

fn tombstone() -> StreamErased {
    StreamErased::new("asked to", "the officer")
}

async fn assert_erased_or_untouched<S: Store>(store: &S, stream: &StreamId) {
    // What is still on its way is through or gone once the stream has answered an append.
    let next = notes(1);
    let answer = store.append(stream, ExpectedVersion::Any, &next);
    match timeout(SOON, answer).await {
        Ok(Ok(_) | Err(AppendError::Erased { .. })) => {}
        other => panic!("after a dropped erasure the stream must answer, got: {other:?}"),
    }
    let held = whole_stream(store, stream).await;
    let kept = load(store, stream, Version::MAX).await.is_some();
    if is_ended(&held) {
        assert_eq!((erased(&held), kept), (held.len() - 1, false), "all of it");
    } else {
        assert_eq!((erased(&held), kept), (0, true), "none of it");
    }
    // The answer was lost: the caller repeats.
    match timeout(SOON, store.erase(stream, &tombstone())).await {
        Ok(Ok(_)) => {}
        other => panic!("a dropped erasure can be repeated, got: {other:?}"),
    }
    let held = whole_stream(store, stream).await;
    assert!(is_ended(&held), "after the repetition it is erased");
    assert_eq!(erased(&held), held.len() - 1, "after the repetition");
}

fn is_ended(held: &[RecordedEvent]) -> bool {
    held.last()
        .is_some_and(|last| last.event_type == StreamErased::EVENT_TYPE)
}

fn erased(held: &[RecordedEvent]) -> usize {
    held.iter().filter(|event| event.is_erased()).count()
}
