//! Writers and batches that die around a commit.

use std::time::Duration;

use es_core::{
    Batch, EventStore, ExpectedVersion, Filter, Json, NewEvent, Node, Position, Progress,
    ProjectionId, ProjectionStore, Shard, Standing, StreamId, Version,
};
use sqlx::Executor;
use uuid::Uuid;

use crate::{
    file::{File, assert_sound, fold, store_of_parent},
    oracle::{Tallies, Tally, finish, follow, lamp, several},
};

/// The appends of the process that is killed, known to its successor: number `n` is always the same.
fn numbered(n: u32) -> (StreamId, ExpectedVersion, [NewEvent; 2]) {
    let stream = StreamId::new("lamp", Uuid::from_u128(u128::from(n % 3) + 1));
    let event = |index: u32| {
        let mut event = NewEvent::new("switched", Json::from_stored("{}"));
        event.event_id = Uuid::from_u128(1_000 + u128::from(n * 2 + index));
        event
    };
    // By turns the writer knows the version and does not care.
    let expected = match n % 2 {
        0 => ExpectedVersion::Exact(Version::new(n / 3 * 2)),
        _ => ExpectedVersion::Any,
    };
    (stream, expected, [event(0), event(1)])
}

/// `kill -9` at any moment; the successor repeats all appends from the first, with the same ids: one
/// copy, and each answer is where the events have been since the first time. Seen to fail when ids that
/// are there are not recognised.
#[tokio::test]
async fn append_idempotent_over_a_kill() {
    let file = File::new();
    let mut done = 0;
    for milliseconds in [120, 170, 230, 310, 400] {
        file.open().await.close().await;
        let child = file.child("kills::numbered_process");
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        drop(child);

        let store = file.open().await;
        let page = store.read_log(&Filter::All, Position::START, 100_000).await;
        let before = page.unwrap().events;
        done = before.len() / 2;
        for n in 0..=u32::try_from(done).unwrap() {
            let (stream, expected, events) = numbered(n);
            let answer = store.append(&stream, expected, &events).await.unwrap();
            if let Some(last) = before.get(n as usize * 2 + 1) {
                assert_eq!(last.event_id, events[1].event_id);
                assert_eq!(
                    (last.event_version, last.position),
                    (answer.version, answer.position)
                );
            }
        }
        let settled = store.settled().await.unwrap().get();
        assert_eq!(usize::try_from(settled).unwrap(), done * 2 + 2);
        assert_sound(&store).await;
        store.close().await;
    }
    assert!(done > 10, "the children have appended nothing");
    let store = file.open().await;
    finish(&store).await;
    assert_eq!(follow(&store, 50, |_| ()).await.tallies, fold(&store).await);
}

#[tokio::test]
#[ignore = "the process that `append_idempotent_over_a_kill` kills"]
async fn numbered_process() {
    let Some(store) = store_of_parent().await else {
        return;
    };
    for n in 0..2_000 {
        let (stream, expected, events) = numbered(n);
        store.append(&stream, expected, &events).await.unwrap();
    }
}

/// There is no connection to cut, but a caller who goes away: appends and commits are dropped at any
/// time, and repeated by what the store says of itself. Seen to fail when ids that are there are not
/// recognised, and when a batch does not move the checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_cut_at_commit() {
    let file = File::new();
    let store = file.open().await;
    let lamps = Shard::new(ProjectionId::new("lamps", 1), 0);
    let (mut set_up, _) = store.begin_change(&lamps.projection).await.unwrap();
    let table = "CREATE TABLE lamps (id BLOB PRIMARY KEY, version INTEGER, count INTEGER)";
    set_up.connection().execute(table).await.unwrap();
    let standing = Standing::new(lamps.clone(), 1, &["switched"]);
    set_up.put_standings(&[standing]).await.unwrap();
    set_up.commit().await.unwrap();
    let node = Node {
        id: Uuid::now_v7(),
        name: "the only one".to_owned(),
        runs: vec![lamps.projection.clone()],
    };
    let ttl = Duration::from_secs(600);
    store.beat(&node, ttl).await.unwrap();
    let stream = lamp();
    for round in 0..150 {
        let soon = Duration::from_micros(round * 20);
        let events = several(2);
        let append = store.append(&stream, ExpectedVersion::Any, &events);
        let _ = tokio::time::timeout(soon, append).await;
        let again = store.append(&stream, ExpectedVersion::Any, &events).await;
        assert_eq!(u64::from(again.unwrap().version.get()), round * 2 + 2);

        let mut dropped = false;
        loop {
            let claim = store.acquire(&lamps, &["switched"], node.id).await;
            let claim = claim.unwrap();
            let page = store.read_log(&Filter::All, claim.position, 100).await;
            let page = page.unwrap();
            let Some(last) = page.events.last() else {
                break;
            };
            let to = Progress {
                position: page.covered,
                anchor: Some((last.position, last.event_id)),
            };
            let mut batch = store.begin_batch(&claim, &to).await.unwrap();
            for event in &page.events {
                // The oracle in SQL: only the next version is taken.
                let applied = sqlx::query(
                    "INSERT INTO lamps VALUES (?1, 1, 1) ON CONFLICT (id) DO UPDATE
                     SET version = ?2, count = count + 1 WHERE version = ?2 - 1",
                )
                .bind(event.aggregate_id)
                .bind(event.event_version.get())
                .execute(batch.connection())
                .await
                .unwrap();
                assert_eq!(applied.rows_affected(), 1, "twice or out of order");
            }
            if dropped {
                batch.commit().await.unwrap();
                continue;
            }
            dropped = true;
            let _ = tokio::time::timeout(soon, batch.commit()).await;
        }
    }
    let model: Vec<(Uuid, i64, i64)> = sqlx::query_as("SELECT * FROM lamps")
        .fetch_all(store.pool())
        .await
        .unwrap();
    let model: Tallies = model
        .into_iter()
        .map(|(id, version, count)| (id, Tally { version, count }))
        .collect();
    assert_eq!(model, fold(&store).await);
    assert_eq!(model[&stream.aggregate_id].count, 300);
}
