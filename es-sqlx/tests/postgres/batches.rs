//! Read models in the same database: one transaction with the checkpoint.

use std::time::Duration;

use es_core::{
    Batch, CheckpointError, Claim, EventStore, ExpectedVersion, Json, NewEvent, Position, Progress,
    ProjectionId, ProjectionStore, Shard, StreamId,
};
use es_sqlx::{
    PgStore,
    postgres::{PgBatch, PgOptions},
};
use sqlx::Executor;
use uuid::Uuid;

use crate::{
    node,
    postgres_server::{fresh_schema, fresh_store, url},
};

fn lamps() -> ProjectionId {
    ProjectionId::new("lamps", 1)
}

/// Three events, an empty read model, and the right to fill it.
async fn ready(store: &PgStore) -> (Claim, Progress) {
    let events: Vec<_> = (0..3)
        .map(|_| NewEvent::new("switched", Json::parse("{}").unwrap()))
        .collect();
    let last = events.last().unwrap().event_id;
    let appended = store
        .append(
            &StreamId::new("lamp", Uuid::now_v7()),
            ExpectedVersion::NoStream,
            &events,
        )
        .await
        .unwrap();
    let shard = node::register(store, &lamps(), &["switched"]).await;
    let (mut set_up, _) = store.begin_change(&lamps()).await.unwrap();
    set_up
        .connection()
        .execute("CREATE TABLE IF NOT EXISTS lamps (n INT)")
        .await
        .unwrap();
    set_up.commit().await.unwrap();
    let claim = acquire(store, &shard).await;
    let progress = Progress {
        position: appended.position,
        anchor: Some((appended.position, last)),
    };
    (claim, progress)
}

async fn acquire(store: &PgStore, shard: &Shard) -> Claim {
    let node = node::start(store).await;
    store.acquire(shard, &["switched"], node).await.unwrap()
}

async fn fill(store: &PgStore, claim: &Claim, to: &Progress) -> PgBatch {
    let mut batch = store.begin_batch(claim, to).await.unwrap();
    batch
        .connection()
        .execute("INSERT INTO lamps VALUES (1)")
        .await
        .unwrap();
    batch
}

async fn state(store: &PgStore) -> (Position, i64) {
    let position = store.checkpoint(&lamps()).await.unwrap().unwrap();
    let count = format!("SELECT count(*) FROM {}.lamps", store.schema());
    let lamps = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .fetch_one(store.pool())
        .await;
    (position, lamps.unwrap())
}

const NOTHING: (Position, i64) = (Position::START, 0);
const DONE: (Position, i64) = (Position::new(3), 1);

#[tokio::test]
async fn checkpoint_and_read_model_move_together() {
    let store = fresh_store().await;
    let (claim, to) = ready(&store).await;

    fill(&store, &claim, &to).await.rollback().await.unwrap();
    assert_eq!(state(&store).await, NOTHING);
    drop(fill(&store, &claim, &to).await);
    assert_eq!(state(&store).await, NOTHING);
    let batch = fill(&store, &claim, &to).await;
    assert_eq!(
        state(&store).await,
        NOTHING,
        "nothing is visible before the commit"
    );
    batch.commit().await.unwrap();
    assert_eq!(state(&store).await, DONE);
}

/// A second runner waits on the row of the first one's open batch, and then finds it moved.
#[tokio::test]
async fn a_fenced_batch_keeps_nothing() {
    let store = fresh_store().await;
    let (asleep, to) = ready(&store).await;
    store.release(&asleep).await.unwrap();
    let awake = acquire(&store, &asleep.shard).await;
    assert_eq!(awake.epoch, asleep.epoch + 1);

    let fenced = store.begin_batch(&asleep, &to).await.map(drop);
    assert!(
        matches!(fenced, Err(CheckpointError::Fenced { .. })),
        "{fenced:?}"
    );
    let open = fill(&store, &awake, &to).await;
    let second = {
        let (store, awake) = (store.clone(), awake.clone());
        tokio::spawn(async move { store.begin_batch(&awake, &to).await.map(drop) })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "it waits for the open batch");
    open.commit().await.unwrap();
    let second = second.await.unwrap();
    assert!(
        matches!(second, Err(CheckpointError::Fenced { .. })),
        "{second:?}"
    );
    assert_eq!(state(&store).await, DONE);
}

/// Seen to fail without the look before COMMIT: Postgres rolls back and reports no error.
#[tokio::test]
async fn a_batch_with_an_ignored_error_is_not_committed_in_silence() {
    let store = fresh_store().await;
    let (claim, to) = ready(&store).await;
    let mut batch = fill(&store, &claim, &to).await;
    let ignored = batch
        .connection()
        .execute("INSERT INTO no_such_table VALUES (1)")
        .await;
    assert!(ignored.is_err());

    let error = batch.commit().await.unwrap_err();

    assert!(
        matches!(error, CheckpointError::Backend { .. }),
        "{error:?}"
    );
    assert_eq!(state(&store).await, NOTHING);
}

#[tokio::test]
async fn a_batch_dropped_outside_the_runtime_rolls_back() {
    let store = fresh_store().await;
    let (claim, to) = ready(&store).await;
    let batch = fill(&store, &claim, &to).await;

    std::thread::spawn(move || drop(batch))
        .join()
        .expect("dropping must not panic");

    assert_eq!(state(&store).await, NOTHING);
    fill(&store, &claim, &to).await.commit().await.unwrap();
    assert_eq!(state(&store).await, DONE);
}

/// The program's own pool knows nothing of the schema, and is left as it was.
#[tokio::test]
async fn on_a_pool_of_the_program_read_models_land_in_the_schema() {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .connect(&url())
        .await
        .unwrap();
    let schema = fresh_schema();
    let store = PgOptions::from_pool(pool.clone())
        .schema(&schema)
        .connect()
        .await
        .unwrap();
    store.migrate().await.unwrap();

    let (claim, to) = ready(&store).await;
    fill(&store, &claim, &to).await.commit().await.unwrap();

    assert_eq!(state(&store).await, DONE);
    let path: String = sqlx::query_scalar("SHOW search_path")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(!path.contains(&schema), "{path}");
}

#[tokio::test]
async fn event_types_are_compared_one_by_one() {
    let store = fresh_store().await;
    let owner = node::start(&store).await;
    let shard = node::register(&store, &lamps(), &["b, c", "a"]).await;
    let acquire = async |types: &[&str]| store.acquire(&shard, types, owner).await;
    acquire(&["b, c", "a"]).await.unwrap();
    acquire(&["a", "b, c"]).await.unwrap();

    let error = acquire(&["a, b", "c"]).await.unwrap_err();

    assert!(
        matches!(error, CheckpointError::OtherEventTypes { .. }),
        "{error:?}"
    );
}
