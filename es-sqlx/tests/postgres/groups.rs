//! Group commit: appends that wait at the same time share a statement, and nothing else.

use std::time::Duration;

use es_core::{
    Append, AppendError, EventStore, ExpectedVersion, Json, NewEvent, StreamId, Version,
};
use es_sqlx::{PgStore, postgres::PgOptions};
use futures::future::join_all;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::postgres_server::{fresh_schema, fresh_store, url};

fn lamp() -> StreamId {
    StreamId::new("lamp", Uuid::now_v7())
}

fn event() -> NewEvent {
    NewEvent::new("switched", Json::parse(r#"{"on":true}"#).unwrap())
}

/// How many transactions have written events: each draws one id.
async fn transactions(store: &PgStore) -> i64 {
    sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM events")
        .fetch_one(store.pool())
        .await
        .unwrap()
}

/// Seen to fail with groups of one append.
#[tokio::test]
async fn appends_that_come_together_share_transactions() {
    let store = fresh_store().await;
    let streams: Vec<_> = (0..200).map(|_| lamp()).collect();

    let appends = streams.iter().map(|stream| async {
        store
            .append(stream, ExpectedVersion::NoStream, &[event()])
            .await
    });
    for appended in join_all(appends).await {
        assert_eq!(appended.unwrap().version, Version::new(1));
    }

    let transactions = transactions(&store).await;
    assert!(transactions < 100, "{transactions} for 200 appends");
}

/// Bad ones of every kind in the midst of good ones: a conflict, content that is not JSON, an id that is
/// taken. Seen to fail when a group that failed is answered as one.
#[tokio::test]
async fn what_is_wrong_with_one_is_no_business_of_the_others() {
    let store = fresh_store().await;
    let known = lamp();
    let first = event();
    store
        .append(
            &known,
            ExpectedVersion::NoStream,
            std::slice::from_ref(&first),
        )
        .await
        .unwrap();
    let append = async |nth: usize| {
        let (stream, event) = match nth % 4 {
            0 => (known.clone(), event()),
            1 => (lamp(), NewEvent::new("switched", Json::from_stored("{"))),
            2 => (lamp(), first.clone()),
            _ => (lamp(), event()),
        };
        store
            .append(&stream, ExpectedVersion::NoStream, &[event])
            .await
    };

    let answers = join_all((0..80).map(append)).await;

    for (answer, nth) in answers.into_iter().zip(0..) {
        match (nth % 4, answer) {
            (0, Err(AppendError::Conflict { actual, .. })) => assert_eq!(actual, Version::new(1)),
            (1, Err(AppendError::Invalid { .. })) => {}
            (2, Err(AppendError::DuplicateId { event_id, .. })) => {
                assert_eq!(event_id, first.event_id);
            }
            (3, Ok(appended)) => assert_eq!(appended.version, Version::new(1)),
            (_, answer) => panic!("append {nth}: {answer:?}"),
        }
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM events")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(count, 21);
}

/// Those who call one after another are recorded one after another, whatever else is going on.
#[tokio::test]
async fn the_order_of_calls_is_the_order_of_a_stream() {
    let store = fresh_store().await;
    let stream = lamp();
    let events: Vec<_> = (0..100).map(|_| event()).collect();

    // `join_all` polls them in this order, so this is the order in which they enter the queue.
    let appends = events.iter().map(|event| async {
        store
            .append(&stream, ExpectedVersion::Any, std::slice::from_ref(event))
            .await
            .unwrap()
    });
    let noise = (0..100).map(|_| async {
        store
            .append(&lamp(), ExpectedVersion::Any, &[event()])
            .await
            .unwrap()
    });
    // The first append asks the database about inline projections; from then on nobody waits before the queue.
    store
        .append(&lamp(), ExpectedVersion::Any, &[event()])
        .await
        .unwrap();
    let (appended, _) = tokio::join!(join_all(appends), join_all(noise));

    let versions: Vec<u32> = appended.iter().map(|a| a.version.get()).collect();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>());
    let recorded = store
        .read_stream(&stream, Version::EMPTY, 1_000)
        .await
        .unwrap();
    assert!(
        recorded
            .iter()
            .map(|e| e.event_id)
            .eq(events.iter().map(|e| e.event_id))
    );
}

/// A hot stream has one append in each group, so others are not queued up behind all of it. Seen to fail
/// when a stream keeps its turn.
#[tokio::test]
async fn a_hot_stream_does_not_hold_up_the_others() {
    let store = fresh_store().await;
    let (hot, cold) = (lamp(), lamp());
    store
        .append(&lamp(), ExpectedVersion::Any, &[event()])
        .await
        .unwrap();

    let rush = (0..300).map(|_| async {
        store
            .append(&hot, ExpectedVersion::Any, &[event()])
            .await
            .unwrap()
    });
    let late = async {
        tokio::task::yield_now().await;
        store
            .append(&cold, ExpectedVersion::NoStream, &[event()])
            .await
            .unwrap();
        store
            .read_stream(&hot, Version::EMPTY, 1_000)
            .await
            .unwrap()
            .len()
    };
    let (_, before) = tokio::join!(join_all(rush), late);

    assert!(before < 150, "{before} of 300 hot appends went first");
}

#[tokio::test]
async fn closing_records_what_waits_and_refuses_what_comes() {
    let store = fresh_store().await;
    let again = store.clone();
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .append(&lamp(), ExpectedVersion::NoStream, &[event()])
                    .await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;

    store.close().await;

    for append in waiting {
        append.await.unwrap().unwrap();
    }
    let late = again
        .append(&lamp(), ExpectedVersion::NoStream, &[event()])
        .await
        .unwrap_err();
    assert!(matches!(late, AppendError::Backend { .. }), "{late:?}");
    assert!(!late.is_retryable(), "{late:?}");
}

/// Idle connections that the server has closed are replaced without anybody noticing. Seen to fail without
/// asking once more.
#[tokio::test]
async fn connections_that_were_closed_are_replaced() {
    let schema = fresh_schema();
    let address = format!("{}?application_name={schema}", url());
    let options = PgOptions::new(address).schema(&schema);
    let store = options.connect().await.unwrap();
    store.migrate().await.unwrap();
    let mut session = PgConnection::connect(&url()).await.unwrap();
    let stream = lamp();
    for expected in 0..5 {
        let expected = ExpectedVersion::Exact(Version::new(expected));
        store.append(&stream, expected, &[event()]).await.unwrap();
        let cut: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
        )
        .bind(&schema)
        .fetch_all(&mut session)
        .await
        .unwrap();
        assert!(!cut.is_empty(), "no connection was cut");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = store
        .read_stream(&stream, Version::EMPTY, 10)
        .await
        .unwrap();
    assert_eq!(events.len(), 5);
}

/// Somebody's open transaction has added to some streams. Who adds to these too must wait for it; nobody
/// else. Seen to fail without the patience of a group, when a slow lane is not given to the others, and when
/// those who wait keep their connections.
#[tokio::test]
async fn a_stream_that_must_wait_holds_up_nobody_else() {
    let store = fresh_store().await;
    // More than there are connections.
    let held: Vec<_> = (0..12).map(|_| lamp()).collect();
    let mut transaction = store.begin().await.unwrap();
    for stream in &held {
        transaction
            .append(stream, ExpectedVersion::NoStream, &[event()])
            .await
            .unwrap();
    }

    let waiting: Vec<_> = held
        .iter()
        .map(|stream| {
            let (store, stream) = (store.clone(), stream.clone());
            tokio::spawn(async move {
                store
                    .append(&stream, ExpectedVersion::NoStream, &[event()])
                    .await
            })
        })
        .collect();
    let others = (0..100).map(|_| async {
        tokio::task::yield_now().await;
        store
            .append(&lamp(), ExpectedVersion::NoStream, &[event()])
            .await
            .unwrap()
    });
    tokio::time::timeout(Duration::from_secs(5), join_all(others))
        .await
        .expect("not held up");
    tokio::time::timeout(
        Duration::from_secs(5),
        store.read_stream(&lamp(), Version::EMPTY, 1),
    )
    .await
    .expect("nor are readers")
    .unwrap();
    assert!(waiting.iter().all(|append| !append.is_finished()));

    transaction.commit().await.unwrap();
    for append in waiting {
        let refused = append.await.unwrap().unwrap_err();
        assert!(
            matches!(refused, AppendError::Conflict { .. }),
            "{refused:?}"
        );
    }
}

/// As in a `select!` whose other branch is at work. Seen to fail when an append or a look at the horizon runs
/// in the future of its caller.
#[tokio::test]
async fn what_is_begun_and_not_polled_holds_up_nobody() {
    let store = fresh_store().await;
    let (one, two) = (lamp(), lamp());
    let events = [event()];
    let mut begun = Box::pin(store.append(&one, ExpectedVersion::NoStream, &events));
    assert!(futures::poll!(begun.as_mut()).is_pending());
    let mut look = Box::pin(store.settled());
    assert!(futures::poll!(look.as_mut()).is_pending());

    let others = async {
        store
            .append(&two, ExpectedVersion::NoStream, &[event()])
            .await
            .unwrap();
        // Also on the same stream.
        store
            .append(&one, ExpectedVersion::StreamExists, &[event()])
            .await
            .unwrap();
        store.settled().await.unwrap()
    };
    let settled = tokio::time::timeout(Duration::from_secs(5), others)
        .await
        .expect("not held up");
    assert_eq!(settled.get(), 3);
    assert_eq!(begun.await.unwrap().version, Version::new(1));
}

/// Opposite orders of the same streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_to_the_same_streams_do_not_lock_each_other_out() {
    let store = fresh_store().await;
    let streams = [lamp(), lamp()];
    let write = async |forward: bool| {
        for _ in 0..100 {
            let mut order: Vec<_> = streams.iter().collect();
            if !forward {
                order.reverse();
            }
            let appends: Vec<_> = order
                .into_iter()
                .map(|stream| Append::new(stream.clone(), ExpectedVersion::Any, vec![event()]))
                .collect();
            store.append_all(&appends).await.unwrap();
        }
    };
    tokio::join!(write(true), write(false), write(true), write(false));
    let recorded: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE aggregate_type = 'lamp'")
            .fetch_one(store.pool())
            .await
            .unwrap();
    assert_eq!(recorded, 800);
}
