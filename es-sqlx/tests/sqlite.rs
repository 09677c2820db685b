//! What is true of SQLite alone; the contract itself is in `sqlite_contract.rs`.
#![cfg(feature = "sqlite")]

#[path = "sqlite/append_only.rs"]
mod append_only;
#[path = "sqlite/damage.rs"]
mod damage;
#[path = "sqlite/erasure.rs"]
mod erasure;
#[path = "sqlite/files.rs"]
mod files;
#[path = "sqlite/grouping.rs"]
mod grouping;
#[path = "sqlite/inline.rs"]
mod inline;
#[path = "sqlite/leases.rs"]
mod leases;
#[path = "sqlite/letters.rs"]
mod letters;
#[path = "sqlite/lone.rs"]
mod lone;
#[path = "sqlite/migrations.rs"]
mod migrations;
#[path = "sqlite/projections.rs"]
mod projections;
#[path = "sqlite/reading.rs"]
mod reading;
#[path = "sqlite/transactions.rs"]
mod transactions;
#[path = "sqlite/visits.rs"]
mod visits;
#[path = "sqlite/waiting.rs"]
mod waiting;
#[path = "sqlite/writers.rs"]
mod writers;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use es_core::{
    Batch, EventStore, ExpectedVersion, Json, NewEvent, Node, ProjectionId, ProjectionStore,
    RecordedEvent, Shard, Standing, StreamId, Version,
};
use es_sqlx::{SqliteStore, sqlite::SqliteBatch};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;

/// A folder for one test, and the file in it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    (folder, file)
}

async fn open(file: &Path) -> SqliteStore {
    SqliteStore::open(file.to_str().unwrap()).await.unwrap()
}

/// A connection that knows nothing of the store, as a person with the `sqlite3` tool has it.
async fn stranger(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn sql(connection: &mut SqliteConnection, statement: &'static str) -> sqlx::Result<()> {
    sqlx::raw_sql(statement).execute(connection).await.map(drop)
}

fn lamp() -> StreamId {
    StreamId::new("lamp", Uuid::now_v7())
}

fn switched() -> NewEvent {
    NewEvent::new(
        "switched",
        Json::parse(r#"{"secret":"swordfish"}"#).unwrap(),
    )
}

fn several(count: usize) -> Vec<NewEvent> {
    (0..count).map(|_| switched()).collect()
}

async fn add(store: &SqliteStore, stream: &StreamId, count: usize) {
    let events = several(count);
    store
        .append(stream, ExpectedVersion::Any, &events)
        .await
        .unwrap();
}

async fn read(store: &SqliteStore, stream: &StreamId) -> Vec<RecordedEvent> {
    store
        .read_stream(stream, Version::EMPTY, 10_000)
        .await
        .unwrap()
}

/// A transaction as a daemon has it that starts a projection.
async fn set_up(store: &SqliteStore, projection: &ProjectionId) -> SqliteBatch {
    let (batch, _) = store.begin_change(projection).await.unwrap();
    batch
}

/// Makes a projection of one shard known.
async fn register(store: &SqliteStore, projection: &ProjectionId, event_types: &[&str]) -> Shard {
    let mut batch = set_up(store, projection).await;
    let shard = Shard::new(projection.clone(), 0);
    let standing = Standing::new(shard.clone(), 1, event_types);
    batch.put_standings(&[standing]).await.unwrap();
    batch.commit().await.unwrap();
    shard
}

/// A node that is alive for so long.
async fn alive(store: &SqliteStore, ttl: Duration) -> Node {
    let id = Uuid::now_v7();
    let node = Node {
        id,
        name: format!("node {id}"),
        runs: Vec::new(),
    };
    store.beat(&node, ttl).await.unwrap();
    node
}
