//! The tests that Postgres shares, with SQLite's ways to meddle, and the holes that it does not have.

use es_core::{EventStore, ExpectedVersion, Position};

use crate::{
    file::{File, PROTECTED, UNPROTECTED, fold, run},
    oracle::{add, finish, follow, lamp, several},
    torture::{appends, checkpoints, paging, times},
};

/// Sets the log's clock, which does not go back, an hour ahead of the machine's.
const AHEAD: &str = "UPDATE log_head
    SET last_created_at = strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '+1 hour')";

/// Seen to fail when ids that are there are not recognised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_idempotent() {
    let file = File::new();
    appends::append_idempotent([file.open().await, file.open().await]).await;
}

/// Seen to fail when an append begins with `BEGIN DEFERRED`, and when it does not compare the versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn occ_single_winner() {
    let file = File::new();
    appends::occ_single_winner([file.open().await, file.open().await]).await;
}

/// Seen to fail when the INSERTs of one append run in reverse, and when a full page covers all that is
/// settled.
#[tokio::test]
async fn huge_batch() {
    let file = File::new();
    appends::huge_batch(file.open().await).await;
}

/// Seen to fail when a full page covers all that is settled.
#[tokio::test]
async fn page_boundary_checkpoint() {
    let file = File::new();
    paging::page_boundary_checkpoint(file.open().await).await;
}

/// Seen to fail when a scan goes on after `created_at` alone.
#[tokio::test]
async fn created_at_ties() {
    let file = File::new();
    let store = file.open().await;
    run(&mut file.stranger().await, AHEAD).await;
    times::created_at_ties(store).await;
}

/// Events are stamped an hour ahead, and the machine's clock is an hour behind them from then on. Seen to
/// fail when an append does not look at the log's last `created_at`.
#[tokio::test]
async fn clock_backwards() {
    let file = File::new();
    let store = file.open().await;
    run(&mut file.stranger().await, AHEAD).await;
    times::clock_backwards(store, async || ()).await;
}

/// Seen to fail when `judge` does not look at the end of the log, and when it does not look for the
/// anchor.
#[tokio::test]
async fn checkpoint_ahead_of_log() {
    let file = File::new();
    let store = file.open().await;
    let mut db = file.stranger().await;
    let cut = async |end: i64| {
        run(
            &mut db,
            format!(
                "{UNPROTECTED}; DELETE FROM events WHERE position > {end};
                 UPDATE log_head SET last_position = {end}"
            ),
        )
        .await;
    };
    checkpoints::checkpoint_ahead_of_log(store, cut).await;
}

/// Seen to fail when the next position comes from `max(position)`.
#[tokio::test]
async fn deleted_events() {
    let file = File::new();
    let store = file.open().await;
    let mut db = file.stranger().await;
    checkpoints::deleted_events(
        store.clone(),
        async || file.open().await,
        async |positions| {
            let list = format!("{positions:?}").replace(['[', ']'], "");
            let delete = format!("DELETE FROM events WHERE position IN ({list})");
            run(&mut db, format!("{UNPROTECTED}; {delete}; {PROTECTED}")).await;
        },
        async || fold(&store).await,
    )
    .await;
}

/// What is rolled back gives its positions back: there is no hole to pass, and no timer. Seen
/// to fail when an append that fails commits all the same.
#[tokio::test]
async fn rollback_gap_passes() {
    let file = File::new();
    let store = file.open().await;
    let append = async || add(&store, &lamp(), 2).await.position;
    assert_eq!(append().await, Position::new(2));
    let mut db = file.stranger().await;
    run(
        &mut db,
        "BEGIN IMMEDIATE; UPDATE log_head SET last_position = last_position + 5; ROLLBACK",
    )
    .await;
    // An append that fails at its last row: the id is taken.
    run(
        &mut db,
        "CREATE TRIGGER whim BEFORE INSERT ON events WHEN NEW.position = 4
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let failed = store
        .append(&lamp(), ExpectedVersion::NoStream, &several(2))
        .await;
    failed.unwrap_err();
    run(&mut db, "DROP TRIGGER whim").await;

    assert_eq!(append().await, Position::new(4), "3 and 4 came back");
    assert_eq!(store.settled().await.unwrap(), Position::new(4));
    finish(&store).await;
    assert_eq!(follow(&store, 1, |_| ()).await.tallies, fold(&store).await);
}

/// A store that is opened while a writer is at work settles what is committed and no more. Seen to
/// fail when the horizon is one above `last_position`.
#[tokio::test]
async fn horizon_restart() {
    let file = File::new();
    let store = file.open().await;
    add(&store, &lamp(), 3).await;
    let mut writer = file.stranger().await;
    run(
        &mut writer,
        "BEGIN IMMEDIATE; UPDATE log_head SET last_position = 4;
         INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type, event_version,
             event_data, created_at, position)
         SELECT randomblob(16), randomblob(16), aggregate_type, event_type, 1, event_data,
             created_at, 4 FROM events WHERE position = 1",
    )
    .await;
    let restarted = file.open().await;
    for store in [&store, &restarted] {
        assert_eq!(store.settled().await.unwrap(), Position::new(3));
    }
    run(&mut writer, "COMMIT").await;
    for store in [&store, &restarted] {
        assert_eq!(store.settled().await.unwrap(), Position::new(4));
    }
    finish(&restarted).await;
    assert_eq!(follow(&store, 2, |_| ()).await.tallies, fold(&store).await);
}

/// Scans by `created_at` while two stores on the file write. Seen to fail when a scan goes on after
/// `created_at` alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_prefix_scan() {
    let file = File::new();
    let stores = [file.open().await, file.open().await];
    let writers = stores.clone().map(|store| {
        tokio::spawn(async move {
            let streams = [lamp(), lamp(), lamp()];
            for n in 0..100 {
                add(&store, &streams[n % 3], 2).await;
            }
        })
    });
    let mut scans = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        paging::scan_of_frozen_prefix(&stores[0], 37).await;
        scans += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(scans > 1, "the writers were done too early");
    assert_eq!(paging::scan_of_frozen_prefix(&stores[0], 37).await, 400);
}
