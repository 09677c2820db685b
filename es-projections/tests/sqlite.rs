//! The daemon on SQLite: the read model is a table beside the log.

use std::time::Duration;

use es_core::{
    Appended, BoxError, Event, EventStore, ExpectedVersion, NewEvent, Position, Project,
    Projection, Recorded, StreamId,
};
use es_projections::{Daemon, DaemonHandle, FailureKind, OnFailure, Options, Settings, State};
use es_sqlx::SqliteStore;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

#[derive(Event, Serialize, Deserialize)]
struct Noted {
    number: u32,
}

/// Keeps the last version of each aggregate and refuses any but the next; the table refuses a
/// number above 100.
#[derive(Projection)]
#[projection(name = "oracle", version = 1, events(Noted))]
struct Oracle;

impl Project<SqliteConnection> for Oracle {
    async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS oracle (aggregate_id BLOB PRIMARY KEY, version INTEGER NOT NULL,
             number INTEGER NOT NULL CHECK (number <= 100))",
        )
        .execute(db)
        .await?;
        Ok(())
    }

    async fn project(
        &self,
        db: &mut SqliteConnection,
        events: &[Recorded<OracleEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            let OracleEvent::Noted(noted) = event;
            let moved = sqlx::query(
                "INSERT INTO oracle VALUES (?1, ?2, ?3) ON CONFLICT (aggregate_id)
                 DO UPDATE SET version = excluded.version, number = excluded.number
                 WHERE oracle.version = excluded.version - 1",
            )
            .bind(record.aggregate_id)
            .bind(record.event_version.get())
            .bind(noted.number)
            .execute(&mut *db)
            .await?;
            if moved.rows_affected() != 1 {
                return Err("lost, twice or inverted".into());
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn catches_up_follows_and_restarts() {
    let log = Log::new().await;
    let stream = stream();
    note(&log.store, &stream, 0..25).await;

    for round in 0..3 {
        let daemon = log
            .daemon(settings().with_options(Options::default().with_batch_events(10)))
            .await;
        let appended = note(&log.store, &stream, [round]).await;
        daemon
            .wait_until("oracle", appended.position)
            .await
            .unwrap();
        assert_eq!(log.versions().await, 26 + i64::from(round));
        daemon.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_apply_each_event_once() {
    let log = Log::new().await;
    let other = log.again().await;
    let first = log
        .daemon(settings().with_options(Options::default().with_batch_events(3)))
        .await;
    let second = other
        .daemon(settings().with_options(Options::default().with_batch_events(3)))
        .await;

    let streams = [stream(), stream(), stream()];
    let mut last = Position::START;
    for number in 0..20 {
        for stream in &streams {
            last = note(&log.store, stream, [number]).await.position;
        }
    }
    first.wait_until("oracle", last).await.unwrap();
    second.wait_until("oracle", last).await.unwrap();
    assert_eq!(log.versions().await, 60);

    first.shutdown().await.unwrap();
    let after = note(&log.store, &streams[0], [20]).await;
    second.wait_until("oracle", after.position).await.unwrap();
    assert_eq!(log.versions().await, 61);
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_owner_that_lost_its_lease_stops_and_comes_back() {
    let log = Log::new().await;
    let stream = stream();
    let daemon = log.daemon(settings()).await;
    let appended = note(&log.store, &stream, 0..3).await;
    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap();

    let thief = "INSERT INTO projection_nodes (node, name, runs, alive_until)
        VALUES (zeroblob(16), 'thief', '[]', 1e15);
        UPDATE projection_shards SET epoch = epoch + 1, owner = zeroblob(16)";
    log.execute(thief).await;
    let appended = note(&log.store, &stream, 3..6).await;
    while daemon.status("oracle").unwrap().state != State::StandingBy {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        log.versions().await,
        3,
        "nothing is written without the lease"
    );

    log.execute("DELETE FROM projection_nodes WHERE node = zeroblob(16)")
        .await;
    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap();
    assert_eq!(log.versions().await, 6);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_refused_row_stops_the_projection_at_its_event() {
    let log = Log::new().await;
    let appended = note(&log.store, &stream(), [1, 2, 101, 3]).await;
    let daemon = log.daemon(settings()).await;

    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();

    let failure = daemon.status("oracle").unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Handler);
    assert_eq!(failure.position, Some(Position::new(3)));
    assert!(
        failure.message.contains("CHECK constraint failed"),
        "{failure}"
    );
    assert_eq!(log.versions().await, 2);
}

#[tokio::test]
async fn a_checkpoint_of_another_log_is_refused() {
    let log = Log::new().await;
    let stream = stream();
    let daemon = log.daemon(settings()).await;
    let appended = note(&log.store, &stream, 0..3).await;
    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap();
    daemon.shutdown().await.unwrap();
    log.execute("UPDATE projection_shards SET anchor_event_id = zeroblob(16)")
        .await;

    let daemon = log.daemon(settings()).await;
    let appended = note(&log.store, &stream, [3]).await;
    daemon
        .wait_until("oracle", appended.position)
        .await
        .unwrap_err();

    let failure = daemon.status("oracle").unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Diverged, "{failure}");
    assert_eq!(log.versions().await, 3);
}

/// A log in a file.
struct Log {
    store: SqliteStore,
    path: String,
    _folder: Option<TempDir>,
}

impl Log {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db").to_str().unwrap().to_owned();
        Self {
            store: SqliteStore::open(path.clone()).await.unwrap(),
            path,
            _folder: Some(folder),
        }
    }

    /// The same file through connections of its own, as another process would.
    async fn again(&self) -> Self {
        Self {
            store: SqliteStore::open(self.path.clone()).await.unwrap(),
            path: self.path.clone(),
            _folder: None,
        }
    }

    async fn daemon(&self, settings: Settings) -> DaemonHandle<SqliteStore> {
        let daemon = Daemon::new(self.store.clone()).settings(settings);
        daemon.run(Oracle).start().await.unwrap()
    }

    /// How many events the read model has seen.
    async fn versions(&self) -> i64 {
        sqlx::query_scalar("SELECT coalesce(sum(version), 0) FROM oracle")
            .fetch_one(self.store.pool())
            .await
            .unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        let mut db = SqliteConnection::connect(&self.path).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }
}

fn settings() -> Settings {
    Settings::default()
        .with_backoff(Duration::from_millis(1), Duration::from_millis(20))
        .with_lease_ttl(Duration::from_millis(400))
}

fn stream() -> StreamId {
    StreamId::new("note", Uuid::now_v7())
}

async fn note(
    store: &SqliteStore,
    stream: &StreamId,
    numbers: impl IntoIterator<Item = u32>,
) -> Appended {
    let events: Vec<_> = numbers
        .into_iter()
        .map(|number| NewEvent::encode(&Noted { number }).unwrap())
        .collect();
    store
        .append(stream, ExpectedVersion::Any, &events)
        .await
        .unwrap()
}

/// A constraint that is checked at the commit: there is no room 13.
#[derive(Projection)]
#[projection(name = "guests", version = 1, events(Noted))]
struct Guests;

impl Project<SqliteConnection> for Guests {
    async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
        let tables = "CREATE TABLE IF NOT EXISTS rooms (id INTEGER PRIMARY KEY);
            CREATE TABLE IF NOT EXISTS guests
                (room INTEGER REFERENCES rooms DEFERRABLE INITIALLY DEFERRED);
            INSERT OR IGNORE INTO rooms VALUES (1), (2)";
        sqlx::raw_sql(tables).execute(db).await?;
        Ok(())
    }

    async fn project(
        &self,
        db: &mut SqliteConnection,
        events: &[Recorded<GuestsEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, .. } in events {
            let GuestsEvent::Noted(noted) = event;
            let enter = sqlx::query("INSERT INTO guests VALUES (?1)").bind(noted.number);
            enter.execute(&mut *db).await?;
        }
        Ok(())
    }
}

/// The database answers, so that it is the event's fault. Seen to be tried for ever when every error of a
/// commit counts as the store's.
#[tokio::test]
async fn an_event_that_fails_at_the_commit_is_parked() {
    let log = Log::new().await;
    note(&log.store, &stream(), [1]).await;
    note(&log.store, &stream(), [13]).await;
    let last = note(&log.store, &stream(), [2]).await;
    let options = Options::default()
        .on_failure(OnFailure::Park)
        .with_handler_retries(1);
    let daemon = Daemon::new(log.store.clone()).settings(settings());
    let daemon = daemon.run_with(Guests, options).start().await.unwrap();

    daemon.wait_until("guests", last.position).await.unwrap();

    let guests: Vec<i64> = sqlx::query_scalar("SELECT room FROM guests ORDER BY room")
        .fetch_all(log.store.pool())
        .await
        .unwrap();
    assert_eq!(guests, [1, 2]);
    assert_eq!(daemon.status("guests").unwrap().parked, 1);
    daemon.shutdown().await.unwrap();
}
