//! Many writers on one file.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use es_core::{AppendError, EventStore, ExpectedVersion, StreamId, Version};
use es_sqlx::SqliteStore;
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{
    file::{File, assert_sound, fold, run},
    oracle::{below, finish, follow, several},
};

const LAG_MAX: TimeDelta = TimeDelta::seconds(5);

/// How long: 3 s unless `ES_SOAK_SECONDS` says more.
fn duration() -> Duration {
    let seconds = std::env::var("ES_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.map_or(3, |seconds| seconds.parse().unwrap()))
}

/// Sixteen writers in two stores, who meet in the same few streams, and a stranger who holds the write
/// lock and changes its mind. A reader sees each event once, in order, and soon. Seen to fail when pages of
/// the log are in the order of ids, and when an append does not compare the versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_soak() {
    let file = File::new();
    let stores = [file.open().await, file.open().await];
    let reader = tokio::spawn({
        let store = stores[1].clone();
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
    let writers = (0..16).map(|n| tokio::spawn(write(stores[n % 2].clone(), end)));
    let writers: Vec<_> = writers.collect();
    let stranger = tokio::spawn(change_mind(file.stranger().await, end));
    let (mut written, mut conflicts) = (0, 0);
    for writer in writers {
        let (appends, lost) = writer.await.unwrap();
        written += appends;
        conflicts += lost;
    }
    stranger.await.unwrap();
    finish(&stores[0]).await;

    let (model, lag) = tokio::time::timeout(Duration::from_secs(30), reader)
        .await
        .expect("the reader must reach the end")
        .unwrap();
    assert_eq!(model.tallies, fold(&stores[0]).await);
    let count: i64 = model.tallies.values().map(|tally| tally.count).sum();
    assert_eq!(count, written * 2 + 1, "what was acknowledged, and no more");
    assert!(written > 50 && conflicts > 0, "{written}, {conflicts}");
    assert!(lag < LAG_MAX, "{lag}");
    assert_sound(&stores[0]).await;
}

/// Appends to one of eight streams at the version seen last; tells how often that went well and not.
async fn write(store: SqliteStore, end: Instant) -> (i64, i64) {
    let mut versions = [Version::EMPTY; 8];
    let (mut written, mut conflicts) = (0, 0);
    while Instant::now() < end {
        let n = usize::try_from(below(8)).unwrap();
        let stream = StreamId::new("lamp", Uuid::from_u128(n as u128 + 1));
        let expected = ExpectedVersion::Exact(versions[n]);
        versions[n] = match store.append(&stream, expected, &several(2)).await {
            Ok(appended) => {
                written += 1;
                appended.version
            }
            Err(AppendError::Conflict { actual, .. }) => {
                conflicts += 1;
                actual
            }
            Err(error) => panic!("{error:?}"),
        };
        tokio::time::sleep(Duration::from_millis(below(10))).await;
    }
    (written, conflicts)
}

async fn change_mind(mut db: SqliteConnection, end: Instant) {
    while Instant::now() < end {
        run(
            &mut db,
            "BEGIN IMMEDIATE; UPDATE log_head SET last_position = last_position + 3",
        )
        .await;
        tokio::time::sleep(Duration::from_millis(below(20))).await;
        run(&mut db, "ROLLBACK").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
