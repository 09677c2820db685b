//! The same promises on SQLite files: parking, pauses, divisions and new versions.

mod support;

use std::time::Duration;

use es_core::{
    BoxError, EventStore, Letters, Position, Project, Projection, ProjectionId, ProjectionStore,
    Recorded,
};
use es_projections::{
    CommandError, Daemon, DaemonHandle, OnFailure, Options, Projections, Settings, State, WaitError,
};
use es_sqlx::SqliteStore;
use sqlx::SqliteConnection;
use support::{Cues, Noted, PATIENCE, damaged, note, reach, stream, until};
use tempfile::TempDir;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS pages (diary INTEGER, id BLOB, version INTEGER, PRIMARY KEY (diary, id));
    CREATE TABLE IF NOT EXISTS outbox (id BLOB, version INTEGER, PRIMARY KEY (id, version));
    CREATE TABLE IF NOT EXISTS served (one INTEGER PRIMARY KEY, diary INTEGER)";

/// The last version of each aggregate, refusing any but the next; an outbox that refuses what it has.
macro_rules! diary {
    ($diary:ident, $event:ident, $version:literal) => {
        #[derive(Projection, Default)]
        #[projection(name = "diary", version = $version, events(Noted))]
        struct $diary(Cues);

        impl Project<SqliteConnection> for $diary {
            async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
                sqlx::raw_sql(TABLES).execute(db).await?;
                Ok(())
            }

            async fn project(
                &self,
                db: &mut SqliteConnection,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                for Recorded { record, .. } in events {
                    let moved = "INSERT INTO pages VALUES (?1, ?2, ?3) ON CONFLICT (diary, id)
                        DO UPDATE SET version = excluded.version
                        WHERE pages.version = excluded.version - 1";
                    let moved = sqlx::query(moved)
                        .bind($version)
                        .bind(record.aggregate_id)
                        .bind(record.event_version.get());
                    if moved.execute(&mut *db).await?.rows_affected() != 1 {
                        return Err("lost, twice or inverted".into());
                    }
                }
                let numbers = events.iter().map(|event| match &event.event {
                    $event::Noted(noted) => noted.number,
                });
                self.0.obey(numbers).await
            }

            async fn emit(
                &self,
                db: &mut SqliteConnection,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                for Recorded { record, .. } in events {
                    sqlx::query("INSERT INTO outbox VALUES (?1, ?2)")
                        .bind(record.aggregate_id)
                        .bind(record.event_version.get())
                        .execute(&mut *db)
                        .await?;
                }
                Ok(())
            }

            async fn activate(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
                sqlx::query("INSERT OR REPLACE INTO served VALUES (1, ?1)")
                    .bind($version)
                    .execute(db)
                    .await?;
                Ok(())
            }

            async fn clear(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
                sqlx::query("DELETE FROM pages WHERE diary = ?1")
                    .bind($version)
                    .execute(db)
                    .await?;
                Ok(())
            }
        }
    };
}

diary!(Diary, DiaryEvent, 1);
diary!(Diary2, Diary2Event, 2);

struct File {
    store: SqliteStore,
    _folder: TempDir,
}

impl File {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        Self {
            store: SqliteStore::open(path.to_str().unwrap()).await.unwrap(),
            _folder: folder,
        }
    }

    async fn start(&self, cues: &Cues, options: Options) -> DaemonHandle<SqliteStore> {
        let daemon = Daemon::new(self.store.clone()).settings(settings());
        let daemon = daemon.run_with(Diary(cues.clone()), options);
        daemon.start().await.unwrap()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let number = sqlx::query_scalar(sql).fetch_one(self.store.pool());
        number.await.unwrap()
    }

    /// How many events a version's read model holds, and how many effects there were.
    async fn counts(&self, diary: u32) -> (i64, i64) {
        let pages = match diary {
            1 => "SELECT coalesce(sum(version), 0) FROM pages WHERE diary = 1",
            _ => "SELECT coalesce(sum(version), 0) FROM pages WHERE diary = 2",
        };
        let effects = self.number("SELECT count(*) FROM outbox").await;
        (self.number(pages).await, effects)
    }

    async fn letters(&self) -> usize {
        let letters = Letters::of(ProjectionId::new("diary", 1));
        self.store.dead_letters(&letters, 100).await.unwrap().len()
    }
}

fn settings() -> Settings {
    Settings::default()
        .with_backoff(Duration::from_millis(1), Duration::from_millis(20))
        .with_lease_ttl(Duration::from_millis(400))
}

#[tokio::test]
async fn parked_events_survive_a_restart_and_come_back_in_order() {
    let (file, cues) = (File::new().await, Cues::default());
    let options = Options::default()
        .with_handler_retries(0)
        .on_failure(OnFailure::Park);
    let (bad, good) = (stream(), stream());
    cues.fail_at(2);
    note(&file.store, &bad, [1, 2, 3]).await;
    damaged(&file.store, &stream()).await;
    let last = note(&file.store, &good, [1]).await;
    let daemon = file.start(&cues, options.clone()).await;
    reach(&daemon, "diary", last.position).await;
    assert_eq!(file.letters().await, 3);
    assert_eq!(daemon.status("diary").unwrap().parked, 2);
    daemon.shutdown().await.unwrap();

    let daemon = file.start(&cues, options).await;
    let last = note(&file.store, &bad, [4]).await;
    reach(&daemon, "diary", last.position).await;
    assert_eq!((file.counts(1).await, file.letters().await), ((2, 2), 4));
    cues.repair();
    let people = daemon.projections();
    assert_eq!(people.retry("diary", None).await.unwrap(), 4);
    until("only the unreadable one is left", async || {
        file.letters().await == 1
    })
    .await;
    assert_eq!(file.counts(1).await, (5, 5));
    let last = note(&file.store, &bad, [5]).await;
    reach(&daemon, "diary", last.position).await;
    assert_eq!(file.counts(1).await, (6, 6));
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pause_a_reset_and_a_resumption_leave_everything_once() {
    let (file, cues) = (File::new().await, Cues::default());
    let daemon = file.start(&cues, Options::default()).await;
    let stream = stream();
    let last = note(&file.store, &stream, 0..5).await;
    reach(&daemon, "diary", last.position).await;
    let people = Projections::new(file.store.clone());
    let busy = people.reset(&Diary::default()).await;
    assert!(matches!(busy, Err(CommandError::Busy { .. })), "{busy:?}");
    people.pause("diary").await.unwrap();
    let last = note(&file.store, &stream, 5..8).await;
    let waited = daemon
        .wait_until_within("diary", last.position, PATIENCE)
        .await;
    assert!(
        matches!(&waited, Err(WaitError::NotRunning { state, .. }) if *state == State::Paused),
        "{waited:?}"
    );
    people.reset(&Diary::default()).await.unwrap();
    assert_eq!(file.counts(1).await, (0, 5));
    people.resume("diary").await.unwrap();
    reach(&daemon, "diary", last.position).await;
    assert_eq!(file.counts(1).await, (8, 8));
    daemon.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_division_while_events_flow_keeps_each_aggregate_in_order() {
    let (file, cues) = (File::new().await, Cues::default());
    let options = Options::default().with_batch_events(5);
    let daemon = file.start(&cues, options).await;
    let streams = [stream(), stream(), stream(), stream()];
    let mut last = Position::START;
    for shards in [4, 3, 1] {
        for number in 0..6 {
            for stream in &streams {
                last = note(&file.store, stream, [number]).await.position;
            }
        }
        let divided = async || match daemon.projections().divide("diary", shards).await {
            Ok(()) => true,
            Err(error) if error.is_retryable() => false,
            Err(error) => panic!("{error}"),
        };
        until("it is divided", divided).await;
    }
    let reached = daemon.projections().reached("diary", last, PATIENCE);
    assert!(reached.await.unwrap());
    assert_eq!(file.counts(1).await, (72, 72));
    daemon.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_over_with_each_effect_once() {
    let (file, cues) = (File::new().await, Cues::default());
    let old = file.start(&cues, Options::default()).await;
    let stream = stream();
    let last = note(&file.store, &stream, 0..30).await;
    reach(&old, "diary", last.position).await;
    let few = Options::default().with_batch_events(4);
    let new = Daemon::new(file.store.clone()).settings(settings());
    let new = new
        .run_with(Diary(cues.clone()), Options::default())
        .run_with(Diary2(cues.clone()), few);
    let new = new.start().await.unwrap();
    for number in 0..10 {
        let last = note(&file.store, &stream, [number]).await;
        reach(&new, "diary", last.position).await;
    }
    let served = async || {
        file.number("SELECT coalesce(max(diary), 0) FROM served")
            .await
            == 2
    };
    until("the new version is served", served).await;
    old.shutdown().await.unwrap();
    let last = note(&file.store, &stream, [99]).await;
    reach(&new, "diary", last.position).await;
    assert_eq!(file.counts(2).await, (41, 41));
    assert_eq!(file.store.settled().await.unwrap(), last.position);
    new.shutdown().await.unwrap();
}
