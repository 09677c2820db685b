//! Appends that wait at the same time share a transaction, and nothing else.

use std::{collections::HashSet, path::Path, time::Duration};

use es_core::{AppendError, Appended, EventStore, ExpectedVersion, NewEvent, StreamId, Version};
use es_sqlx::SqliteStore;
use sqlx::SqliteConnection;
use tokio::task::JoinHandle;

use crate::{add, folder, lamp, open, read, several, sql, stranger, switched};

type Answer = JoinHandle<Result<Appended, AppendError>>;

/// Keeps the writer waiting: what is queued meanwhile goes in as few groups as it can.
async fn hold(file: &Path) -> SqliteConnection {
    let mut db = stranger(file).await;
    sql(&mut db, "BEGIN IMMEDIATE").await.unwrap();
    db
}

async fn release(mut db: SqliteConnection) {
    sql(&mut db, "ROLLBACK").await.unwrap();
}

/// Returns when the append is queued, as far as one can see from outside.
async fn queue(
    store: &SqliteStore,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: Vec<NewEvent>,
) -> Answer {
    let (store, stream) = (store.clone(), stream.clone());
    let answer = tokio::spawn(async move { store.append(&stream, expected, &events).await });
    // In a runtime of one thread the new task runs until it waits.
    tokio::task::yield_now().await;
    answer
}

/// Seen to fail (nothing shared) when a group was limited to one append.
#[tokio::test]
async fn what_fails_in_a_group_touches_nobody_else() {
    let (_folder, file) = folder();
    let (store, taken) = (open(&file).await, lamp());
    let old = switched();
    store
        .append(
            &taken,
            ExpectedVersion::NoStream,
            std::slice::from_ref(&old),
        )
        .await
        .unwrap();
    let lock = hold(&file).await;
    let first = queue(&store, &lamp(), ExpectedVersion::Any, several(1)).await;
    let streams: Vec<_> = (0..20).map(|_| lamp()).collect();
    let mut answers = Vec::new();
    for stream in &streams[..10] {
        answers.push(queue(&store, stream, ExpectedVersion::NoStream, several(2)).await);
    }
    let conflict = queue(&store, &taken, ExpectedVersion::NoStream, several(1)).await;
    for stream in &streams[10..] {
        answers.push(queue(&store, stream, ExpectedVersion::NoStream, several(2)).await);
    }
    release(lock).await;

    first.await.unwrap().unwrap();
    let conflict = conflict.await.unwrap().unwrap_err();
    assert!(matches!(
        conflict,
        AppendError::Conflict { actual, .. } if actual == Version::new(1)
    ));
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap().version, Version::new(2));
    }
    let mut times = HashSet::new();
    for stream in &streams {
        times.insert(read(&store, stream).await[0].created_at);
    }
    assert_eq!(times.len(), 1, "a transaction has one time");
}

/// Seen to fail when a failed group was not recorded one by one.
#[tokio::test]
async fn a_row_that_the_database_refuses_fails_alone() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let mut db = stranger(&file).await;
    sql(
        &mut db,
        "CREATE TRIGGER picky BEFORE INSERT ON events WHEN NEW.event_type = 'broken'
         BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    )
    .await
    .unwrap();
    let lock = hold(&file).await;
    let streams: Vec<_> = (0..8).map(|_| lamp()).collect();
    let mut answers = Vec::new();
    for (index, stream) in streams.iter().enumerate() {
        let mut events = several(3);
        if index == 4 {
            events[2].event_type = "broken".into();
        }
        answers.push(queue(&store, stream, ExpectedVersion::NoStream, events).await);
    }
    release(lock).await;

    for (index, (answer, stream)) in answers.into_iter().zip(&streams).enumerate() {
        let answer = answer.await.unwrap();
        match index {
            4 => {
                let error = answer.unwrap_err();
                assert!(matches!(
                    error,
                    AppendError::Backend {
                        transient: false,
                        ..
                    }
                ));
                assert!(es_core::Chain(&error).to_string().contains("not this one"));
                assert_eq!(read(&store, stream).await, []);
            }
            _ => assert_eq!(answer.unwrap().version, Version::new(3)),
        }
    }
    assert_eq!(
        store.settled().await.unwrap().get(),
        7 * 3,
        "no position is lost"
    );
}

#[tokio::test]
async fn an_id_that_occurs_twice_in_a_group_is_the_first_ones() {
    let (_folder, file) = folder();
    let (store, one, two, other) = (open(&file).await, lamp(), lamp(), lamp());
    let (mut first, mut second) = (several(3), several(3));
    second[1].event_id = first[2].event_id;
    first[0].event_type = "dimmed".into();
    let lock = hold(&file).await;
    let leader = queue(&store, &lamp(), ExpectedVersion::Any, several(1)).await;
    let one_answer = queue(&store, &one, ExpectedVersion::Any, first.clone()).await;
    let two_answer = queue(&store, &two, ExpectedVersion::Any, second).await;
    let other_answer = queue(&store, &other, ExpectedVersion::Any, several(1)).await;
    // The first append again, while it waits: one of the two finds the other there.
    let again = queue(&store, &one, ExpectedVersion::Any, first.clone()).await;
    release(lock).await;

    leader.await.unwrap().unwrap();
    let appended = one_answer.await.unwrap().unwrap();
    assert_eq!(again.await.unwrap().unwrap(), appended);
    other_answer.await.unwrap().unwrap();
    let error = two_answer.await.unwrap().unwrap_err();
    assert!(matches!(
        error,
        AppendError::DuplicateId { event_id, .. } if event_id == first[2].event_id
    ));
    assert_eq!(read(&store, &one).await.len(), 3);
    assert_eq!(read(&store, &two).await, []);
}

#[tokio::test]
async fn appends_of_a_stream_are_recorded_as_they_came_and_streams_take_turns() {
    let (_folder, file) = folder();
    let (store, hot, cold) = (open(&file).await, lamp(), lamp());
    let lock = hold(&file).await;
    let mut answers = Vec::new();
    let events = several(300);
    for event in &events {
        answers.push(queue(&store, &hot, ExpectedVersion::Any, vec![event.clone()]).await);
    }
    let late = queue(&store, &cold, ExpectedVersion::Any, several(1)).await;
    release(lock).await;

    // The hot stream's first append was under way; its second one shares the cold stream's group.
    assert!(late.await.unwrap().unwrap().position.get() <= 3);
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let recorded = read(&store, &hot).await;
    let ids = recorded.iter().map(|event| event.event_id);
    assert!(ids.eq(events.iter().map(|event| event.event_id)));
}

/// Seen to fail when `close` closed the connection without waiting for the queue.
#[tokio::test]
async fn closing_records_what_is_queued() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let lock = hold(&file).await;
    let streams: Vec<_> = (0..30).map(|_| lamp()).collect();
    let mut answers = Vec::new();
    for stream in &streams {
        answers.push(queue(&store, stream, ExpectedVersion::Any, several(2)).await);
    }
    let closing = {
        let store = store.clone();
        tokio::spawn(async move { store.close().await })
    };
    tokio::task::yield_now().await;
    release(lock).await;
    closing.await.unwrap();

    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let late = store
        .append(&lamp(), ExpectedVersion::Any, &several(1))
        .await;
    assert!(matches!(late, Err(AppendError::Backend { .. })), "{late:?}");
    let store = open(&file).await;
    for stream in &streams {
        assert_eq!(read(&store, stream).await.len(), 2);
    }
}

/// The task that records is dropped at many points, with its transaction open. Seen to hang (once in two
/// hundred runs on a busy machine) when those who wait do not look whether anybody is at work.
#[test]
fn a_runtime_that_stops_leaves_no_transaction_open() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    };
    let (_folder, file) = folder();
    let home = runtime().unwrap();
    let store = home.block_on(open(&file));
    for microseconds in (0..1_500).step_by(50) {
        let (away, store, stream) = (runtime().unwrap(), store.clone(), lamp());
        let append = async move {
            store
                .append(&stream, ExpectedVersion::Any, &several(5))
                .await
        };
        away.spawn(append);
        home.block_on(async { tokio::time::sleep(Duration::from_micros(microseconds)).await });
        away.shutdown_background();
        home.block_on(async {
            let mut db = stranger(&file).await;
            sql(
                &mut db,
                "PRAGMA busy_timeout = 2000; BEGIN IMMEDIATE; ROLLBACK",
            )
            .await
            .unwrap();
        });
    }
    home.block_on(async {
        add(&store, &lamp(), 5).await;
        let settled = store.settled().await.unwrap().get();
        assert!(settled.is_multiple_of(5) && settled >= 5, "{settled}");
    });
}
