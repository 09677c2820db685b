//! Scanning one event type by time.

use chrono::TimeDelta;
use es_core::{EventStore, RecordedEvent, Scan};

use crate::fixtures::{add, event, ids, new_ids, notes, settle, stream, whole_log};

/// A scan finds the events of its type and no others.
pub async fn a_scan_finds_one_type(store: &dyn EventStore) {
    let events: Vec<_> = (0..30)
        .map(|n| event(["tick", "tock", "tic"][n % 3]))
        .collect();
    let appended = add(store, &stream(), &events).await;
    settle(store, appended.position).await;

    let found = pages(store, Scan::of("tick"), 7).await;

    let ticks: Vec<_> = events
        .into_iter()
        .filter(|e| e.event_type == "tick")
        .collect();
    assert_eq!(ids(&found), new_ids(&ticks), "the events of one type");
    let none = pages(store, Scan::of("nobody_wrote_this"), 7).await;
    assert!(
        none.is_empty(),
        "a type without events found {}",
        none.len()
    );
}

/// A scan reads each event once, by time and then by position, with any size of page.
pub async fn a_scan_reads_each_event_once(store: &dyn EventStore) {
    let all = write_over_time(store).await;

    for limit in [1, 7, 100] {
        let found = pages(store, Scan::of("note"), limit).await;
        assert_eq!(found.len(), all.len(), "in pages of {limit}");
        assert_eq!(found, all, "by time, then by position, in pages of {limit}");
    }
}

/// A scan that starts at a time includes the events of that very time.
pub async fn a_scan_starts_with_the_time_given(store: &dyn EventStore) {
    let all = write_over_time(store).await;

    for from in times(&all) {
        let scan = Scan {
            from: Some(from),
            ..Scan::of("note")
        };
        let expected: Vec<_> = all
            .iter()
            .filter(|e| e.created_at >= from)
            .cloned()
            .collect();
        assert_eq!(
            ids(&pages(store, scan, 7).await),
            ids(&expected),
            "from {from}"
        );
    }
}

/// A scan that ends at a time leaves out the events of that very time.
pub async fn a_scan_ends_before_the_time_given(store: &dyn EventStore) {
    let all = write_over_time(store).await;

    for until in times(&all) {
        let scan = Scan {
            until: Some(until),
            ..Scan::of("note")
        };
        let expected: Vec<_> = all
            .iter()
            .filter(|e| e.created_at < until)
            .cloned()
            .collect();
        assert_eq!(
            ids(&pages(store, scan, 7).await),
            ids(&expected),
            "until {until}"
        );
    }
}

/// A scan of a range keeps to both ends, whatever the size of its pages.
pub async fn a_scan_keeps_to_its_range(store: &dyn EventStore) {
    let all = write_over_time(store).await;
    let mut times: Vec<_> = all.iter().map(|event| event.created_at).collect();
    times.dedup();
    let (from, until) = (times[times.len() / 4], times[times.len() * 3 / 4]);
    let scan = Scan {
        from: Some(from),
        until: Some(until),
        ..Scan::of("note")
    };
    let expected: Vec<_> = all
        .into_iter()
        .filter(|e| from <= e.created_at && e.created_at < until)
        .collect();

    for limit in [1, 7, 100] {
        let found = pages(store, scan.clone(), limit).await;
        assert_eq!(
            ids(&found),
            ids(&expected),
            "{from} to {until} in pages of {limit}"
        );
    }
    let empty = Scan {
        until: Some(from),
        ..scan
    };
    assert!(
        pages(store, empty, 7).await.is_empty(),
        "an empty range has no events"
    );
}

/// Events of one append, whose times may be equal, are told apart by position.
pub async fn a_scan_tells_equal_times_apart(store: &dyn EventStore) {
    let mut last = None;
    for _ in 0..5 {
        last = Some(add(store, &stream(), &notes(50)).await);
    }
    settle(store, last.expect("appends").position).await;

    for limit in [1, 7, 100] {
        let found = pages(store, Scan::of("note"), limit).await;
        assert_eq!(found.len(), 250, "each event once in pages of {limit}");
        assert_ordered(&found);
    }
}

/// A scan of at most no events is empty.
pub async fn a_scan_of_no_events_is_empty(store: &dyn EventStore) {
    let appended = add(store, &stream(), &notes(3)).await;
    settle(store, appended.position).await;

    let found = store
        .scan(&Scan::of("note"), 0)
        .await
        .expect("a scan works");

    assert!(found.is_empty(), "limit 0 returned {}", found.len());
}

/// Appends of several sizes, some at distinct times; returns what a scan must find.
async fn write_over_time(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let streams = [stream(), stream(), stream()];
    let mut last = None;
    for n in 0..24 {
        last = Some(add(store, &streams[n % 3], &notes(n % 4 + 1)).await);
        add(store, &streams[n % 3], &[event("other")]).await;
        // Only to have several times; nothing waits for it.
        tokio::time::sleep(std::time::Duration::from_micros(100)).await;
    }
    settle(store, last.expect("appends").position).await;
    let mut all: Vec<_> = whole_log(store, &es_core::Filter::event_types(["note"]), 1_000).await;
    all.sort_by_key(|event| (event.created_at, event.position));
    assert_eq!(all.len(), 60, "the log holds what was written");
    all
}

/// Each time there is, and those next to it.
fn times(events: &[RecordedEvent]) -> Vec<chrono::DateTime<chrono::Utc>> {
    let step = TimeDelta::microseconds(1);
    let mut times: Vec<_> = events
        .iter()
        .flat_map(|e| [e.created_at - step, e.created_at, e.created_at + step])
        .collect();
    times.sort_unstable();
    times.dedup();
    times
}

async fn pages(store: &dyn EventStore, mut scan: Scan, limit: u32) -> Vec<RecordedEvent> {
    let mut found = Vec::new();
    loop {
        let page = store.scan(&scan, limit).await.expect("a scan works");
        assert!(
            page.len() <= limit as usize,
            "a page of at most {limit} has {} events",
            page.len(),
        );
        let Some(last) = page.last() else {
            assert_ordered(&found);
            return found;
        };
        assert!(
            scan.after
                .is_none_or(|after| after < (last.created_at, last.position)),
            "a scan does not get past {:?}",
            scan.after,
        );
        scan = scan.after(last);
        found.extend(page);
        tokio::task::yield_now().await;
    }
}

#[track_caller]
fn assert_ordered(events: &[RecordedEvent]) {
    for pair in events.windows(2) {
        assert!(
            (pair[0].created_at, pair[0].position) < (pair[1].created_at, pair[1].position),
            "a scan found ({}, {}) before ({}, {})",
            pair[0].created_at,
            pair[0].position,
            pair[1].created_at,
            pair[1].position,
        );
    }
}
