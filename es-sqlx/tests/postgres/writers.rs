//! Many writers, some of whom change their minds.

use std::{collections::HashMap, time::Duration};

use es_core::{
    AppendError, EventStore, ExpectedVersion, Filter, Json, NewEvent, Position, StreamId, Version,
};
use es_sqlx::{PgStore, postgres::PgOptions};
use uuid::Uuid;

use crate::postgres_server::{fresh_schema, fresh_store, url};

fn event() -> NewEvent {
    NewEvent::new("switched", Json::parse("{}").unwrap())
}

/// Two processes, as far as the database can tell: two pools.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost_between_two_stores() {
    let schema = fresh_schema();
    let open = async || {
        PgOptions::new(url())
            .schema(&schema)
            .connect()
            .await
            .unwrap()
    };
    let (one, two) = (open().await, open().await);
    one.migrate().await.unwrap();
    let stream = StreamId::new("lamp", Uuid::now_v7());

    let count = async |store: PgStore| {
        for _ in 0..200 {
            loop {
                let version = match store.read_stream(&stream, Version::EMPTY, 1_000).await {
                    Ok(events) => events.last().map_or(Version::EMPTY, |e| e.event_version),
                    Err(error) => panic!("{error}"),
                };
                match store
                    .append(&stream, ExpectedVersion::Exact(version), &[event()])
                    .await
                {
                    Ok(_) => break,
                    Err(AppendError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(count(one.clone()), count(two));

    let events = one
        .read_stream(&stream, Version::EMPTY, 1_000)
        .await
        .unwrap();
    let versions: Vec<u32> = events.iter().map(|e| e.event_version.get()).collect();
    assert_eq!(versions, (1..=400).collect::<Vec<_>>());
}

/// Eight writers of real and of rolled-back rows, and a reader that must see each once, in order.
/// Seen to fail within a second when `State::learn` returns `high` at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_soak() {
    let store = fresh_store().await;
    let writers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { write(&store).await })
    });
    let writers: Vec<_> = writers.collect();
    let reader = tokio::spawn(read_all(store.clone()));

    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let last = StreamId::new("end", Uuid::now_v7());
    store
        .append(&last, ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap();

    let seen = tokio::time::timeout(Duration::from_secs(30), reader).await;
    assert_eq!(
        seen.expect("the reader must reach the end").unwrap(),
        written + 1
    );
}

/// Holds transactions open for a moment; every fourth is rolled back.
async fn write(store: &PgStore) -> usize {
    let insert = "INSERT INTO events
        (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
        VALUES ($1, $2, 'lamp', 'switched', $3, '{}')";
    let (aggregate, mut version) = (Uuid::now_v7(), 0);
    for round in 0..60 {
        let mut transaction = store.pool().begin().await.unwrap();
        sqlx::query(insert)
            .bind(Uuid::now_v7())
            .bind(aggregate)
            .bind(version + 1)
            .execute(&mut *transaction)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(
            u64::from(Uuid::now_v7().as_bytes()[15]) / 16,
        ))
        .await;
        if round % 4 == 3 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            version += 1;
        }
    }
    usize::try_from(version).unwrap()
}

async fn read_all(store: PgStore) -> usize {
    let (mut after, mut count) = (Position::START, 0);
    let mut versions = HashMap::<Uuid, u32>::new();
    loop {
        let page = store.read_log(&Filter::All, after, 7).await.unwrap();
        for event in &page.events {
            assert!(event.position > after, "{} after {after}", event.position);
            after = event.position;
            count += 1;
            if event.aggregate_type == "end" {
                return count;
            }
            let version = versions.entry(event.aggregate_id).or_default();
            *version += 1;
            assert_eq!(event.event_version.get(), *version, "lost or out of order");
        }
        after = page.covered;
        store.wait_for_events(after).await.unwrap();
    }
}
