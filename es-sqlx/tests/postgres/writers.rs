//! Many writers, some of whom change their minds.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use es_core::{AppendError, EventStore, ExpectedVersion, Version};
use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use self::compete::compete;
use self::oracle::{Tallies, Tally, below, finish, follow, lamp, several};
use crate::postgres_server::{fresh_schema, fresh_store, url};

#[path = "../oracle/compete.rs"]
mod compete;
#[path = "../oracle/mod.rs"]
mod oracle;

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
    let stream = lamp();

    let count = async |store: PgStore| {
        for _ in 0..200 {
            loop {
                let version = match store.read_stream(&stream, Version::EMPTY, 1_000).await {
                    Ok(events) => events.last().map_or(Version::EMPTY, |e| e.event_version),
                    Err(error) => panic!("{error}"),
                };
                match store
                    .append(&stream, ExpectedVersion::Exact(version), &several(1))
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

const WRITERS: usize = 16;
const LAG_MAX: TimeDelta = TimeDelta::seconds(5);

/// How long: 4 s unless `ES_SOAK_SECONDS` says more.
fn duration() -> Duration {
    let seconds = std::env::var("ES_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()))
}

/// Half of the writers keep raw transactions open for a moment and roll some back, half append through
/// the store to the same few streams and lose to each other. A reader sees each event once, in order,
/// and soon. Seen to fail within a second when `State::learn` returns `high` at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_soak() {
    let store = fresh_store().await;
    let reader = tokio::spawn({
        let store = store.clone();
        async move {
            let mut lag = TimeDelta::zero();
            let seen = follow(&store, 50, |event| {
                lag = lag.max(Utc::now() - event.created_at)
            });
            let model = seen.await;
            (model, lag)
        }
    });
    let end = Instant::now() + duration();
    let writers = (0..WRITERS).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            match n % 2 {
                0 => (hesitate(&store, end).await, 0),
                _ => compete(&store, end, 15).await,
            }
        })
    });
    let (mut written, mut conflicts) = (0, 0);
    for writer in writers.collect::<Vec<_>>() {
        let (events, lost) = writer.await.unwrap();
        written += events;
        conflicts += lost;
    }
    finish(&store).await;

    let (model, lag) = tokio::time::timeout(Duration::from_secs(30), reader)
        .await
        .expect("the reader must reach the end")
        .unwrap();
    let count: i64 = model.tallies.values().map(|tally| tally.count).sum();
    assert_eq!(count, written + 1, "what was acknowledged, and no more");
    let sql = format!(
        "SELECT aggregate_id, max(event_version)::bigint, count(*) FROM {}.events GROUP BY 1",
        store.schema()
    );
    let fold: Vec<(Uuid, i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_all(store.pool())
        .await
        .unwrap();
    let fold = fold.into_iter();
    let fold: Tallies = fold
        .map(|(id, version, count)| (id, Tally { version, count }))
        .collect();
    assert_eq!(model.tallies, fold);
    assert!(written > 100 && conflicts > 0, "{written}, {conflicts}");
    // A transaction is open for 200 ms at most.
    assert!(lag < LAG_MAX, "{lag}");
}

/// One transaction in twenty takes its time, one in ten is rolled back, a few change their minds half-way.
async fn hesitate(store: &PgStore, end: Instant) -> i64 {
    let mut session = PgConnection::connect(&url()).await.unwrap();
    let path = format!("SET search_path TO {}", store.schema());
    session.execute(AssertSqlSafe(path)).await.unwrap();
    let insert = "INSERT INTO events
        (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
        VALUES ($1, $2, 'lamp', 'switched', $3, '{}')";
    let (aggregate, mut version) = (Uuid::now_v7(), 0);
    while Instant::now() < end {
        session.execute("BEGIN; SAVEPOINT here").await.unwrap();
        for again in [below(10) == 0, false] {
            sqlx::query(insert)
                .bind(Uuid::now_v7())
                .bind(aggregate)
                .bind(version + 1)
                .execute(&mut session)
                .await
                .unwrap();
            if !again {
                break;
            }
            session.execute("ROLLBACK TO SAVEPOINT here").await.unwrap();
        }
        let open = if below(20) == 0 { 200 } else { below(15) };
        tokio::time::sleep(Duration::from_millis(open)).await;
        if below(10) == 0 {
            session.execute("ROLLBACK").await.unwrap();
        } else {
            session.execute("COMMIT").await.unwrap();
            version += 1;
        }
    }
    i64::from(version)
}
