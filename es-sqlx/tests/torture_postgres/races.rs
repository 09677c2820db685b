//! Writers that commit at the worst moment of a look at the horizon.

use std::time::Duration;

use es_core::{EventStore, Filter, Position};
use es_sqlx::PgStore;
use uuid::Uuid;

use crate::{
    oracle::{below, finish, follow},
    postgres_server::fresh_store,
    tricks::{draw, fold, run, session, store_with_traps},
};

/// An aggregate's second event is written by a transaction that is older than the first event: its
/// transaction id is lower, its position higher. Seen to fail when pages are in the order of `xmin`.
#[tokio::test]
async fn early_xid_keeps_stream_order() {
    let store = fresh_store().await;
    let (mut old, mut new) = (session(store.schema()).await, session(store.schema()).await);
    run(&mut new, "CREATE TABLE notes (note text)").await;
    run(&mut old, "BEGIN; INSERT INTO notes VALUES ('takes an id')").await;
    let stream = Uuid::now_v7();
    draw(&mut new, stream, 1).await;
    draw(&mut old, stream, 2).await;
    draw(&mut new, Uuid::now_v7(), 1).await;

    let early = store.read_log(&Filter::All, Position::START, 10).await;
    let early = early.unwrap();
    assert_eq!(early.covered, Position::new(1), "2 has not been committed");
    run(&mut old, "COMMIT").await;
    finish(&store).await;

    let model = follow(&store, 1, |_| ()).await;
    assert_eq!(model.tallies, fold(&store).await);
    let typed = Filter::event_types(["switched"]);
    let typed = store.read_log(&typed, Position::START, 2).await.unwrap();
    let versions: Vec<_> = typed.events.iter().map(|e| e.event_version.get()).collect();
    assert_eq!(versions, [1, 2]);
}

/// A view that the store finds before the system's. A look stops there while the gate is locked: its
/// snapshot has been taken, the locks have not been read. With the gate open it takes its time on both
/// sides. (Locks on the table itself do not serve: a statement waits for them before its snapshot.)
const GATE: &str = "CREATE SEQUENCE looks;
    CREATE FUNCTION slow_locks() RETURNS SETOF pg_catalog.pg_locks LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
      PERFORM nextval('looks');
      PERFORM pg_advisory_lock_shared(hashtext(current_schema()));
      PERFORM pg_advisory_unlock_shared(hashtext(current_schema()));
      PERFORM pg_sleep(random() * 0.004);
      RETURN QUERY SELECT * FROM pg_catalog.pg_locks;
      PERFORM pg_sleep(random() * 0.004);
    END $$;
    CREATE VIEW pg_locks AS SELECT * FROM slow_locks()";

/// A writer commits after the look's snapshot and before its scan of the locks: the scan does not find
/// the writer, the snapshot does not show the row. Only a page read by a later snapshot has it. Seen to
/// fail when the page is read before the look.
#[tokio::test]
async fn horizon_single_snapshot_race() {
    let store = store_with_traps(GATE).await;
    let (mut slow, mut fast, mut gate) = (
        session(store.schema()).await,
        session(store.schema()).await,
        session(store.schema()).await,
    );
    let mut covered = Position::START;
    for round in 0..20 {
        let (hidden, shown) = (round * 2 + 1, round * 2 + 2);
        run(&mut slow, "BEGIN").await;
        assert_eq!(draw(&mut slow, Uuid::now_v7(), 1).await, hidden);
        assert_eq!(draw(&mut fast, Uuid::now_v7(), 1).await, shown);

        run(
            &mut gate,
            "SELECT pg_advisory_lock(hashtext(current_schema()))",
        )
        .await;
        let reader = tokio::spawn({
            let store = store.clone();
            async move { store.read_log(&Filter::All, covered, 10).await.unwrap() }
        });
        until_waiting(&mut gate, store.schema()).await;
        run(&mut slow, "COMMIT").await;
        run(&mut gate, "SELECT pg_advisory_unlock_all()").await;

        let page = reader.await.unwrap();
        let positions: Vec<_> = page.events.iter().map(|e| e.position.get()).collect();
        assert_eq!(positions, [hidden, shown]);
        covered = page.covered;
    }
}

/// Until somebody stands at the gate.
async fn until_waiting(session: &mut sqlx::PgConnection, schema: &str) {
    for _ in 0..2_000 {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory'
               AND NOT l.granted AND l.objid::bigint = hashtext($1)::bigint & 4294967295)",
        )
        .bind(schema)
        .fetch_one(&mut *session)
        .await
        .unwrap();
        if waits {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the horizon does not read `pg_locks` by this name: stop it in another way");
}

/// The same by chance, thousands of times, with looks that take milliseconds on both sides of the scan
/// while writers commit and roll back. Seen to fail when the page is read before the look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn horizon_single_snapshot_race_by_chance() {
    let store = store_with_traps(GATE).await;
    let reader = tokio::spawn({
        let store = store.clone();
        async move { follow(&store, 50, |_| ()).await }
    });
    let writers = (0..6).map(|_| tokio::spawn(write(store.clone())));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    finish(&store).await;

    let model = tokio::time::timeout(Duration::from_secs(20), reader).await;
    assert_eq!(model.unwrap().unwrap().tallies, fold(&store).await);
    let looks: i64 = sqlx::query_scalar("SELECT last_value FROM looks")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert!(looks > 50, "only {looks} looks were slowed down");
}

async fn write(store: PgStore) {
    let mut session = session(store.schema()).await;
    let (mut stream, mut version) = (Uuid::now_v7(), 0);
    for _ in 0..150 {
        run(&mut session, "BEGIN").await;
        draw(&mut session, stream, version + 1).await;
        tokio::time::sleep(Duration::from_micros(below(12_000))).await;
        if below(5) == 0 {
            run(&mut session, "ROLLBACK").await;
        } else {
            run(&mut session, "COMMIT").await;
            version += 1;
        }
        if below(20) == 0 {
            (stream, version) = (Uuid::now_v7(), 0);
        }
    }
}
