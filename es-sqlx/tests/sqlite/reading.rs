//! Reads that only SQLite could get wrong.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use es_core::{EventStore, ExpectedVersion, Filter, Json, Name, NewEvent, Position, Scan};
use es_sqlx::{SqliteStore, sqlite::SqliteOptions};
use tokio::time::timeout;

use crate::{add, folder, lamp, open, read};

#[tokio::test]
async fn waiting_wakes_for_events_of_another_store() {
    let (_folder, file) = folder();
    let (reader, writer) = (open(&file).await, open(&file).await);
    let waiting = {
        let reader = reader.clone();
        tokio::spawn(async move { reader.wait_for_events(Position::START).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());

    add(&writer, &lamp(), 1).await;

    timeout(Duration::from_secs(5), waiting)
        .await
        .expect("it must wake")
        .unwrap()
        .unwrap();
}

/// With a poll of an hour only the push can have woken it.
#[tokio::test]
async fn waiting_wakes_at_once_for_events_of_its_own_store() {
    let (_folder, file) = folder();
    let options = SqliteOptions::new(file.to_str().unwrap());
    let store = options
        .poll_interval(Duration::from_secs(3600))
        .open()
        .await
        .unwrap();
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.wait_for_events(Position::START).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;

    add(&store, &lamp(), 1).await;

    timeout(Duration::from_secs(5), waiting)
        .await
        .expect("it must wake")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_page_of_any_number_of_event_types_is_in_log_order() {
    let store = SqliteStore::in_memory().await.unwrap();
    let stream = lamp();
    let names: Vec<Name> = (0..20).map(|n| Name::from(format!("type_{n}"))).collect();
    for round in 0..3 {
        let events: Vec<_> = names
            .iter()
            .map(|name| NewEvent::new(name.clone(), Json::parse(round.to_string()).unwrap()))
            .collect();
        store
            .append(&stream, ExpectedVersion::Any, &events)
            .await
            .unwrap();
    }
    for count in [1, 2, 16, 17, 20] {
        let mut types = names[..count].to_vec();
        types.push(names[0].clone());
        let filter = Filter::EventTypes(types);
        let page = store
            .read_log(&filter, Position::START, 1000)
            .await
            .unwrap();
        let positions: Vec<_> = page.events.iter().map(|event| event.position).collect();
        let expected: Vec<_> = read(&store, &stream)
            .await
            .into_iter()
            .filter(|event| names[..count].contains(&event.event_type))
            .map(|event| event.position)
            .collect();
        assert_eq!(positions, expected, "{count} types");
        assert_eq!(page.covered, Position::new(60));
    }
}

#[tokio::test]
async fn scan_bounds_finer_or_farther_than_the_column_are_exact() {
    let store = SqliteStore::in_memory().await.unwrap();
    let stream = lamp();
    add(&store, &stream, 1).await;
    let at = read(&store, &stream).await[0].created_at;
    let scan = async |from: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>| {
        let scan = Scan {
            from,
            until,
            ..Scan::of("switched")
        };
        store.scan(&scan, 10).await.unwrap().len()
    };
    let nano = TimeDelta::nanoseconds(1);

    assert_eq!(scan(Some(at), None).await, 1);
    assert_eq!(scan(Some(at + nano), None).await, 0);
    assert_eq!(scan(None, Some(at)).await, 0);
    assert_eq!(scan(None, Some(at + nano)).await, 1);
    assert_eq!(scan(None, Some(DateTime::<Utc>::MAX_UTC)).await, 1);
    assert_eq!(scan(Some(DateTime::<Utc>::MIN_UTC), None).await, 1);
    assert_eq!(scan(Some(DateTime::<Utc>::MAX_UTC), None).await, 0);
}
