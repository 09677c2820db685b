//! Who is alive, while the write lock is taken too.

use std::{path::Path, time::Duration};

use es_core::{
    Batch, CheckpointError, Claim, Node, Position, Progress, ProjectionId, ProjectionStore, Shard,
};
use es_sqlx::{
    SqliteStore,
    sqlite::{SqliteBatch, SqliteOptions},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{alive, folder, open, register};

const TTL: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(60);

/// Two processes, the first of which has the shard.
struct Pair {
    one: SqliteStore,
    two: SqliteStore,
    node: Node,
    claim: Claim,
}

async fn pair(file: &Path) -> Pair {
    let one = open(file).await;
    let two = SqliteOptions::new(file.to_str().unwrap())
        .busy_timeout(Duration::from_millis(50))
        .open()
        .await
        .unwrap();
    let shard = register(&one, &ProjectionId::new("lamps", 1), &["switched"]).await;
    let node = alive(&one, TTL).await;
    let claim = take(&one, &shard, &node).await.unwrap();
    Pair {
        one,
        two,
        node,
        claim,
    }
}

async fn take(store: &SqliteStore, shard: &Shard, node: &Node) -> Result<Claim, CheckpointError> {
    store.acquire(shard, &["switched"], node.id).await
}

impl Pair {
    async fn batch(&self) -> SqliteBatch {
        let to = Progress {
            position: Position::START,
            anchor: None,
        };
        self.one.begin_batch(&self.claim, &to).await.unwrap()
    }

    /// Opens a batch for longer than the node lives, while the node beats and the other process wants
    /// the shard.
    async fn long_batch(&self) -> SqliteBatch {
        let batch = self.batch().await;
        let other = Node {
            id: uuid::Uuid::now_v7(),
            ..self.node.clone()
        };
        let began = Instant::now();
        while began.elapsed() < TTL * 2 {
            let asked = Instant::now();
            let fleet = self.one.beat(&self.node, TTL).await.unwrap();
            assert!(asked.elapsed() < TTL, "it waits for the batch");
            let nodes: Vec<_> = fleet.nodes.iter().map(|(node, _)| node).collect();
            assert_eq!(nodes, [&self.node]);
            assert_eq!(fleet.standings[0].owner, Some(self.node.id));
            // It cannot write either, and answers.
            self.two.beat(&other, LONG).await.unwrap();
            let refused = take(&self.two, &self.claim.shard, &other).await;
            assert!(
                matches!(refused, Err(CheckpointError::Held { .. })),
                "{refused:?}"
            );
        }
        batch
    }

    async fn assert_kept(&self) {
        let other = alive(&self.two, LONG).await;
        let refused = take(&self.two, &self.claim.shard, &other).await;
        assert!(
            matches!(refused, Err(CheckpointError::Held { owner, .. }) if owner == self.node.id),
            "{refused:?}"
        );
        self.batch().await.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_stops_beating_loses_its_shards_after_its_time() {
    let (_folder, file) = folder();
    let pair = pair(&file).await;
    let other = alive(&pair.two, LONG).await;
    let refused = take(&pair.two, &pair.claim.shard, &other).await;
    assert!(
        matches!(refused, Err(CheckpointError::Held { owner, .. }) if owner == pair.node.id),
        "{refused:?}"
    );

    sleep(TTL).await;
    let fleet = pair.two.beat(&other, LONG).await.unwrap();
    assert_eq!(fleet.nodes.len(), 1);
    assert_eq!(fleet.standings[0].owner, None);
    let taken = take(&pair.two, &pair.claim.shard, &other).await.unwrap();
    assert_eq!(taken.epoch, pair.claim.epoch + 1);
    let late = take(&pair.one, &pair.claim.shard, &pair.node).await;
    assert!(
        matches!(late, Err(CheckpointError::Held { .. })),
        "{late:?}"
    );
    pair.two.release(&taken).await.unwrap();
    let late = take(&pair.one, &pair.claim.shard, &pair.node).await;
    assert!(
        matches!(late, Err(CheckpointError::NotAlive { .. })),
        "{late:?}"
    );
}

/// Nor for its batch, if that ends.
#[tokio::test]
async fn a_node_that_leaves_is_not_waited_for() {
    let (_folder, file) = folder();
    let pair = pair(&file).await;
    let other = alive(&pair.two, LONG).await;
    let batch = pair.batch().await;
    timeout(LONG / 60, pair.one.leave(pair.node.id))
        .await
        .expect("it must not wait for the batch")
        .unwrap();
    batch.commit().await.unwrap();
    take(&pair.two, &pair.claim.shard, &other).await.unwrap();
}

/// Seen to fail when a commit does not write the announcements that wait for it.
#[tokio::test]
async fn a_node_outlives_its_own_batch() {
    let (_folder, file) = folder();
    let pair = pair(&file).await;
    pair.long_batch().await.commit().await.unwrap();
    pair.assert_kept().await;
}

/// Seen to fail when a batch that is dropped does not write the announcements that wait for it.
#[tokio::test]
async fn a_node_outlives_its_own_batch_that_comes_to_nothing() {
    let (_folder, file) = folder();
    let pair = pair(&file).await;
    pair.long_batch().await.rollback().await.unwrap();
    pair.assert_kept().await;
}

/// Whoever beats for the first time while somebody has the write lock is alive from the next transaction
/// of his process on.
#[tokio::test]
async fn a_first_beat_does_not_wait_either() {
    let (_folder, file) = folder();
    let pair = pair(&file).await;
    let batch = pair.batch().await;
    let new = timeout(LONG / 60, alive(&pair.two, LONG)).await.unwrap();
    batch.commit().await.unwrap();
    pair.one.leave(pair.node.id).await.unwrap();
    take(&pair.two, &pair.claim.shard, &new).await.unwrap();
}

#[tokio::test]
async fn the_dead_are_forgotten_after_a_day() {
    let (_folder, file) = folder();
    let pair = pair(&file).await;
    let mut db = crate::stranger(&file).await;
    for (age, rows) in [(86_000_000, 2), (86_500_000, 1)] {
        sqlx::query(
            "UPDATE projection_nodes SET alive_until = unixepoch() * 1000 - ?1 WHERE node = ?2",
        )
        .bind(age)
        .bind(pair.node.id)
        .execute(&mut db)
        .await
        .unwrap();
        let other = alive(&pair.two, LONG).await;
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM projection_nodes")
            .fetch_one(&mut db)
            .await
            .unwrap();
        assert_eq!(found, rows);
        pair.two.leave(other.id).await.unwrap();
    }
}
