//! What a daemon does before it runs a projection.

use std::time::Duration;

use es_core::{Batch, Node, ProjectionId, ProjectionStore, Shard, Standing};
use uuid::Uuid;

/// Makes a projection known that nobody has seen before, in one shard.
pub(crate) async fn register(
    store: &impl ProjectionStore,
    projection: &ProjectionId,
    event_types: &[&str],
) -> Shard {
    let shard = Shard::new(projection.clone(), 0);
    let (mut change, there) = store.begin_change(projection).await.unwrap();
    assert!(there.iter().all(|there| there.shard != shard), "{there:?}");
    let standing = Standing::new(shard.clone(), 1, event_types);
    change.put_standings(&[standing]).await.unwrap();
    change.commit().await.unwrap();
    shard
}

/// A fresh node that is alive for as long as a test may take.
pub(crate) async fn start(store: &impl ProjectionStore) -> Uuid {
    let node = Node {
        id: Uuid::now_v7(),
        name: "test".to_owned(),
        runs: Vec::new(),
    };
    let ttl = Duration::from_secs(600);
    store.beat(&node, ttl).await.unwrap();
    node.id
}
