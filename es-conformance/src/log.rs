//! Reading the log, and what a page covers.

use es_core::{EventStore, Filter, Position};

use crate::fixtures::{add, event, ids, new_ids, notes, settle, stream, whole_log};

/// The whole log is read in order and each event once, with any size of page.
pub async fn the_log_is_read_in_pages_of_any_size(store: &dyn EventStore) {
    let mut events = Vec::new();
    let (one, two) = (stream(), stream());
    for n in 0..70 {
        let batch = notes(n % 4 + 1);
        let stream = if n % 3 == 0 { &one } else { &two };
        let appended = add(store, stream, &batch).await;
        events.extend(batch);
        settle(store, appended.position).await;
    }

    for limit in [1, 7, 100, u32::MAX] {
        let log = whole_log(store, &Filter::All, limit).await;
        assert_eq!(ids(&log), new_ids(&events), "the log in pages of {limit}");
    }
}

/// A filter lets through the types it names and no others, in log order, with any size of page.
pub async fn a_filter_lets_through_the_types_it_names(store: &dyn EventStore) {
    let stream = stream();
    let types = ["red", "green", "blue", "red_", "Red"];
    let events: Vec<_> = (0..150).map(|n| event(types[n * n % 7 % 5])).collect();
    let appended = add(store, &stream, &events).await;
    settle(store, appended.position).await;

    for wanted in [
        vec!["red"],
        vec!["blue", "red"],
        vec!["red", "red"],
        vec!["red", "green", "blue", "red_", "Red"],
        vec!["nobody_wrote_this", "green"],
    ] {
        let filter = Filter::event_types(wanted.clone());
        let expected: Vec<_> = events
            .iter()
            .filter(|event| wanted.contains(&event.event_type.as_str()))
            .map(|event| event.event_id)
            .collect();
        for limit in [1, 7, 100] {
            let log = whole_log(store, &filter, limit).await;
            assert_eq!(ids(&log), expected, "types {wanted:?} in pages of {limit}");
        }
    }
}

/// A full page covers the log up to its last event and no further.
pub async fn a_full_page_covers_up_to_its_last_event(store: &dyn EventStore) {
    let events: Vec<_> = (0..40)
        .map(|n| event(if n % 2 == 0 { "even" } else { "odd" }))
        .collect();
    let appended = add(store, &stream(), &events).await;
    settle(store, appended.position).await;

    for filter in [Filter::All, Filter::event_types(["even"])] {
        for limit in [1, 7, 19] {
            let page = store
                .read_log(&filter, Position::START, limit)
                .await
                .expect("the log can be read");
            assert_eq!(
                page.events.len(),
                limit as usize,
                "a page that can be full is"
            );
            assert_eq!(
                page.covered,
                page.events[limit as usize - 1].position,
                "a full page of {limit} covers up to its last event",
            );
        }
    }
}

/// A short page covers at least its last event and at most the settled horizon.
pub async fn a_short_page_covers_no_more_than_is_settled(store: &dyn EventStore) {
    for _ in 0..20 {
        let appended = add(store, &stream(), &notes(3)).await;
        let page = store
            .read_log(&Filter::All, Position::START, 1_000)
            .await
            .expect("the log can be read");
        let settled = store.settled().await.expect("the horizon can be read");

        let last = page.events.last().map_or(Position::START, |e| e.position);
        assert!(
            page.covered >= last,
            "a page with an event at {last} covers only {}",
            page.covered,
        );
        assert!(
            page.covered <= settled,
            "a page covers {}, but only {settled} is settled",
            page.covered,
        );
        settle(store, appended.position).await;
    }
}

/// A page never covers less than it started after, not even at and behind the end of the log.
pub async fn covered_is_never_below_after(store: &dyn EventStore) {
    let appended = add(store, &stream(), &notes(3)).await;
    let settled = settle(store, appended.position).await;

    for filter in [
        Filter::All,
        Filter::event_types(["note"]),
        Filter::event_types(["none"]),
    ] {
        for after in [
            appended.position,
            settled,
            Position::new(settled.get() + 1),
            Position::new(settled.get() + 1_000_000),
        ] {
            let page = store.read_log(&filter, after, 10).await.expect("no error");
            assert!(
                page.covered >= after,
                "a page after {after} covers only {}",
                page.covered,
            );
            assert!(page.events.is_empty(), "nothing is after {after}");
        }
    }
}

/// A page starts after the position given.
pub async fn a_page_starts_after_the_position_given(store: &dyn EventStore) {
    let events = notes(10);
    let appended = add(store, &stream(), &events).await;
    settle(store, appended.position).await;
    let log = whole_log(store, &Filter::All, 100).await;

    for (n, event) in log.iter().enumerate() {
        let page = store
            .read_log(&Filter::All, event.position, 100)
            .await
            .expect("the log can be read");
        assert_eq!(
            ids(&page.events),
            new_ids(&events[n + 1..]),
            "the events after position {}",
            event.position,
        );
    }
}

/// A filter that finds nothing still gets to the settled horizon, and so does a rare type.
pub async fn a_sparse_filter_still_covers_the_log(store: &dyn EventStore) {
    let mut events: Vec<_> = (0..300).map(|_| event("common")).collect();
    events[250] = event("rare");
    let appended = add(store, &stream(), &events).await;
    let settled = settle(store, appended.position).await;

    for (filter, found) in [
        (Filter::event_types(["none"]), 0),
        (Filter::event_types(["rare"]), 1),
    ] {
        let mut reader = crate::fixtures::Reader::new(filter.clone(), 10);
        for _ in 0..1_000 {
            if reader.after >= settled || !reader.page(store).await {
                break;
            }
        }
        assert!(
            reader.after >= settled,
            "a reader of {filter:?} is stuck at {}, though {settled} is settled",
            reader.after,
        );
        assert_eq!(reader.seen.len(), found, "the events of {filter:?}");
    }
}

/// A filter without types finds nothing, and gets to the settled horizon.
pub async fn a_filter_without_types_finds_nothing(store: &dyn EventStore) {
    let appended = add(store, &stream(), &notes(20)).await;
    settle(store, appended.position).await;

    let log = whole_log(store, &Filter::EventTypes(Vec::new()), 7).await;

    assert!(
        log.is_empty(),
        "an empty list of types found {} events",
        log.len()
    );
}

/// A page of at most no events is empty and covers nothing more.
pub async fn a_page_of_no_events_covers_nothing(store: &dyn EventStore) {
    let appended = add(store, &stream(), &notes(3)).await;
    settle(store, appended.position).await;

    for filter in [Filter::All, Filter::event_types(["none"])] {
        for after in [Position::START, appended.position] {
            let page = store.read_log(&filter, after, 0).await.expect("no error");
            assert!(
                page.events.is_empty(),
                "limit 0 returned {}",
                page.events.len()
            );
            assert_eq!(page.covered, after, "limit 0 covers nothing more");
        }
    }
}

/// An empty log is an empty page from the start.
pub async fn an_empty_log_is_an_empty_page(store: &dyn EventStore) {
    let page = store
        .read_log(&Filter::All, Position::START, 10)
        .await
        .expect("the log can be read");
    let settled = store.settled().await.expect("the horizon can be read");

    assert!(
        page.events.is_empty(),
        "a fresh store has {} events",
        page.events.len()
    );
    assert!(
        page.covered <= settled,
        "a page covers at most what is settled"
    );
}

/// The log and the streams tell the same of each event.
pub async fn the_log_and_the_stream_tell_the_same(store: &dyn EventStore) {
    let stream = stream();
    let appended = add(store, &stream, &notes(20)).await;
    settle(store, appended.position).await;

    let log = whole_log(store, &Filter::All, 7).await;

    assert_eq!(log, crate::fixtures::whole_stream(store, &stream).await);
}
