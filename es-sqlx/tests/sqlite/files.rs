//! Which files are opened, which are refused, and that a refused file stays as it is.

use std::{fs, path::Path};

use es_core::{Capabilities, Chain, EventStore, Position, SnapshotStore, Version};
use es_sqlx::{
    OpenError, SqliteStore,
    sqlite::{SqliteOptions, Synchronous},
};
use sqlx::Connection;

use crate::{add, folder, lamp, open, read, sql, stranger};

#[tokio::test]
async fn reopening_keeps_everything() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 3).await;
    let snapshot = es_core::Snapshot {
        snapshot_id: uuid::Uuid::now_v7(),
        aggregate_id: stream.aggregate_id,
        aggregate_type: stream.aggregate_type.clone(),
        version: Version::new(2),
        created_at: read(&store, &stream).await[1].created_at,
        state: es_core::Json::parse(r#"{"on": true}"#).unwrap(),
        fingerprint: Some("cafe".to_owned()),
    };
    store.save_snapshot(&snapshot).await.unwrap();
    let before = read(&store, &stream).await;
    store.close().await;

    let store = SqliteStore::open(format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    assert_eq!(read(&store, &stream).await, before);
    assert_eq!(
        store.load_snapshot(&stream, Version::MAX).await.unwrap(),
        Some(snapshot)
    );
    assert_eq!(store.settled().await.unwrap(), Position::new(3));
    add(&store, &stream, 1).await;
    assert_eq!(read(&store, &stream).await[3].position, Position::new(4));
}

#[tokio::test]
async fn a_file_is_durable_and_shared_and_memory_is_neither() {
    let (_folder, file) = folder();
    let in_file = open(&file).await;
    let in_memory = SqliteStore::in_memory().await.unwrap();
    assert_eq!(in_file.capabilities(), Capabilities::new(true, true, true));
    assert_eq!(
        in_memory.capabilities(),
        Capabilities::new(false, true, false)
    );
}

#[tokio::test]
async fn stores_in_memory_are_private() {
    let (one, two) = (
        SqliteStore::in_memory().await.unwrap(),
        SqliteStore::in_memory().await.unwrap(),
    );
    let stream = lamp();
    add(&one, &stream, 1).await;
    assert_eq!(read(&two, &stream).await, []);
}

#[tokio::test]
async fn commits_wait_for_the_disk_unless_told_otherwise() {
    for (synchronous, number) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let (_folder, file) = folder();
        let options = SqliteOptions::new(file.to_str().unwrap()).synchronous(synchronous);
        let store = options.open().await.unwrap();
        let found: (i64,) = sqlx::query_as("PRAGMA synchronous")
            .fetch_one(store.pool())
            .await
            .unwrap();
        let mode: (String,) = sqlx::query_as("PRAGMA journal_mode")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!((found.0, mode.0.as_str()), (number, "wal"));
    }
}

#[tokio::test]
async fn tables_of_an_application_may_live_beside_ours() {
    let (_folder, file) = folder();
    let mut db = stranger(&file).await;
    sql(
        &mut db,
        "CREATE TABLE customers (id INTEGER); INSERT INTO customers VALUES (7)",
    )
    .await
    .unwrap();
    db.close().await.unwrap();

    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 1).await;
    let id: i64 = sqlx::query_scalar("SELECT id FROM customers")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(id, 7);
}

/// `.dump` forgets the application id.
#[tokio::test]
async fn a_restored_dump_is_still_ours() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 2).await;
    store.close().await;
    let mut db = stranger(&file).await;
    sql(&mut db, "PRAGMA application_id = 0").await.unwrap();
    db.close().await.unwrap();

    let store = open(&file).await;
    assert_eq!(read(&store, &stream).await.len(), 2);
}

/// Often, because the moment in which one looks while another migrates is short.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_tasks_migrate_one_new_file() {
    for _ in 0..20 {
        let (_folder, file) = folder();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let file = file.clone();
                tokio::spawn(async move {
                    let store = open(&file).await;
                    store.migrate().await.unwrap();
                    add(&store, &lamp(), 1).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let store = open(&file).await;
        let applied: Vec<(i64, String)> = sqlx::query_as("SELECT version, name FROM es_migrations")
            .fetch_all(store.pool())
            .await
            .unwrap();
        let applied: Vec<_> = applied
            .iter()
            .map(|(version, name)| (*version, &**name))
            .collect();
        assert_eq!(applied, [(1, "events"), (2, "erasure"), (3, "projections")]);
        assert_eq!(store.settled().await.unwrap(), Position::new(8));
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let cases = [
        (
            "PRAGMA application_id = 77; CREATE TABLE t (a)",
            "its header names another program",
        ),
        (
            "CREATE TABLE events (a)",
            "it has a table named `events` that we did not make",
        ),
        (
            "CREATE VIEW snapshots AS SELECT 1",
            "it has a table named `snapshots` that we did not make",
        ),
        (
            "CREATE TABLE es_migrations (id)",
            "it has a table named `es_migrations` that we did not make",
        ),
    ];
    for (statements, problem) in cases {
        let (_folder, file) = folder();
        let mut db = stranger(&file).await;
        sql(&mut db, statements).await.unwrap();
        db.close().await.unwrap();

        let error = refused(&file).await;
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "the database at {} is not an event store of ours: {problem}; \
                 choose another database, or another schema",
                file.display()
            )
        );
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    for content in ["hello".repeat(1000), "hi".to_owned()] {
        let (_folder, file) = folder();
        fs::write(&file, content).unwrap();
        let error = refused(&file).await;
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
        assert!(
            error.to_string().contains("it is not a SQLite file"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let (_folder, file) = folder();
    open(&file).await.close().await;
    let mut db = stranger(&file).await;
    sql(
        &mut db,
        "INSERT INTO es_migrations (version, name, applied_at) VALUES (9, 'later', '')",
    )
    .await
    .unwrap();
    db.close().await.unwrap();

    let error = refused(&file).await;
    assert_eq!(
        error.to_string(),
        format!(
            "the database at {} has migration 9, this program knows up to 3; deploy the newer program",
            file.display()
        )
    );
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_told() {
    let (folder, file) = folder();
    fs::write(&file, "").unwrap();
    for path in [
        folder.path().join("missing/events.db"),
        file.join("events.db"),
    ] {
        let error = SqliteStore::open(path.to_str().unwrap()).await.unwrap_err();
        assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
        assert!(!error.is_retryable());
        assert_eq!(
            error.to_string(),
            format!(
                "could not open the SQLite database at {}; check that it runs, exists and may be written",
                path.display()
            )
        );
        assert!(
            Chain(&error)
                .to_string()
                .contains("unable to open database file")
        );
    }
}

#[tokio::test]
async fn an_address_of_something_else_is_refused_without_its_password() {
    let (folder, _) = folder();
    let name = folder.path().to_str().unwrap();
    for (address, problem) in [
        (
            "postgres://me:swordfish@host/game",
            "`postgres://` is another kind of database",
        ),
        (
            "http://me:swordfish@host/",
            "`http://` is another kind of database",
        ),
        (
            "file:swordfish?mode=memory",
            "`file:` addresses are not understood",
        ),
        (
            "sqlite:game.db?mode=swordfish",
            "parameters are not understood",
        ),
        ("", "the path is empty"),
        ("sqlite://", "the path is empty"),
        (name, "is a folder"),
    ] {
        let error = SqliteStore::open(address).await.unwrap_err();
        assert!(
            matches!(error, OpenError::InvalidAddress { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.starts_with("not a valid SQLite address: "), "{text}");
        assert!(text.contains(problem), "{text}");
        assert!(!format!("{error:?}").contains("swordfish"), "{error:?}");
    }
}

/// Opens a file that must be refused, and stays as it is.
async fn refused(file: &Path) -> OpenError {
    let before = fs::read(file).unwrap();
    let error = SqliteStore::open(file.to_str().unwrap()).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(fs::read(file).unwrap() == before, "the file has changed");
    // Looking at a file in WAL mode makes SQLite put an empty log and its index beside it.
    let log = file.with_file_name("events.db-wal");
    assert!(
        fs::metadata(log).map_or(0, |log| log.len()) == 0,
        "something was written"
    );
    error
}
