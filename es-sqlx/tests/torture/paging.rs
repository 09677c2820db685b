//! Pages of the log and of scans: what they may leave out, and where a checkpoint may be set.

use std::collections::BTreeMap;

use es_core::{
    EventStore, ExpectedVersion, Filter, Json, NewEvent, Position, RecordedEvent, Scan, StreamId,
    Version,
};
use uuid::Uuid;

use crate::oracle::lamp;

/// Full, short and empty pages, dense, sparse and absent types, while others write: nothing that
/// matches lies between the pages, and the cover never goes beyond what is settled.
pub(crate) async fn page_boundary_checkpoint(store: impl EventStore) {
    let stream = lamp();
    for n in 0..40 {
        add(&store, &stream, if n % 13 == 5 { "rare" } else { "often" }).await;
    }
    let filters = [&["often"][..], &["rare"], &["absent"], &["rare", "absent"]];
    let filters = filters.map(|names| Filter::event_types(names.iter().copied()));
    for filter in filters.iter().chain([&Filter::All]) {
        for limit in [1, 2, 3, 4, 36, 37, 38, 39, 40, 41] {
            walk(&store, filter, limit, async |_| {}).await;
        }
    }
    // The log grows between the pages, by events that match and by others.
    for filter in &filters {
        for limit in [1, 3, 40] {
            walk(&store, filter, limit, async |page| {
                if page < 3 {
                    add(&store, &stream, "often").await;
                    add(&store, &stream, "rare").await;
                }
            })
            .await;
        }
    }
    let none = store.read_log(&Filter::All, Position::new(3), 0).await;
    assert_eq!(
        none.unwrap().covered,
        Position::new(3),
        "an empty page scans nothing"
    );
}

/// Goes through the log by what pages say of themselves, then compares with the log as a whole.
async fn walk(store: &impl EventStore, filter: &Filter, limit: u32, between: impl AsyncFn(usize)) {
    let (mut covered, mut seen, mut pages) = (Position::START, Vec::new(), 0);
    loop {
        let page = store.read_log(filter, covered, limit).await.unwrap();
        let settled = store.settled().await.unwrap();
        assert!(
            page.covered <= settled,
            "covered beyond the settled horizon"
        );
        assert!(page.events.iter().all(|e| e.position <= page.covered));
        let full = page.events.len() == limit as usize;
        if let Some(last) = page.events.last().filter(|_| full) {
            assert_eq!(
                page.covered, last.position,
                "what comes next was not scanned"
            );
        }
        let done = page.covered == covered;
        covered = page.covered;
        seen.extend(page.events);
        // What the checkpoint says is applied, from the log as it is now.
        let all = store.read_log(&Filter::All, Position::START, 100_000).await;
        let wanted = all.unwrap().events.into_iter();
        let wanted = wanted.filter(|e| e.position <= covered && matches(filter, e));
        assert!(
            wanted.eq(seen.iter().cloned()),
            "{filter:?} in pages of {limit}"
        );
        if done {
            return;
        }
        between(pages).await;
        pages += 1;
    }
}

fn matches(filter: &Filter, event: &RecordedEvent) -> bool {
    match filter {
        Filter::All => true,
        Filter::EventTypes(names) => names.contains(&event.event_type),
    }
}

async fn add(store: &impl EventStore, stream: &StreamId, event_type: &'static str) {
    let event = NewEvent::new(event_type, Json::from_stored("{}"));
    store
        .append(stream, ExpectedVersion::Any, &[event])
        .await
        .unwrap();
}

/// A scan by `created_at` while writers are active. Of everything that was settled when it began it
/// must find each event once, and each stream in order.
pub(crate) async fn scan_of_frozen_prefix(store: &impl EventStore, limit: u32) -> usize {
    let frozen = store.settled().await.unwrap();
    let mut found = scan_all(store, limit).await;
    let settled = store.settled().await.unwrap();
    let last = found.iter().map(|event| event.position).max();
    assert!(last <= Some(settled), "{last:?} is not settled");
    found.retain(|event| event.position <= frozen);

    let mut versions = BTreeMap::<Uuid, u32>::new();
    for event in &found {
        let version = versions.entry(event.aggregate_id).or_default();
        *version += 1;
        assert_eq!(event.event_version, Version::new(*version));
    }
    let log = store.read_log(&Filter::All, Position::START, 1_000_000);
    let log = log.await.unwrap();
    let count = log
        .events
        .iter()
        .filter(|event| event.event_type == "switched" && event.position <= frozen);
    assert_eq!(found.len(), count.count(), "lost or twice below {frozen}");
    found.len()
}

/// All events of type `switched` in pages of `limit`, each after the last of the page before.
pub(crate) async fn scan_all(store: &impl EventStore, limit: u32) -> Vec<RecordedEvent> {
    let (mut scan, mut found) = (Scan::of("switched"), Vec::new());
    loop {
        let page = store.scan(&scan, limit).await.unwrap();
        let Some(last) = page.last() else {
            return found;
        };
        scan = scan.after(last);
        found.extend(page);
    }
}
