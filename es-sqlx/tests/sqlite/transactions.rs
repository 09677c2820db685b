//! Transactions of the program: an outbox beside the events.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use es_core::{AppendError, EventStore, ExpectedVersion, Position, StreamId, Version};
use es_sqlx::{SqliteStore, sqlite::SqliteOptions};
use tokio::time::timeout;

use crate::{add, folder, lamp, read, several, sql, stranger};

async fn with_outbox(file: &std::path::Path) -> SqliteStore {
    let options = SqliteOptions::new(file.to_str().unwrap());
    // Only a push wakes in time.
    let store = options
        .poll_interval(Duration::from_secs(3600))
        .open()
        .await
        .unwrap();
    let mut db = stranger(file).await;
    sql(&mut db, "CREATE TABLE outbox (letter TEXT)")
        .await
        .unwrap();
    store
}

async fn letters(store: &SqliteStore) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM outbox");
    count.fetch_one(store.pool()).await.unwrap()
}

const WRITE: &str = "INSERT INTO outbox VALUES ('receipt')";

#[tokio::test]
async fn events_and_letters_are_committed_together() {
    let (_folder, file) = folder();
    let (store, one, two) = (with_outbox(&file).await, lamp(), lamp());
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.wait_for_events(Position::new(2)).await })
    };

    let mut transaction = store.begin().await.unwrap();
    sql(transaction.connection(), WRITE).await.unwrap();
    transaction
        .append(&one, ExpectedVersion::NoStream, &several(2))
        .await
        .unwrap();
    transaction
        .append(&two, ExpectedVersion::NoStream, &several(1))
        .await
        .unwrap();
    let third = transaction
        .append(&one, ExpectedVersion::Any, &several(1))
        .await
        .unwrap();
    assert_eq!((third.version.get(), third.position.get()), (3, 4));
    assert_eq!(
        (letters(&store).await, read(&store, &one).await.len()),
        (0, 0)
    );
    transaction.commit().await.unwrap();

    assert_eq!(
        (letters(&store).await, read(&store, &one).await.len()),
        (1, 3)
    );
    timeout(Duration::from_secs(5), waiting)
        .await
        .expect("it must wake")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_refused_append_leaves_the_transaction_usable() {
    let (_folder, file) = folder();
    let (store, stream) = (with_outbox(&file).await, lamp());
    add(&store, &stream, 1).await;

    let mut transaction = store.begin().await.unwrap();
    sql(transaction.connection(), WRITE).await.unwrap();
    let refused = transaction
        .append(&stream, ExpectedVersion::NoStream, &several(1))
        .await;
    assert!(
        matches!(refused, Err(AppendError::Conflict { .. })),
        "{refused:?}"
    );
    let taken = read(&store, &stream).await[0].event_id;
    let mut events = several(3);
    events[2].event_id = taken;
    let refused = transaction
        .append(&stream, ExpectedVersion::Any, &events)
        .await;
    assert!(
        matches!(refused, Err(AppendError::DuplicateId { .. })),
        "{refused:?}"
    );
    transaction
        .append(&stream, ExpectedVersion::Any, &several(1))
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(
        (letters(&store).await, read(&store, &stream).await.len()),
        (1, 2)
    );
    assert_eq!(store.settled().await.unwrap(), Position::new(2));
}

#[test]
fn a_transaction_that_is_dropped_rolls_back_also_without_a_runtime() {
    let (_folder, file) = folder();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = runtime.block_on(async {
        let (store, stream) = (with_outbox(&file).await, lamp());
        let mut transaction = store.begin().await.unwrap();
        sql(transaction.connection(), WRITE).await.unwrap();
        transaction
            .append(&stream, ExpectedVersion::Any, &several(2))
            .await
            .unwrap();
        (store, stream, transaction)
    });
    let (store, stream, transaction) = begun;
    drop(transaction);
    runtime.block_on(async {
        add(&store, &lamp(), 1).await;
        assert_eq!(
            (letters(&store).await, read(&store, &stream).await.len()),
            (0, 0)
        );
        assert_eq!(store.settled().await.unwrap(), Position::new(1));
    });
}

/// Seen to fail when an append that was given up half-way did not keep the transaction from committing.
#[tokio::test]
async fn an_append_given_up_half_way_cannot_be_committed() {
    let (_folder, file) = folder();
    let (store, stream) = (with_outbox(&file).await, lamp());
    for polls in 0..50 {
        let mut transaction = store.begin().await.unwrap();
        let events = several(300);
        let ended = {
            let mut append = pin!(transaction.append(&stream, ExpectedVersion::Any, &events));
            let mut left = polls;
            std::future::poll_fn(|context| match left {
                0 => Poll::Ready(false),
                _ => {
                    left -= 1;
                    append.as_mut().poll(context).map(|_| true)
                }
            })
            .await
        };
        let committed = transaction.commit().await;
        let count = read(&store, &stream).await.len();
        match (polls, ended) {
            (0, _) => assert!(committed.is_ok() && count == 0),
            (_, false) => assert!(committed.is_err() && count == 0, "{count} after {polls}"),
            (_, true) => {
                assert!(committed.is_ok() && count == 300, "{count} after {polls}");
                return;
            }
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn append_in_is_part_of_the_callers_transaction() {
    let (_folder, file) = folder();
    let (store, stream) = (with_outbox(&file).await, lamp());
    let mut db = stranger(&file).await;
    let append = async |db: &mut _, stream: &StreamId, expected| {
        store.append_in(db, stream, expected, &several(2)).await
    };

    sql(&mut db, "BEGIN IMMEDIATE").await.unwrap();
    sql(&mut db, WRITE).await.unwrap();
    append(&mut db, &stream, ExpectedVersion::NoStream)
        .await
        .unwrap();
    sql(&mut db, "ROLLBACK").await.unwrap();
    assert_eq!(
        (letters(&store).await, read(&store, &stream).await.len()),
        (0, 0)
    );

    sql(&mut db, "BEGIN IMMEDIATE").await.unwrap();
    sql(&mut db, WRITE).await.unwrap();
    append(&mut db, &stream, ExpectedVersion::NoStream)
        .await
        .unwrap();
    let refused = append(&mut db, &stream, ExpectedVersion::NoStream).await;
    assert!(matches!(
        refused,
        Err(AppendError::Conflict { actual, .. }) if actual == Version::new(2)
    ));
    append(&mut db, &stream, ExpectedVersion::Any)
        .await
        .unwrap();
    sql(&mut db, "COMMIT").await.unwrap();
    assert_eq!(
        (letters(&store).await, read(&store, &stream).await.len()),
        (1, 4)
    );
    assert_eq!(store.settled().await.unwrap(), Position::new(4));
}

/// Seen to fail when nobody counted how transactions end: the append was committed by itself.
#[tokio::test]
async fn nothing_is_appended_where_sqlite_has_ended_the_transaction() {
    let (_folder, file) = folder();
    for store in [
        with_outbox(&file).await,
        SqliteStore::in_memory().await.unwrap(),
    ] {
        for end in [
            "CREATE TABLE one (id INTEGER PRIMARY KEY ON CONFLICT ROLLBACK);
             INSERT INTO one VALUES (1), (1)",
            "CREATE TABLE two (id INTEGER); COMMIT",
            "ROLLBACK",
        ] {
            let mut transaction = store.begin().await.unwrap();
            transaction
                .append(&lamp(), ExpectedVersion::Any, &several(1))
                .await
                .unwrap();
            let committed = i64::from(end.contains("COMMIT"));
            let before = count(&mut transaction).await - 1;
            // An error tells that it was rolled back.
            let _ = sql(transaction.connection(), end).await;
            let answer = transaction
                .append(&lamp(), ExpectedVersion::Any, &several(1))
                .await;
            assert!(
                matches!(
                    answer,
                    Err(AppendError::Backend {
                        transient: false,
                        ..
                    })
                ),
                "{end}: {answer:?}"
            );
            assert_eq!(count(&mut transaction).await, before + committed, "{end}");
            transaction.commit().await.unwrap_err();
            add(&store, &lamp(), 1).await;
        }
    }
}

async fn count(transaction: &mut es_sqlx::sqlite::SqliteTransaction) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM events");
    count.fetch_one(transaction.connection()).await.unwrap()
}

/// Seen to fail without a look: the savepoint commits by itself.
#[tokio::test]
async fn append_in_wants_a_transaction() {
    let store = SqliteStore::in_memory().await.unwrap();
    let stream = lamp();
    let mut connection = store.pool().acquire().await.unwrap();
    let refused = store
        .append_in(&mut connection, &stream, ExpectedVersion::Any, &several(1))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("BEGIN IMMEDIATE"), "{refused}");
    drop(connection);
    assert_eq!(read(&store, &stream).await, []);
}
