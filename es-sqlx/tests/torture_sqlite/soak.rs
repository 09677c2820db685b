//! Many writers on one file.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use sqlx::SqliteConnection;

use self::{
    compete::compete,
    oracle::{below, finish, follow},
};
use crate::{
    file::{File, assert_sound, fold, run},
    oracle,
};

#[path = "../oracle/compete.rs"]
mod compete;

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
    let writers = (0..16).map(|n| {
        let store = stores[n % 2].clone();
        tokio::spawn(async move { compete(&store, end, 10).await })
    });
    let writers: Vec<_> = writers.collect();
    let stranger = tokio::spawn(change_mind(file.stranger().await, end));
    let (mut written, mut conflicts) = (0, 0);
    for writer in writers {
        let (events, lost) = writer.await.unwrap();
        written += events;
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
    assert_eq!(count, written + 1, "what was acknowledged, and no more");
    assert!(written > 100 && conflicts > 0, "{written}, {conflicts}");
    assert!(lag < LAG_MAX, "{lag}");
    assert_sound(&stores[0]).await;
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
