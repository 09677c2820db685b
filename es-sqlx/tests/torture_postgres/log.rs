//! The tests that SQLite shares, with Postgres' ways to meddle.

use std::time::Duration;

use es_core::{EventStore, Filter, Position};
use es_sqlx::{PgStore, postgres::PgOptions};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    oracle::{below, lamp},
    postgres_server::{fresh_store, url},
    torture::{appends, checkpoints, paging, times},
    tricks::{UNPROTECTED, draw, fold, run, session, store_with_traps},
};

/// A clock of our own: an hour ahead until `now` is emptied, and standing still if it holds a time.
const CLOCK: &str = "CREATE TABLE now (at timestamptz);
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT coalesce((SELECT at FROM now LIMIT 1), pg_catalog.clock_timestamp())';
    INSERT INTO now VALUES (pg_catalog.clock_timestamp() + interval '1 hour')";

/// Seen to fail when ids that are there are not recognised (`repeated_after` is always NULL), and when a
/// lost race is not asked about again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_idempotent() {
    appends::append_idempotent(two_stores().await).await;
}

/// Seen to fail when `admit` does not compare the versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn occ_single_winner() {
    appends::occ_single_winner(two_stores().await).await;
}

/// With connections of its own each.
async fn two_stores() -> [PgStore; 2] {
    let store = fresh_store().await;
    let other = PgOptions::new(url()).schema(store.schema());
    [store, other.connect().await.unwrap()]
}

/// Seen to fail when `ins` inserts in reverse, and when a full page covers all that is settled.
#[tokio::test]
async fn huge_batch() {
    appends::huge_batch(fresh_store().await).await;
}

/// Also while a writer is at work: an empty page covers what is settled, not what is there. Seen to fail
/// when a full page covers all that is settled.
#[tokio::test]
async fn page_boundary_checkpoint() {
    paging::page_boundary_checkpoint(fresh_store().await).await;

    let store = fresh_store().await;
    let (mut slow, mut fast) = (session(store.schema()).await, session(store.schema()).await);
    let absent = Filter::event_types(["absent"]);
    draw(&mut fast, Uuid::now_v7(), 1).await;
    run(&mut slow, "BEGIN").await;
    draw(&mut slow, Uuid::now_v7(), 1).await;
    draw(&mut fast, Uuid::now_v7(), 1).await;
    let covered = async |limit| {
        let page = store.read_log(&absent, Position::START, limit).await;
        page.unwrap().covered.get()
    };
    assert_eq!((covered(1).await, covered(100).await), (1, 1));
    run(&mut slow, "COMMIT").await;
    assert_eq!((covered(1).await, covered(100).await), (3, 3));
}

/// Seen to fail when a scan goes on after `created_at` alone.
#[tokio::test]
async fn created_at_ties() {
    times::created_at_ties(store_with_traps(CLOCK).await).await;
}

/// Seen to fail when an append does not look at the last `created_at` of its stream, and when pages of
/// the log are in the order of `created_at`.
#[tokio::test]
async fn clock_backwards() {
    let store = store_with_traps(CLOCK).await;
    let mut clock = session(store.schema()).await;
    times::clock_backwards(store, async || run(&mut clock, "DELETE FROM now").await).await;
}

/// Seen to fail when `judge` does not look at the end of the log, and when it does not look for the
/// anchor.
#[tokio::test]
async fn checkpoint_ahead_of_log() {
    let store = fresh_store().await;
    let mut db = session(store.schema()).await;
    let cut = async |end: i64| {
        let next = end + 1;
        run(
            &mut db,
            format!(
                "{UNPROTECTED}; DELETE FROM events WHERE position > {end};
                 ALTER TABLE events ALTER COLUMN position RESTART WITH {next}"
            ),
        )
        .await;
    };
    checkpoints::checkpoint_ahead_of_log(store, cut).await;
}

/// Seen to fail when holes are passed only by samples, and never at once.
#[tokio::test]
async fn deleted_events() {
    let store = fresh_store().await;
    let mut db = session(store.schema()).await;
    checkpoints::deleted_events(
        store.clone(),
        async || {
            let options = PgOptions::new(url()).schema(store.schema());
            options.connect().await.unwrap()
        },
        async |positions| {
            let delete = format!(
                "{UNPROTECTED}; DELETE FROM events WHERE position = ANY(ARRAY{positions:?})"
            );
            run(&mut db, delete).await;
        },
        async || fold(&store).await,
    )
    .await;
}

/// Slow writers whose clocks are minutes apart: neither positions nor commits are in the order of
/// `created_at`. Seen to fail when a scan does not stop at the horizon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_prefix_scan() {
    let store = fresh_store().await;
    let writers = (0..6).map(|n| tokio::spawn(write(store.clone(), n)));
    let writers: Vec<_> = writers.collect();
    let mut scans = 0;
    while !writers.iter().all(JoinHandle::is_finished) {
        let found = paging::scan_of_frozen_prefix(&store, 37).await;
        scans += usize::from(found > 0);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(scans > 1, "the writers were done too early");
    assert_eq!(paging::scan_of_frozen_prefix(&store, 37).await, 6 * 40);
}

async fn write(store: PgStore, minutes: i32) {
    let mut session = session(store.schema()).await;
    let stream = lamp();
    for version in 1..=40 {
        run(&mut session, "BEGIN").await;
        sqlx::query(
            "INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type, event_version,
                event_data, created_at) VALUES ($1, $2, 'lamp', 'switched', $3, '{}',
                timezone('utc', clock_timestamp()) + $4 * interval '1 minute')",
        )
        .bind(Uuid::now_v7())
        .bind(stream.aggregate_id)
        .bind(version)
        .bind(minutes)
        .execute(&mut session)
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(below(16))).await;
        run(&mut session, "COMMIT").await;
    }
}
