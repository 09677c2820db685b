//! Events and tables of the program in one transaction.

use es_core::{
    Append, AppendError, EventStore, ExpectedVersion, Json, NewEvent, StreamId, Version,
};
use es_sqlx::PgStore;
use sqlx::{Connection, Executor};
use uuid::Uuid;

use crate::postgres_server::fresh_store;

fn lamp() -> StreamId {
    StreamId::new("lamp", Uuid::now_v7())
}

fn event() -> NewEvent {
    NewEvent::new("switched", Json::parse("{}").unwrap())
}

async fn with_outbox() -> PgStore {
    let store = fresh_store().await;
    store
        .pool()
        .execute("CREATE TABLE outbox (letter TEXT NOT NULL)")
        .await
        .unwrap();
    store
}

/// Letters in the outbox, and events in the log.
async fn counts(store: &PgStore) -> (i64, i64) {
    sqlx::query_as("SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM events)")
        .fetch_one(store.pool())
        .await
        .unwrap()
}

const WRITE: &str = "INSERT INTO outbox VALUES ('receipt')";

#[tokio::test]
async fn events_and_tables_are_committed_together() {
    let store = with_outbox().await;
    let (one, two) = (lamp(), lamp());

    let mut transaction = store.begin().await.unwrap();
    transaction.connection().execute(WRITE).await.unwrap();
    let first = transaction
        .append(&one, ExpectedVersion::NoStream, &[event(), event()])
        .await
        .unwrap();
    let pair = [one.clone(), two.clone()]
        .map(|stream| Append::new(stream, ExpectedVersion::Any, vec![event()]));
    let both = transaction.append_all(&pair).await.unwrap();
    assert_eq!(
        counts(&store).await,
        (0, 0),
        "nothing is visible before the commit"
    );
    transaction.commit().await.unwrap();

    assert_eq!(counts(&store).await, (1, 4));
    assert_eq!(first.version, Version::new(2));
    assert_eq!(
        both.iter().map(|a| a.version.get()).collect::<Vec<_>>(),
        [3, 1]
    );
    assert_eq!(store.settled().await.unwrap(), both[1].position);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_or_rolled_back_keeps_nothing() {
    let store = with_outbox().await;
    for drops in [true, false] {
        let mut transaction = store.begin().await.unwrap();
        transaction.connection().execute(WRITE).await.unwrap();
        transaction
            .append(&lamp(), ExpectedVersion::NoStream, &[event()])
            .await
            .unwrap();
        match drops {
            true => drop(transaction),
            false => transaction.rollback().await.unwrap(),
        }
    }
    assert_eq!(counts(&store).await, (0, 0));
    store
        .append(&lamp(), ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap();
}

/// Also where the database itself refuses, because another writer commits first. Seen to fail without the
/// savepoint: the transaction is aborted.
#[tokio::test]
async fn a_refused_append_leaves_the_transaction_usable() {
    let store = with_outbox().await;
    let (stream, other) = (lamp(), lamp());
    let mut transaction = store.begin().await.unwrap();
    transaction.connection().execute(WRITE).await.unwrap();
    store
        .append(&stream, ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap();
    let refused = transaction
        .append(&stream, ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap_err();
    assert!(
        matches!(refused, AppendError::Conflict { .. }),
        "{refused:?}"
    );

    // A racing writer: uncommitted when the append looks, committed while it waits.
    let mut racer = store.begin().await.unwrap();
    racer
        .append(&other, ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap();
    let racing = async {
        transaction
            .append(&other, ExpectedVersion::NoStream, &[event()])
            .await
    };
    let commit = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        racer.commit().await.unwrap();
    };
    let (refused, ()) = tokio::join!(racing, commit);
    assert!(
        matches!(refused, Err(AppendError::Conflict { .. })),
        "{refused:?}"
    );

    transaction
        .append(&other, ExpectedVersion::StreamExists, &[event()])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(counts(&store).await, (1, 3));
}

#[tokio::test]
async fn any_transaction_of_the_program_will_do() {
    let store = with_outbox().await;
    let mut connection = store.pool().acquire().await.unwrap();
    let outside = store
        .append_in(
            &mut connection,
            &lamp(),
            ExpectedVersion::NoStream,
            &[event()],
        )
        .await;
    assert!(outside.is_err(), "there is no transaction");

    for (commits, expected) in [(false, (0, 0)), (true, (1, 1))] {
        let mut transaction = connection.begin().await.unwrap();
        transaction.execute(WRITE).await.unwrap();
        let (stream, events) = (lamp(), [event()]);
        let append = store.append_in(
            &mut transaction,
            &stream,
            ExpectedVersion::NoStream,
            &events,
        );
        append.await.unwrap();
        match commits {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }
        assert_eq!(counts(&store).await, expected);
    }
}

/// A statement of the program failed and it did not look: the commit must not be called a success.
#[tokio::test]
async fn an_ignored_error_is_not_committed_in_silence() {
    let store = with_outbox().await;
    let mut transaction = store.begin().await.unwrap();
    transaction
        .append(&lamp(), ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap();
    let _ = transaction.connection().execute("SELECT 1 / 0").await;
    assert!(transaction.commit().await.is_err());
    assert_eq!(counts(&store).await, (0, 0));
}

/// The letter must not go out without the event. Seen to fail when the transaction does not know of it.
#[tokio::test]
async fn a_dropped_append_cannot_be_committed() {
    let store = with_outbox().await;
    let stream = lamp();
    let mut other = store.begin().await.unwrap();
    other
        .append(&stream, ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap();

    let mut transaction = store.begin().await.unwrap();
    transaction.connection().execute(WRITE).await.unwrap();
    let events = [event()];
    let append = transaction.append(&stream, ExpectedVersion::NoStream, &events);
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(50), append).await;
    assert!(dropped.is_err(), "it waits for the other one");

    assert!(transaction.commit().await.is_err());
    other.rollback().await.unwrap();
    assert_eq!(counts(&store).await, (0, 0));
}
