//! Nothing appears late, and nothing waits for those who cannot make it so. Raw sessions play the slow
//! writers.

use std::time::Duration;

use es_core::{EventStore, Filter, Position};
use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
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

    /// As [`settled`](Self::settled), where the first looks may fail for a broken connection.
    async fn settled_again(&self) -> u64 {
        while let Err(error) = self.store.settled().await {
            assert!(error.is_retryable(), "{error:?}");
        }
        self.settled().await
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

/// Who watches is told whom readers wait for: the one who could fill the hole, not the one whose transaction
/// is older but who came later. Seen to fail when all who hold the lock are asked.
#[tokio::test]
async fn the_horizon_names_who_holds_it_back() {
    let world = World::new().await;
    let (mut old, mut slow, mut fast) = (
        world.session().await,
        world.session().await,
        world.session().await,
    );
    run(&mut old, "BEGIN; SELECT now()").await;
    run(&mut slow, "SET application_name = 'importer'").await;
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    draw(&mut fast).await;
    assert_eq!(world.settled().await, 0);
    draw(&mut old).await;
    run(&mut fast, "SELECT pg_sleep(0.1)").await;

    let horizon = world.store.horizon().await.unwrap();

    assert_eq!(
        (horizon.settled, horizon.end),
        (Position::START, Position::new(2))
    );
    let blocker = horizon.blocker.expect("readers wait");
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut slow)
        .await
        .unwrap();
    assert_eq!(
        (blocker.pid, blocker.name.as_str()),
        (Some(pid), "importer")
    );
    let age = blocker.age;
    assert!(age >= Duration::from_millis(100) && age < Duration::from_secs(60));

    let prepared = format!("PREPARE TRANSACTION '{}'", world.schema);
    slow.execute(AssertSqlSafe(prepared)).await.unwrap();
    let blocker = world.store.horizon().await.unwrap().blocker;
    let blocker = blocker.expect("readers wait");
    assert_eq!((blocker.pid, &blocker.name), (None, &world.schema));

    let commit = format!("COMMIT PREPARED '{}'", world.schema);
    slow.execute(AssertSqlSafe(commit)).await.unwrap();
    run(&mut old, "COMMIT").await;
    let horizon = world.store.horizon().await.unwrap();
    assert_eq!(
        (horizon.settled, horizon.end),
        (horizon.end, Position::new(3))
    );
    assert_eq!(horizon.blocker, None);
}

/// Times of sessions of other roles are hidden from it. Seen to fail when the age is taken for granted.
#[tokio::test]
async fn a_role_without_rights_is_told_as_much_as_it_may_know() {
    let world = World::new().await;
    let schema = &world.schema;
    let role = format!("{schema}_watcher");
    let grant = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    slow.execute(AssertSqlSafe(grant)).await.unwrap();
    let become_role = format!("SET ROLE {role}");
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .after_connect(move |connection, _| {
            let become_role = become_role.clone();
            Box::pin(async move {
                connection.execute(AssertSqlSafe(become_role)).await?;
                Ok(())
            })
        })
        .connect(&url())
        .await
        .unwrap();
    let watcher = PgOptions::from_pool(pool).schema(schema).connect();
    let watcher = watcher.await.unwrap();
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    draw(&mut fast).await;
    watcher.settled().await.unwrap();
    run(&mut fast, "SELECT pg_sleep(0.05)").await;

    let blocker = watcher.horizon().await.unwrap().blocker;

    let blocker = blocker.expect("readers wait");
    assert!(blocker.pid.is_some());
    assert!(blocker.age >= Duration::from_millis(50), "{blocker:?}");
    watcher.close().await;
    run(&mut slow, "ROLLBACK").await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    slow.execute(AssertSqlSafe(drop)).await.unwrap();
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

/// Without other writers the first look passes a hole; with others the second look after those have
/// ended who were at work when the hole was seen. Who came later does not count. Seen to fail when
/// samples whose writers have ended settle nothing.
#[tokio::test]
async fn rollback_gap_passes() {
    let world = World::new().await;
    let (mut one, mut two, mut late) = (
        world.session().await,
        world.session().await,
        world.session().await,
    );
    draw(&mut one).await;
    run(&mut one, "BEGIN").await;
    draw(&mut one).await;
    run(&mut one, "ROLLBACK").await;
    draw(&mut two).await;
    assert_eq!(world.positions().await, [1, 3]);

    run(&mut one, "BEGIN").await;
    assert_eq!(draw(&mut one).await, 4);
    run(&mut two, "BEGIN").await;
    draw(&mut two).await;
    run(&mut two, "ROLLBACK").await;
    assert_eq!(draw(&mut two).await, 6);
    assert_eq!(world.settled().await, 3);
    run(&mut late, "BEGIN").await;
    assert_eq!(draw(&mut late).await, 7);
    run(&mut one, "COMMIT").await;
    world.store.settled().await.unwrap();
    assert_eq!(world.store.settled().await.unwrap().get(), 6);
}

/// A hole at the very end, and one at position 1 of a fresh store. Seen to fail when a sample settles
/// after 20 ms.
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

    run(&mut one, "BEGIN").await;
    assert_eq!(draw(&mut one).await, 4);
    run(&mut one, "ROLLBACK").await;
    assert_eq!(world.settled().await, 3);
    run(&mut one, "BEGIN").await;
    assert_eq!(draw(&mut one).await, 5);
    assert_eq!(draw(&mut two).await, 6);
    assert_eq!(world.settled().await, 3, "a live writer must not be jumped");
    run(&mut one, "COMMIT").await;
    assert_eq!(world.positions().await, [2, 3, 5, 6]);
}

/// Seen to fail when `State::learn` returns `high` at once.
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

/// Open transactions that only read, that write elsewhere, also in another database, and a dump. Seen to
/// fail when the look takes any lock on the table, or on any table, for a writer's.
#[tokio::test]
async fn idle_sessions_do_not_stall() {
    let world = World::new().await;
    let mut writer = world.session().await;
    run(&mut writer, "CREATE TABLE notes (note text)").await;
    let elsewhere = Database::new(&world.schema).await;
    let mut other = elsewhere.session().await;
    run(&mut other, "CREATE TABLE events (note text)").await;
    run(&mut other, "BEGIN; INSERT INTO events VALUES ('not here')").await;
    let (mut idle, mut busy, mut dump) = (
        world.session().await,
        world.session().await,
        world.session().await,
    );
    run(&mut idle, "BEGIN; SELECT count(*) FROM events").await;
    run(&mut busy, "BEGIN; INSERT INTO notes VALUES ('elsewhere')").await;
    // What pg_dump does.
    run(
        &mut dump,
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();
         LOCK TABLE events IN ACCESS SHARE MODE; SELECT count(*) FROM events",
    )
    .await;
    for hole in [1, 3, 5] {
        run(&mut writer, "BEGIN").await;
        assert_eq!(draw(&mut writer).await, hole);
        run(&mut writer, "ROLLBACK").await;
        let next = draw(&mut writer).await;
        assert_eq!(world.store.settled().await.unwrap().get(), next);
    }
    assert_eq!(world.positions().await, [2, 4, 6]);
    for mut session in [idle, busy, dump, other] {
        run(&mut session, "COMMIT").await;
        session.close().await.unwrap();
    }
    elsewhere.drop().await;
}

/// Another database of the test server.
struct Database(String);

impl Database {
    async fn new(name: &str) -> Self {
        let mut session = PgConnection::connect(&url()).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        session.execute(AssertSqlSafe(create)).await.unwrap();
        Self(name.to_owned())
    }

    async fn session(&self) -> PgConnection {
        let options: PgConnectOptions = url().parse().unwrap();
        let options = options.database(&self.0);
        PgConnection::connect_with(&options).await.unwrap()
    }

    async fn drop(self) {
        let mut session = PgConnection::connect(&url()).await.unwrap();
        let drop = format!("DROP DATABASE {}", self.0);
        session.execute(AssertSqlSafe(drop)).await.unwrap();
    }
}

/// Seen to fail when `State::learn` returns `high` at once.
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

/// Seen to fail when the look sees the locks of the fast path only. Over a restart of the server:
/// `prepared_transaction_over_a_restart`.
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

    let mut slow = world.session().await;
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    slow.execute(AssertSqlSafe(format!("PREPARE TRANSACTION '{name}'")))
        .await
        .unwrap();
    draw(&mut fast).await;
    assert_eq!(world.settled().await, 2);
    fast.execute(AssertSqlSafe(format!("ROLLBACK PREPARED '{name}'")))
        .await
        .unwrap();
    assert_eq!(world.positions().await, [1, 2, 4]);
}

/// What the reader learned is lost with it: a new one must not be bolder. Nor one whose connections are
/// ended while it waits. Seen to fail when a sample settles after 20 ms.
#[tokio::test]
async fn horizon_restart() {
    let world = World::new().await;
    let (mut slow, mut fast) = (world.session().await, world.session().await);
    run(&mut slow, "BEGIN").await;
    draw(&mut slow).await;
    draw(&mut fast).await;
    assert_eq!(world.settled().await, 0);

    let ended: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE state = 'idle' AND query LIKE '%' || $1 || '%'",
    )
    .bind(&world.schema)
    .fetch_one(&mut fast)
    .await
    .unwrap();
    assert!(
        ended > 0,
        "the reader's connection is not known by its last query"
    );
    assert_eq!(world.settled_again().await, 0);

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

    assert_eq!(world.positions().await, [2]);
    assert_eq!(restarted.positions().await, [2]);
}
