//! Others who use the same file.

use std::time::{Duration, Instant};

use es_core::{EventStore, ExpectedVersion, Version};
use sqlx::{Connection, SqliteConnection};

use crate::{
    file::{File, assert_sound, fold, run, store_of_parent},
    oracle::{add, finish, follow, lamp, several},
};

/// A reader that keeps its snapshot, a process that writes all the time, and checkpoints that want the
/// whole file: each append succeeds within the busy timeout. Seen to fail when an append begins with
/// `BEGIN DEFERRED`: then it dies of `SQLITE_BUSY_SNAPSHOT`, which no timeout cures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_busy() {
    let file = File::new();
    let store = file.open().await;
    let first = lamp();
    add(&store, &first, 3).await;

    let mut reader = file.stranger().await;
    run(&mut reader, "BEGIN").await;
    assert_eq!(count(&mut reader).await, 3);
    let competitor = file.child("busy::competing_process");
    let checkpoints = tokio::spawn({
        let mut db = file.stranger().await;
        async move {
            run(&mut db, "PRAGMA busy_timeout = 50").await;
            let mut modes = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"].iter().cycle();
            loop {
                // Busy is an answer, not an error: (1, frames, moved).
                let mode = modes.next().unwrap();
                run(&mut db, format!("PRAGMA wal_checkpoint({mode})")).await;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
    });
    let began = Instant::now();
    while store.settled().await.unwrap().get() <= 3 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the competitor appends nothing"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let stream = lamp();
    let start = Instant::now();
    let mut version = Version::EMPTY;
    // SQLite's waiting writers do not queue: on a busy machine one may be unlucky for long.
    while start.elapsed() < Duration::from_secs(2) || version <= Version::new(4) {
        let began = Instant::now();
        let expected = ExpectedVersion::Exact(version);
        let appended = store.append(&stream, expected, &several(2)).await;
        version = appended.expect("an append waits, it does not fail").version;
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(count(&mut reader).await, 3, "the long reader's snapshot");
    checkpoints.abort();
    drop(competitor);
    reader.close().await.unwrap();

    finish(&store).await;
    assert_eq!(
        follow(&store, 100, |_| ()).await.tallies,
        fold(&store).await
    );
    assert!(fold(&store).await.len() > 3, "the competitor wrote nothing");
    assert_sound(&store).await;
}

async fn count(connection: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM events")
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test]
#[ignore = "the other process of `sqlite_busy`"]
async fn competing_process() {
    let Some(store) = store_of_parent().await else {
        return;
    };
    for _ in 0..100_000 {
        add(&store, &lamp(), 3).await;
    }
}
