//! Projections that run inside the append.

use std::path::Path;

use es_core::{
    AppendError, BoxError, CheckpointError, Event, EventStore, ExpectedVersion, Project,
    Projection, ProjectionId, ProjectionStore, Recorded, Shard, StreamErased,
};
use es_sqlx::{OpenError, SqliteStore, sqlite::SqliteOptions};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{add, folder, lamp, open, read, several, sql, stranger, switched};

#[derive(Event, Serialize, Deserialize)]
struct Switched {
    secret: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Dimmed {}

/// One row for each event.
#[derive(Projection)]
#[projection(name = "switches", version = 1, events(Switched))]
struct Switches;

#[derive(Projection)]
#[projection(name = "switches", version = 2, events(Switched))]
struct SwitchesAnew;

#[derive(Projection)]
#[projection(name = "switches", version = 1, events(Switched, Dimmed))]
struct SwitchesOtherwise;

/// Refuses the secret "no".
async fn write(
    db: &mut SqliteConnection,
    event: &Switched,
    position: u64,
    version: u32,
) -> Result<(), BoxError> {
    sqlx::query("INSERT INTO switches VALUES (?1, ?2)")
        .bind(i64::try_from(position)?)
        .bind(version)
        .execute(&mut *db)
        .await?;
    match event.secret.as_str() {
        "no" => Err("the projection does not want it".into()),
        "panic" => panic!("the projection has a bug"),
        "busy" => Err(sqlx::Error::PoolTimedOut.into()),
        _ => Ok(()),
    }
}

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS switches (position INTEGER PRIMARY KEY, version INTEGER)";

impl Project<SqliteConnection> for Switches {
    async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
        Ok(sql(db, TABLE).await?)
    }

    async fn project(
        &self,
        db: &mut SqliteConnection,
        events: &[Recorded<SwitchesEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            let SwitchesEvent::Switched(event) = event;
            write(db, event, record.position.get(), record.event_version.get()).await?;
        }
        Ok(())
    }
}

impl Project<SqliteConnection> for SwitchesAnew {
    async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
        sql(db, "DROP TABLE IF EXISTS switches").await?;
        Ok(sql(db, TABLE).await?)
    }

    async fn project(
        &self,
        db: &mut SqliteConnection,
        events: &[Recorded<SwitchesAnewEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            let SwitchesAnewEvent::Switched(event) = event;
            write(db, event, record.position.get(), record.event_version.get()).await?;
        }
        Ok(())
    }
}

impl Project<SqliteConnection> for SwitchesOtherwise {
    async fn project(
        &self,
        _: &mut SqliteConnection,
        _: &[Recorded<SwitchesOtherwiseEvent>],
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

fn options(file: &Path) -> SqliteOptions {
    SqliteOptions::new(file.to_str().unwrap())
}

/// Position and version of each event that was projected.
async fn model(store: &SqliteStore) -> Vec<(i64, i64)> {
    sqlx::query_as("SELECT position, version FROM switches ORDER BY position")
        .fetch_all(store.pool())
        .await
        .unwrap()
}

async fn log(store: &SqliteStore) -> Vec<(i64, i64)> {
    sqlx::query_as(
        "SELECT position, event_version FROM events WHERE event_type = 'switched' ORDER BY position",
    )
    .fetch_all(store.pool())
    .await
    .unwrap()
}

fn saying(secret: &str) -> es_core::NewEvent {
    es_core::NewEvent::encode(&Switched {
        secret: secret.to_owned(),
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_read_model_is_never_behind_and_a_failure_undoes_only_its_own_append() {
    let (_folder, file) = folder();
    let store = options(&file).inline(Switches).open().await.unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                let events = match index % 4 {
                    0 => vec![switched(), saying("no")],
                    1 => vec![switched(), saying("busy")],
                    _ => vec![switched(), es_core::NewEvent::encode(&Dimmed {}).unwrap()],
                };
                (
                    index,
                    store
                        .append(&lamp(), ExpectedVersion::NoStream, &events)
                        .await,
                )
            })
        })
        .collect();
    for task in tasks {
        let (index, answer) = task.await.unwrap();
        match index % 4 {
            kind @ (0 | 1) => {
                let error = answer.unwrap_err();
                assert_eq!(error.is_retryable(), kind == 1, "{error:?}");
                assert!(
                    matches!(&error, AppendError::Projection { projection, .. }
                        if *projection == ProjectionId::of::<Switches>()),
                    "{error:?}"
                );
            }
            _ => assert_eq!(answer.unwrap().version.get(), 2),
        }
    }
    assert_eq!(
        store.settled().await.unwrap().get(),
        40,
        "no position is lost"
    );
    assert_eq!(log(&store).await.len(), 20);
    assert_eq!(model(&store).await, log(&store).await);
}

/// Seen to fail when the connection went back to the pool inside the transaction, in a file and in memory.
#[tokio::test]
async fn one_that_panics_leaves_no_transaction_open() {
    let (_folder, file) = folder();
    for options in [options(&file), SqliteOptions::new(":memory:")] {
        let store = options.inline(Switches).open().await.unwrap();
        add(&store, &lamp(), 1).await;
        let events = [switched(), saying("panic")];
        let answer = store.append(&lamp(), ExpectedVersion::Any, &events).await;
        assert!(
            matches!(answer, Err(AppendError::Backend { .. })),
            "{answer:?}"
        );
        assert_eq!(store.settled().await.unwrap().get(), 1);
        add(&store, &lamp(), 1).await;
        let append = es_core::Append::new(lamp(), ExpectedVersion::Any, events.to_vec());
        let answer = store.append_all(&[append]).await;
        assert!(
            matches!(answer, Err(AppendError::Backend { .. })),
            "{answer:?}"
        );
        assert_eq!(store.settled().await.unwrap().get(), 2);
        add(&store, &lamp(), 1).await;
        assert_eq!(model(&store).await, [(1, 1), (2, 1), (3, 1)]);
    }
}

#[tokio::test]
async fn every_way_to_append_runs_it() {
    let (_folder, file) = folder();
    let (store, one, two) = (
        options(&file).inline(Switches).open().await.unwrap(),
        lamp(),
        lamp(),
    );
    let appends = [&one, &two]
        .map(|stream| es_core::Append::new(stream.clone(), ExpectedVersion::NoStream, several(2)));
    store.append_all(&appends).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction
        .append(&one, ExpectedVersion::Any, &several(1))
        .await
        .unwrap();
    let refused = transaction
        .append(&one, ExpectedVersion::Any, &[switched(), saying("no")])
        .await;
    assert!(
        matches!(refused, Err(AppendError::Projection { .. })),
        "{refused:?}"
    );
    transaction
        .append(&two, ExpectedVersion::Any, &several(1))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let mut db = stranger(&file).await;
    sql(&mut db, "BEGIN IMMEDIATE").await.unwrap();
    store
        .append_in(&mut db, &one, ExpectedVersion::Any, &several(1))
        .await
        .unwrap();
    sql(&mut db, "COMMIT").await.unwrap();
    store
        .erase(&two, &StreamErased::new("asked to", "me"))
        .await
        .unwrap();

    assert_eq!(model(&store).await.len(), 7);
    assert_eq!(model(&store).await, log(&store).await);
    let failing = es_core::Append::new(lamp(), ExpectedVersion::Any, vec![saying("no")]);
    let sound = es_core::Append::new(lamp(), ExpectedVersion::Any, several(1));
    store.append_all(&[sound, failing]).await.unwrap_err();
    assert_eq!(model(&store).await, log(&store).await);
}

#[tokio::test]
async fn a_new_one_is_filled_from_the_log_and_a_newer_version_takes_over() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    add(&store, &lamp(), 2_500).await;
    store.close().await;

    let old = options(&file).inline(Switches).open().await.unwrap();
    assert_eq!(model(&old).await.len(), 2_500);
    add(&old, &lamp(), 1).await;
    let new = options(&file).inline(SwitchesAnew).open().await.unwrap();
    add(&new, &lamp(), 1).await;
    assert_eq!(model(&new).await, log(&new).await);

    let refused = old
        .append(&lamp(), ExpectedVersion::Any, &several(1))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains(
            "projection `switches v2` runs inside the appends to this database; declare it with \
             `SqliteOptions::inline`, or end it with `SqliteStore::retire_inline`"
        ),
        "{refused}"
    );
    let checkpoint = new
        .checkpoint(&ProjectionId::new("switches", 2))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(checkpoint, new.settled().await.unwrap());
}

#[tokio::test]
async fn a_store_that_does_not_declare_it_may_not_append_until_it_is_retired() {
    let (_folder, file) = folder();
    let declared = options(&file).inline(Switches).open().await.unwrap();
    add(&declared, &lamp(), 1).await;
    let without = open(&file).await;

    let refused = without
        .append(&lamp(), ExpectedVersion::Any, &several(1))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, AppendError::Invalid { reason, .. } if reason.contains("switches v1"))
    );
    without
        .append_all(&[es_core::Append::new(
            lamp(),
            ExpectedVersion::Any,
            several(1),
        )])
        .await
        .unwrap_err();
    assert!(without.retire_inline("switches").await.unwrap());
    assert!(!without.retire_inline("switches").await.unwrap());
    add(&without, &lamp(), 2).await;
    // Nor does it run any more where it is declared: it would miss what others append.
    add(&declared, &lamp(), 1).await;
    assert_eq!(model(&without).await.len(), 1);

    let again = options(&file).inline(Switches).open().await.unwrap();
    assert_eq!(model(&again).await, log(&again).await);
}

#[tokio::test]
async fn a_declaration_that_does_not_fit_is_refused() {
    let (_folder, file) = folder();
    let store = options(&file).inline(Switches).open().await.unwrap();
    let leased = store
        .acquire(
            &Shard::new(ProjectionId::of::<Switches>(), 0),
            &["switched"],
            Uuid::now_v7(),
        )
        .await;
    assert!(
        matches!(&leased, Err(CheckpointError::Inline { .. })),
        "{leased:?}"
    );
    let other = options(&file)
        .inline(SwitchesOtherwise)
        .open()
        .await
        .unwrap_err();
    assert!(
        matches!(&other, OpenError::Inline { problem, .. } if problem.contains("raise its version"))
    );
    let twice = options(&file)
        .inline(Switches)
        .inline(SwitchesAnew)
        .open()
        .await
        .unwrap_err();
    assert!(matches!(&twice, OpenError::Inline { problem, .. } if problem.contains("twice")));
    let (_other_folder, unset) = folder();
    add(&open(&unset).await, &lamp(), 1).await;
    let no_table = options(&unset).inline(Broken).open().await.unwrap_err();
    assert!(no_table.to_string().contains("no such table"), "{no_table}");
    // Nothing was kept of it.
    add(&open(&unset).await, &lamp(), 1).await;
    assert_eq!(read(&store, &lamp()).await, []);
}

/// Has no table.
#[derive(Projection)]
#[projection(name = "broken", version = 1, events(Switched))]
struct Broken;

impl Project<SqliteConnection> for Broken {
    async fn project(
        &self,
        db: &mut SqliteConnection,
        _: &[Recorded<BrokenEvent>],
    ) -> Result<(), BoxError> {
        Ok(sql(db, "INSERT INTO nowhere VALUES (1)").await?)
    }
}
