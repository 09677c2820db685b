//! Administrators at work while events are written.

use std::time::Duration;

use es_core::{EventStore, Position};
use es_sqlx::PgStore;
use sqlx::PgConnection;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    oracle::{add, below, finish, follow, lamp},
    postgres_server::fresh_store,
    tricks::{draw, fold, run, session},
};

/// A queued `LOCK TABLE` moves a writer's lock from the fast path of its session to the shared table.
/// The look at the locks must find it in both places. Seen to fail when it sees one of them (`fastpath`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_promotion() {
    let store = fresh_store().await;
    let (mut slow, mut fast, mut admin) = (
        session(store.schema()).await,
        session(store.schema()).await,
        session(store.schema()).await,
    );
    run(&mut slow, "BEGIN").await;
    draw(&mut slow, Uuid::now_v7(), 1).await;
    draw(&mut fast, Uuid::now_v7(), 1).await;
    assert!(is_fast(&mut fast).await, "the lock is on the fast path");
    assert_eq!(store.settled().await.unwrap(), Position::START);

    let queued = tokio::spawn(async move {
        run(&mut admin, "BEGIN; LOCK TABLE events IN SHARE MODE; COMMIT").await;
    });
    while is_fast(&mut fast).await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for _ in 0..3 {
        assert_eq!(store.settled().await.unwrap(), Position::START);
    }
    run(&mut slow, "COMMIT").await;
    queued.await.unwrap();
    finish(&store).await;
    let model = follow(&store, 10, |_| ()).await;
    assert_eq!(model.tallies, fold(&store).await);
}

/// Whether the one writer's lock is in its session's own list.
async fn is_fast(session: &mut PgConnection) -> bool {
    sqlx::query_scalar(
        "SELECT bool_and(fastpath) FROM pg_locks
         WHERE relation = 'events'::regclass AND mode = 'RowExclusiveLock'",
    )
    .fetch_one(session)
    .await
    .unwrap()
}

/// Index builds, VACUUM, ANALYZE and table locks under load: nothing is lost, and nothing stalls when
/// they are done. Seen to fail when the look sees the locks of the fast path only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_promotion_and_ddl() {
    let store = fresh_store().await;
    let reader = tokio::spawn({
        let store = store.clone();
        async move { follow(&store, 50, |_| ()).await }
    });
    let stores = (0..3).map(|_| tokio::spawn(append(store.clone())));
    let sessions = (0..4).map(|_| tokio::spawn(write(store.clone())));
    let writers: Vec<JoinHandle<()>> = stores.chain(sessions).collect();
    let mut admin = session(store.schema()).await;
    let mut rounds = 0;
    while !writers.iter().all(JoinHandle::is_finished) {
        for sql in [
            "CREATE INDEX CONCURRENTLY whim ON events (event_version)",
            "VACUUM (ANALYZE) events",
            "BEGIN; LOCK TABLE events IN SHARE MODE; COMMIT",
            "DROP INDEX CONCURRENTLY whim",
            "BEGIN; LOCK TABLE events; COMMIT",
            "REINDEX INDEX CONCURRENTLY events_position",
        ] {
            run(&mut admin, sql).await;
        }
        rounds += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(rounds > 1, "the writers were done too early");
    finish(&store).await;

    let model = tokio::time::timeout(Duration::from_secs(20), reader).await;
    assert_eq!(model.expect("a stall").unwrap().tallies, fold(&store).await);
}

async fn append(store: PgStore) {
    for _ in 0..30 {
        let stream = lamp();
        for _ in 0..5 {
            add(&store, &stream, 2).await;
        }
    }
}

/// One transaction in four is rolled back.
async fn write(store: PgStore) {
    let mut session = session(store.schema()).await;
    let (stream, mut version) = (Uuid::now_v7(), 0);
    for _ in 0..80 {
        run(&mut session, "BEGIN").await;
        draw(&mut session, stream, version + 1).await;
        tokio::time::sleep(Duration::from_millis(below(12))).await;
        if below(4) == 0 {
            run(&mut session, "ROLLBACK").await;
        } else {
            run(&mut session, "COMMIT").await;
            version += 1;
        }
    }
}
