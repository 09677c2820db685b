//! Read models in the same file: one transaction with the checkpoint.

use std::time::Duration;

use es_core::{
    Batch, CheckpointError, Claim, EventStore, Position, Progress, ProjectionId, ProjectionStore,
    Standing,
};
use es_sqlx::{
    SqliteStore,
    sqlite::{SqliteBatch, SqliteOptions},
};
use tokio::time::timeout;

use crate::{add, alive, folder, lamp, open, read, register, set_up, sql, stranger};

const TTL: Duration = Duration::from_secs(30);

fn lamps() -> ProjectionId {
    ProjectionId::new("lamps", 1)
}

/// Three events, an empty read model, and the right to fill it.
async fn ready(store: &SqliteStore) -> (Claim, Progress) {
    let stream = lamp();
    add(store, &stream, 3).await;
    let mut begun = set_up(store, &lamps()).await;
    sql(
        begun.connection(),
        "CREATE TABLE IF NOT EXISTS lamps (n INTEGER)",
    )
    .await
    .unwrap();
    begun.commit().await.unwrap();
    let shard = register(store, &lamps(), &["switched"]).await;
    let node = alive(store, TTL).await;
    let claim = store.acquire(&shard, &["switched"], node.id).await.unwrap();
    let last = read(store, &stream).await.pop().unwrap();
    let progress = Progress {
        position: last.position,
        anchor: Some((last.position, last.event_id)),
    };
    (claim, progress)
}

async fn fill(store: &SqliteStore, claim: &Claim, to: &Progress) -> SqliteBatch {
    let mut batch = store.begin_batch(claim, to).await.unwrap();
    sql(batch.connection(), "INSERT INTO lamps VALUES (1)")
        .await
        .unwrap();
    batch
}

async fn state(store: &SqliteStore) -> (Position, i64) {
    let checkpoint = store.checkpoint(&lamps()).await.unwrap().unwrap();
    let lamps = sqlx::query_scalar("SELECT count(*) FROM lamps")
        .fetch_one(store.pool())
        .await;
    (checkpoint, lamps.unwrap())
}

const NOTHING: (Position, i64) = (Position::START, 0);
const DONE: (Position, i64) = (Position::new(3), 1);

#[tokio::test]
async fn checkpoint_and_read_model_move_together() {
    let (_folder, file) = folder();
    let store = open(&file).await;
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

    store.close().await;
    assert_eq!(state(&open(&file).await).await, DONE);
}

#[tokio::test]
async fn a_batch_dropped_outside_the_runtime_rolls_back() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let (claim, to) = ready(&store).await;
    let batch = fill(&store, &claim, &to).await;

    std::thread::spawn(move || drop(batch))
        .join()
        .expect("dropping must not panic");

    assert_eq!(state(&store).await, NOTHING);
    fill(&store, &claim, &to).await.commit().await.unwrap();
    assert_eq!(state(&store).await, DONE);
}

#[test]
fn a_batch_may_outlive_the_runtime() {
    let (_folder, file) = folder();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let batch = first.block_on(async {
        let store = open(&file).await;
        let (claim, to) = ready(&store).await;
        fill(&store, &claim, &to).await
    });
    drop(first);
    drop(batch);
    runtime().block_on(async { assert_eq!(state(&open(&file).await).await, NOTHING) });
}

#[tokio::test]
async fn a_fenced_batch_keeps_nothing() {
    let (_folder, file) = folder();
    let (one, two) = (open(&file).await, open(&file).await);
    let (asleep, to) = ready(&one).await;
    one.release(&asleep).await.unwrap();
    let node = alive(&two, TTL).await;
    let awake = two
        .acquire(&asleep.shard, &["switched"], node.id)
        .await
        .unwrap();
    assert_eq!(awake.epoch, asleep.epoch + 1);

    let fenced = one.begin_batch(&asleep, &to).await;
    let error = fenced.map(drop).unwrap_err();
    assert!(matches!(error, CheckpointError::Fenced { .. }), "{error:?}");
    assert_eq!(state(&one).await, NOTHING);

    fill(&two, &awake, &to).await.commit().await.unwrap();
    // The same step twice: the checkpoint is no longer where the claim has it.
    let again = two.begin_batch(&awake, &to).await.map(drop);
    assert!(
        matches!(again, Err(CheckpointError::Fenced { .. })),
        "{again:?}"
    );
    assert_eq!(state(&two).await, DONE);
}

#[tokio::test]
async fn an_open_batch_does_not_stop_readers_and_writers_wait_for_it() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let (claim, to) = ready(&store).await;
    let batch = fill(&store, &claim, &to).await;

    assert_eq!(store.settled().await.unwrap(), Position::new(3));
    let appending = {
        let store = store.clone();
        tokio::spawn(async move { add(&store, &lamp(), 1).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!appending.is_finished());
    batch.commit().await.unwrap();
    appending.await.unwrap();
    assert_eq!(store.settled().await.unwrap(), Position::new(4));
}

#[tokio::test]
async fn a_checkpoint_of_other_event_types_is_refused() {
    let store = SqliteStore::in_memory().await.unwrap();
    let node = alive(&store, TTL).await;
    let shard = register(&store, &lamps(), &["b, c", "a"]).await;
    let acquire = async |types: &[&str]| store.acquire(&shard, types, node.id).await;
    acquire(&["a", "b, c"]).await.unwrap();

    let error = acquire(&["a, b", "c"]).await.unwrap_err();
    assert!(
        matches!(error, CheckpointError::OtherEventTypes { .. }),
        "{error:?}"
    );
    let error = acquire(&["c"]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "projection `lamps v1` was built from event types a, b, c, now it wants c; \
         raise its version to rebuild it"
    );
}

/// Claims, batches and set-ups that are given up at any moment leave the writer free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_leave_the_writer_usable() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let (claim, to) = ready(&store).await;
    let node = alive(&store, TTL).await;
    for microseconds in (0..1500).step_by(15) {
        let limit = Duration::from_micros(microseconds);
        let _ = timeout(limit, store.begin_change(&lamps())).await;
        let _ = timeout(limit, store.begin_batch(&claim, &to)).await;
        let _ = timeout(limit, store.beat(&node, TTL)).await;
        let _ = timeout(limit, async {
            fill(&store, &claim, &to).await.rollback().await
        })
        .await;
    }
    assert_eq!(state(&store).await, NOTHING);
    fill(&store, &claim, &to).await.commit().await.unwrap();
    assert_eq!(state(&store).await, DONE);
    add(&store, &lamp(), 1).await;
}

#[tokio::test]
async fn a_restored_log_is_noticed() {
    for (restored, message) in [
        (
            "UPDATE projection_shards SET position = 99",
            "the checkpoint of projection `lamps v1` is ahead of the log (an older log was \
             restored?); raise its version to rebuild it",
        ),
        (
            "UPDATE projection_shards SET anchor_event_id = x'00112233445566778899aabbccddeeff'",
            "the checkpoint of projection `lamps v1` belongs to another history of the log \
             (restored from a backup?); raise its version to rebuild it",
        ),
    ] {
        let (_folder, file) = folder();
        let store = open(&file).await;
        let (claim, to) = ready(&store).await;
        fill(&store, &claim, &to).await.commit().await.unwrap();
        sql(&mut stranger(&file).await, restored).await.unwrap();

        let acquired = store
            .acquire(&claim.shard, &["switched"], claim.owner)
            .await;
        assert_eq!(acquired.unwrap_err().to_string(), message);
    }
}

/// A full disk ends the transaction in the middle of a batch.
#[tokio::test]
async fn a_batch_on_a_full_disk_keeps_nothing() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let (claim, to) = ready(&store).await;
    let fill_the_disk = async |batch: &mut SqliteBatch| {
        let filled = sql(
            batch.connection(),
            "PRAGMA max_page_count = 1; INSERT INTO lamps VALUES (zeroblob(1000000))",
        )
        .await;
        assert!(filled.unwrap_err().to_string().contains("full"));
    };

    let mut batch = fill(&store, &claim, &to).await;
    fill_the_disk(&mut batch).await;
    batch.rollback().await.unwrap();
    assert_eq!(state(&store).await, NOTHING);

    let mut batch = fill(&store, &claim, &to).await;
    fill_the_disk(&mut batch).await;
    batch.commit().await.unwrap_err();
    assert_eq!(state(&store).await, NOTHING);

    fill(&store, &claim, &to).await.commit().await.unwrap();
    assert_eq!(state(&store).await, DONE);
}

/// Without the write lock the second one would see no row either. Seen to fail when `begin_change` began
/// with `BEGIN DEFERRED`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_begin_a_new_projection_at_once_come_one_after_the_other() {
    let (_folder, file) = folder();
    let stores = [open(&file).await, open(&file).await];
    let beginning = stores.map(|store| {
        tokio::spawn(async move {
            let (mut batch, found) = store.begin_change(&lamps()).await.unwrap();
            if found.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let shard = es_core::Shard::new(lamps(), 0);
                let standing = Standing::new(shard, 1, &["switched"]);
                batch.put_standings(&[standing]).await.unwrap();
            }
            batch.commit().await.unwrap();
            found.len()
        })
    });
    let mut found = Vec::new();
    for beginning in beginning {
        found.push(beginning.await.unwrap());
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1]);
    let epochs: Vec<i64> = sqlx::query_scalar("SELECT epoch FROM projection_shards")
        .fetch_all(open(&file).await.pool())
        .await
        .unwrap();
    assert_eq!(epochs, [1]);
}

/// What a projection returns is mostly an error of its own around the driver's.
#[derive(Debug, thiserror::Error)]
#[error("the read model could not be written")]
struct Wrapped(#[source] sqlx::Error);

#[tokio::test]
async fn a_busy_file_is_worth_another_try_and_a_mistake_is_not() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let (claim, to) = ready(&store).await;
    let batch = fill(&store, &claim, &to).await;

    let mut other = stranger(&file).await;
    sql(&mut other, "PRAGMA busy_timeout = 10").await.unwrap();
    let busy = sql(&mut other, "INSERT INTO lamps VALUES (2)").await;
    let busy = Wrapped(busy.unwrap_err());
    assert!(busy.0.to_string().contains("locked"), "{busy:?}");
    assert!(store.is_transient(&busy) && store.is_transient(&busy.0));
    let mistake = sql(&mut other, "INSERT INTO nowhere VALUES (2)").await;
    assert!(!store.is_transient(&Wrapped(mistake.unwrap_err())));
    assert!(!store.is_transient(&std::fmt::Error));
    batch.rollback().await.unwrap();
}

/// A batch in another process is open for longer than one waits for the lock. Seen to fail (with `database is
/// locked`) when nobody looks whose the shard is.
#[tokio::test]
async fn a_shard_whose_batch_is_open_elsewhere_is_held() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let (claim, to) = ready(&store).await;
    let batch = fill(&store, &claim, &to).await;
    let other = SqliteOptions::new(file.to_str().unwrap())
        .busy_timeout(Duration::from_millis(50))
        .open()
        .await
        .unwrap();

    let node = uuid::Uuid::now_v7();
    for store in [&store, &other] {
        let refused = store.acquire(&claim.shard, &["switched"], node).await;
        assert!(
            matches!(refused, Err(CheckpointError::Held { owner, .. }) if owner == claim.owner),
            "{refused:?}"
        );
    }
    batch.commit().await.unwrap();
}
