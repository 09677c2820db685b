//! Clocks that stand still or go back. `created_at` is data; the order is the position.

use chrono::TimeDelta;
use es_core::{EventStore, Filter, Position, Version};

use super::paging::scan_all;
use crate::oracle::{ReadModel, add, lamp};

/// On a clock that stands still: thousands of events with one timestamp, each read once.
pub(crate) async fn created_at_ties(store: impl EventStore) {
    const COUNT: usize = 2_000;
    let streams = [lamp(), lamp(), lamp()];
    for n in 0..COUNT / 50 {
        add(&store, &streams[n % 3], 50).await;
    }
    let log = store.read_log(&Filter::All, Position::START, 10_000);
    let log = log.await.unwrap().events;
    assert_eq!(log.len(), COUNT);
    assert!(
        log.iter()
            .all(|event| event.created_at == log[0].created_at)
    );

    for limit in [1, 7, 100] {
        assert_eq!(scan_all(&store, limit).await, log, "scans of {limit}");
        let (mut model, mut covered) = (ReadModel::default(), Position::START);
        while covered < log[COUNT - 1].position {
            let page = store.read_log(&Filter::All, covered, limit).await.unwrap();
            page.events.iter().for_each(|event| model.apply(event));
            covered = page.covered;
        }
        let count: i64 = model.tallies.values().map(|tally| tally.count).sum();
        assert_eq!(count, 2_000, "pages of {limit}");
    }
}

/// `step_back` sets the clock back by an hour. A reader's checkpoint goes on, positions rise, and the
/// times inside a stream do not fall.
pub(crate) async fn clock_backwards(store: impl EventStore, step_back: impl AsyncFnOnce()) {
    let (old, new) = (lamp(), lamp());
    add(&store, &old, 2).await;
    let before = store.read_log(&Filter::All, Position::START, 100).await;
    let before = before.unwrap();
    step_back().await;
    add(&store, &old, 2).await;
    add(&store, &new, 2).await;
    add(&store, &old, 2).await;

    let after = store.read_log(&Filter::All, before.covered, 100).await;
    let after = after.unwrap();
    let mut model = ReadModel::default();
    for event in before.events.iter().chain(&after.events) {
        model.apply(event);
    }
    assert_eq!(model.tallies[&old.aggregate_id].count, 6);
    assert_eq!(model.tallies[&new.aggregate_id].count, 2);

    let stream = store.read_stream(&old, Version::EMPTY, 100).await.unwrap();
    assert!(stream.is_sorted_by_key(|event| event.created_at));
    assert!(
        stream[0].created_at > chrono::Utc::now() + TimeDelta::minutes(50),
        "the clock was not ahead"
    );
    // A scan from the start is exact whatever the clock did, and keeps the streams in order.
    let scanned = scan_all(&store, 3).await;
    assert_eq!(scanned.len(), 8);
    let of_old = scanned
        .iter()
        .filter(|e| e.aggregate_id == old.aggregate_id);
    assert!(of_old.eq(&stream));
}
