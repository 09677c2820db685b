//! Nothing appears late, and nothing waits for those who cannot make it so. Raw sessions play the slow
//! writers.

use es_core::{EventStore, Filter, Position};
use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::postgres_server::{fresh_schema, url};

/// A store, and the name of its schema for raw sessions.
struct World {
    store: PgStore,
    schema: String,
}

impl World {
    async fn new() -> Self {
        let schema = fresh_schema();
        let store = PgOptions::new(url())
            .schema(&schema)
            .connect()
            .await
            .unwrap();
        store.migrate().await.unwrap();
        Self { store, schema }
    }

    async fn session(&self) -> PgConnection {
        let mut session = PgConnection::connect(&url()).await.unwrap();
        let path = format!("SET search_path TO {}", self.schema);
        session.execute(AssertSqlSafe(path)).await.unwrap();
        session
    }

    /// What a reader is shown now, from the start.
    async fn positions(&self) -> Vec<u64> {
        let page = self
            .store
            .read_log(&Filter::All, Position::START, 1_000)
            .await
            .unwrap();
        page.events
            .iter()
            .map(|event| event.position.get())
            .collect()
    }

    /// Looks as often as a waiting reader does.
    async fn settled(&self) -> u64 {
        let mut settled = 0;
        for _ in 0..3 {
            settled = self.store.settled().await.unwrap().get();
        }
        settled
    }
}

/// Draws a position in whatever transaction the session is in.
async fn draw(session: &mut PgConnection) -> u64 {
    let position: i64 = sqlx::query_scalar(
        "INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
         VALUES ($1, $2, 'lamp', 'switched', 1, '{}') RETURNING position",
    )
    .bind(Uuid::now_v7())
    .bind(Uuid::now_v7())
    .fetch_one(session)
    .await
    .unwrap();
    u64::try_from(position).unwrap()
}

async fn run(session: &mut PgConnection, sql: &'static str) {
    session.execute(sql).await.unwrap();
}

/// Seen to fail when `State::learn` returns `high` at once: the reader passes 1 and never sees it.
#[tokio::test]
async fn commit_out_of_order() {
    let world = World::new().await;
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    run(&mut slow, "BEGIN").await;
    assert_eq!(draw(&mut slow).await, 1);
    assert_eq!(draw(&mut fast).await, 2);

    assert_eq!(world.positions().await, [] as [u64; 0], "2 must wait for 1");
    run(&mut slow, "COMMIT").await;

    assert_eq!(world.positions().await, [1, 2]);
}

/// Looks are shared, but only with those who asked before: without other writers an append is settled
/// by the next look.
#[tokio::test]
async fn shared_looks_are_never_stale() {
    let world = World::new().await;
    let mut writer = world.session().await;
    for _ in 0..50 {
        let position = draw(&mut writer).await;
        let looks = futures::future::join_all((0..5).map(|_| world.store.settled())).await;
        for settled in looks {
            assert_eq!(settled.unwrap().get(), position);
        }
    }
}

#[tokio::test]
async fn rollback_gap_passes() {
    let world = World::new().await;
    let (mut one, mut two) = (world.session().await, world.session().await);
    draw(&mut one).await;
    run(&mut one, "BEGIN").await;
    draw(&mut one).await;
    run(&mut one, "ROLLBACK").await;
    draw(&mut two).await;

    assert_eq!(world.positions().await, [1, 3]);
}

/// A hole at the very end, and one at position 1 of a fresh store.
#[tokio::test]
async fn rollback_gap_tail() {
    let world = World::new().await;
    let (mut one, mut two) = (world.session().await, world.session().await);
    run(&mut one, "BEGIN").await;
    draw(&mut one).await;
    run(&mut one, "ROLLBACK").await;
    assert_eq!(world.settled().await, 0);

    run(&mut one, "BEGIN").await;
    assert_eq!(draw(&mut one).await, 2);
    assert_eq!(draw(&mut two).await, 3);
    assert_eq!(world.settled().await, 0, "a live writer must not be jumped");
    run(&mut one, "COMMIT").await;

    assert_eq!(world.positions().await, [2, 3]);
}

#[tokio::test]
async fn slow_writer_holds_only_above() {
    let world = World::new().await;
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    for _ in 0..3 {
        draw(&mut fast).await;
    }
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    for _ in 0..3 {
        draw(&mut fast).await;
    }

    assert_eq!(world.positions().await, [1, 2, 3]);
    run(&mut slow, "COMMIT").await;
    assert_eq!(world.positions().await, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn idle_sessions_do_not_stall() {
    let world = World::new().await;
    let mut writer = world.session().await;
    run(&mut writer, "CREATE TABLE notes (note text)").await;
    let (mut idle, mut busy, mut dump) = (
        world.session().await,
        world.session().await,
        world.session().await,
    );
    run(&mut idle, "BEGIN; SELECT count(*) FROM events").await;
    run(&mut busy, "BEGIN; INSERT INTO notes VALUES ('elsewhere')").await;
    run(
        &mut dump,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM events",
    )
    .await;
    run(&mut writer, "BEGIN").await;
    draw(&mut writer).await;
    run(&mut writer, "ROLLBACK").await;
    draw(&mut writer).await;

    assert_eq!(world.positions().await, [2]);
}

#[tokio::test]
async fn savepoint_rollback() {
    let world = World::new().await;
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    run(&mut slow, "BEGIN; SAVEPOINT here").await;
    draw(&mut slow).await;
    run(&mut slow, "ROLLBACK TO SAVEPOINT here").await;
    assert_eq!(draw(&mut slow).await, 2);
    assert_eq!(draw(&mut fast).await, 3);

    assert_eq!(world.positions().await, [] as [u64; 0]);
    run(&mut slow, "COMMIT").await;
    assert_eq!(world.positions().await, [2, 3]);
}

#[tokio::test]
async fn prepared_transaction() {
    let world = World::new().await;
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    let name = world.schema.clone();
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    slow.execute(AssertSqlSafe(format!("PREPARE TRANSACTION '{name}'")))
        .await
        .unwrap();
    drop(slow);
    draw(&mut fast).await;

    assert_eq!(world.settled().await, 0, "it may still be committed");
    fast.execute(AssertSqlSafe(format!("COMMIT PREPARED '{name}'")))
        .await
        .unwrap();
    assert_eq!(world.positions().await, [1, 2]);
}

/// What the reader learned is lost with it: a new one must not be bolder.
#[tokio::test]
async fn horizon_restart() {
    let world = World::new().await;
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    draw(&mut fast).await;
    assert_eq!(world.settled().await, 0);

    let store = PgOptions::new(url())
        .schema(&world.schema)
        .connect()
        .await
        .unwrap();
    let restarted = World {
        store,
        schema: world.schema.clone(),
    };
    assert_eq!(restarted.settled().await, 0);
    run(&mut slow, "ROLLBACK").await;

    assert_eq!(restarted.positions().await, [2]);
}
