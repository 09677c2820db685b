//! Pages in one row, and what makes a page be read row by row.

use std::ops::ControlFlow;

use chrono::Utc;
use es_core::{
    EventStore, EventView, ExpectedVersion, Filter, Json, Name, NewEvent, Position, ReadError,
    Scan, Snapshot, SnapshotStore, SnapshotView, StreamId, StreamVisitor, Version, Visit,
};
use es_sqlx::SqliteStore;
use uuid::Uuid;

use crate::{add, folder, lamp, open, read, sql, stranger};

#[derive(Default)]
struct Seen {
    believes: bool,
    snapshot: Option<u32>,
    events: Vec<(u32, String, u32, String)>,
    stop_at: Option<u32>,
}

impl StreamVisitor for Seen {
    fn snapshot(&mut self, snapshot: SnapshotView<'_>) -> bool {
        assert_eq!(self.snapshot, None, "at most once");
        self.snapshot = Some(snapshot.version.get());
        self.believes
    }

    fn event(&mut self, event: EventView<'_>) -> ControlFlow<()> {
        let version = event.version.get();
        self.events.push((
            version,
            event.event_type.to_owned(),
            event.schema_version,
            event.data.to_owned(),
        ));
        match self.stop_at == Some(version) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Seen {
    fn versions(&self) -> Vec<u32> {
        self.events.iter().map(|event| event.0).collect()
    }
}

async fn visit(store: &SqliteStore, visit: &Visit, mut seen: Seen) -> Seen {
    store.visit_stream(visit, &mut seen).await.unwrap();
    seen
}

async fn save(store: &SqliteStore, stream: &StreamId, version: u32) {
    let snapshot = Snapshot {
        snapshot_id: Uuid::now_v7(),
        aggregate_id: stream.aggregate_id,
        aggregate_type: stream.aggregate_type.clone(),
        version: Version::new(version),
        created_at: Utc::now(),
        state: Json::parse("{}").unwrap(),
        fingerprint: Some("cafe".to_owned()),
    };
    store.save_snapshot(&snapshot).await.unwrap();
}

fn with_snapshot(stream: &StreamId) -> Visit {
    let mut visit = Visit::all(stream.clone());
    visit.snapshot = true;
    visit
}

#[tokio::test]
async fn several_pages_are_shown_once_each_in_order() {
    let (store, stream) = (SqliteStore::in_memory().await.unwrap(), lamp());
    add(&store, &stream, 2_300).await;
    add(&store, &lamp(), 5).await;
    save(&store, &stream, 900).await;
    let (all, tail) = (
        (1..=2_300).collect::<Vec<u32>>(),
        (901..=2_300).collect::<Vec<u32>>(),
    );

    let seen = visit(&store, &Visit::all(stream.clone()), Seen::default()).await;
    assert_eq!((seen.versions(), seen.snapshot), (all.clone(), None));
    let believing = Seen {
        believes: true,
        ..Seen::default()
    };
    let seen = visit(&store, &with_snapshot(&stream), believing).await;
    assert_eq!((seen.versions(), seen.snapshot), (tail, Some(900)));
    let seen = visit(&store, &with_snapshot(&stream), Seen::default()).await;
    assert_eq!(
        (seen.versions(), seen.snapshot),
        (all, Some(900)),
        "a rejected snapshot"
    );

    let mut part = with_snapshot(&stream);
    (part.after, part.at_most) = (Version::new(900), Version::new(2_000));
    let seen = visit(&store, &part, Seen::default()).await;
    assert_eq!(
        (seen.versions(), seen.snapshot),
        ((901..=2_000).collect(), None)
    );
    let stopping = Seen {
        stop_at: Some(1_500),
        ..Seen::default()
    };
    let seen = visit(&store, &Visit::all(stream), stopping).await;
    assert_eq!(seen.versions().last(), Some(&1_500));
    let seen = visit(&store, &Visit::all(lamp()), Seen::default()).await;
    assert!(seen.versions().is_empty());
}

/// Seen to fail when the snapshot was not looked up in the stream.
#[tokio::test]
async fn a_snapshot_ahead_of_its_stream_or_damaged_is_not_offered() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 3).await;
    save(&store, &stream, 4).await;
    let believing = || Seen {
        believes: true,
        ..Seen::default()
    };
    let seen = visit(&store, &with_snapshot(&stream), believing()).await;
    assert_eq!((seen.versions(), seen.snapshot), (vec![1, 2, 3], None));

    save(&store, &stream, 5).await;
    add(&store, &stream, 2).await;
    let mut db = stranger(&file).await;
    sql(&mut db, "UPDATE snapshots SET state = CAST(x'ff' AS TEXT)")
        .await
        .unwrap();
    let seen = visit(&store, &with_snapshot(&stream), believing()).await;
    assert_eq!(
        (seen.versions(), seen.snapshot),
        (vec![1, 2, 3, 4, 5], None)
    );
}

/// Seen to fail when the pieces of a page were not counted.
#[tokio::test]
async fn names_and_contents_may_hold_the_separator() {
    let (store, stream) = (SqliteStore::in_memory().await.unwrap(), lamp());
    let odd = StreamId::new("la\x1emp", Uuid::now_v7());
    let mut events = Vec::new();
    for (name, data) in [
        ("a\x1eb", "{}"),
        ("c", "1"),
        ("d ", "\"e\u{1f}\""),
        ("f\x1e", "g\x1eh"),
        ("\u{1e}", "\x1e"),
        ("", ""),
    ] {
        let name = if name.is_empty() { "ü \n" } else { name };
        let mut event = NewEvent::new(Name::from(name.to_owned()), Json::from_stored(data));
        event.metadata.actor = Some("+\x1e \u{1f}".to_owned());
        event.schema_version = 7;
        events.push(event);
    }
    for stream in [&stream, &odd] {
        for event in &mut events {
            event.event_id = Uuid::now_v7();
        }
        store
            .append(stream, ExpectedVersion::NoStream, &events)
            .await
            .unwrap();
        let read = read(&store, stream).await;
        assert_eq!(read.len(), events.len());
        for (read, written) in read.iter().zip(&events) {
            assert_eq!(read.event_id, written.event_id);
            assert_eq!(read.stream(), *stream);
            assert_eq!(read.event_type, written.event_type);
            assert_eq!(read.event_data, written.event_data);
            assert_eq!(read.metadata, written.metadata);
            assert_eq!(read.schema_version, 7);
        }
        let seen = visit(&store, &Visit::all(stream.clone()), Seen::default()).await;
        for (seen, read) in seen.events.iter().zip(&read) {
            assert_eq!(seen.1, read.event_type.as_str());
            assert_eq!((seen.2, seen.3.as_str()), (7, read.event_data.as_str()));
        }
        assert_eq!(seen.versions(), [1, 2, 3, 4, 5, 6]);
        for event in &read {
            let scanned = store
                .scan(&Scan::of(event.event_type.clone()), 10)
                .await
                .unwrap();
            assert!(scanned.contains(event));
        }
    }
    let log = store
        .read_log(&Filter::All, Position::START, 100)
        .await
        .unwrap();
    assert_eq!(log.events.len(), 12);
    assert_eq!(log.events[6].aggregate_type, odd.aggregate_type);
}

#[tokio::test]
async fn a_visit_names_a_damaged_event_after_showing_what_is_sound() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 1_500).await;
    let mut db = stranger(&file).await;
    sql(&mut db, "DROP TRIGGER events_no_update").await.unwrap();
    sql(
        &mut db,
        "UPDATE events SET event_data = x'737764' WHERE position = 1200",
    )
    .await
    .unwrap();

    let mut seen = Seen::default();
    let error = store
        .visit_stream(&Visit::all(stream), &mut seen)
        .await
        .unwrap_err();
    assert!(matches!(&error, ReadError::Corrupt { what, .. } if what.contains("position 1200")));
    assert!(!format!("{error:?}").contains("swd"));
    assert_eq!(seen.versions(), (1..=1_000).collect::<Vec<_>>());
}
