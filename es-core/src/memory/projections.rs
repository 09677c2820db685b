//! Where projections stand, beside the read models and changed together with them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{MemoryBatch, MemoryModels, MemoryStore, models::Models, nodes::Nodes, rows::Rows};
use crate::{
    CheckpointError, Claim, DeadLetter, EventStore, Fleet, Letters, Node, Parked, Progress,
    ProjectionId, ProjectionStore, ReadError, Shard, Standing,
};

#[derive(Debug, Default)]
pub(super) struct Projections {
    /// Whoever writes has it: one transaction at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What everybody sees. Locked for a moment only, never while a transaction is open.
    committed: Mutex<Committed>,
}

#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) models: Models,
    pub(super) rows: Rows,
    nodes: Nodes,
    /// What the transaction that is open moves, and for whom, if it is a batch.
    open: Option<(Shard, Uuid)>,
}

impl Projections {
    /// A panic elsewhere cannot leave this half written: no step that changes it can fail.
    pub(super) fn committed(&self) -> MutexGuard<'_, Committed> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(self: &Arc<Self>) -> Turn {
        Turn {
            _guard: Arc::clone(&self.turn).lock_owned().await,
            projections: Arc::clone(self),
        }
    }
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) projections: Arc<Projections>,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.projections.committed().open = None;
    }
}

#[async_trait]
impl ProjectionStore for MemoryStore {
    type Connection = MemoryModels;
    type Batch = MemoryBatch;

    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        let settled = self.settled().await?;
        let mut committed = self.projections.committed();
        committed.nodes.beat(node, ttl);
        Ok(Fleet {
            nodes: committed.nodes.living(),
            standings: committed.rows.standings(None, &committed.nodes, settled),
        })
    }

    async fn leave(&self, node: Uuid) -> Result<(), ReadError> {
        self.projections.committed().nodes.leave(node);
        Ok(())
    }

    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        // The batch of another may be open for long: this one is told at once.
        self.projections.committed().nobody_else_has(shard, node)?;
        let _turn = self.projections.turn().await;
        let mut committed = self.projections.committed();
        committed.nobody_else_has(shard, node)?;
        self.check_that_it_may_run(&committed, shard, event_types, node)?;
        committed
            .rows
            .hand_over(shard, node)
            .ok_or_else(|| unknown(shard))
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        let _turn = self.projections.turn().await;
        self.projections.committed().rows.release(claim);
        Ok(())
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
    ) -> Result<MemoryBatch, CheckpointError> {
        let turn = self.projections.turn().await;
        let mut rows = self.projections.committed().rows.clone();
        if !rows.advance(claim, to) {
            return Err(CheckpointError::Fenced {
                projection: claim.shard.projection.clone(),
            });
        }
        self.projections.committed().open = Some((claim.shard.clone(), claim.owner));
        Ok(MemoryBatch::new(turn, rows))
    }

    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(MemoryBatch, Vec<Standing>), CheckpointError> {
        let turn = self.projections.turn().await;
        let settled = self.log().head();
        let (rows, standings) = {
            let Committed { rows, nodes, .. } = &*self.projections.committed();
            let standings = rows.standings(Some(&projection.name), nodes, settled);
            (rows.clone(), standings)
        };
        Ok((MemoryBatch::new(turn, rows), standings))
    }

    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError> {
        let settled = self.settled().await?;
        let Committed { rows, nodes, .. } = &*self.projections.committed();
        Ok(rows.standings(name, nodes, settled))
    }

    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let committed = self.projections.committed();
        Ok(committed.rows.letters().list(letters, limit))
    }

    async fn parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        let committed = self.projections.committed();
        Ok(committed.rows.letters().parked(projection, limit))
    }
}

impl Committed {
    /// The owner has it while it lives, and whoever has a batch open until that ends.
    fn nobody_else_has(&self, shard: &Shard, node: Uuid) -> Result<(), CheckpointError> {
        let standing = self.rows.standing(shard);
        let owner = standing.and_then(|standing| self.nodes.living_owner(standing));
        let open = self.open.as_ref().filter(|(open, _)| open == shard);
        let holders = [owner, open.map(|(_, owner)| *owner)];
        match holders.into_iter().flatten().find(|has| *has != node) {
            None => Ok(()),
            Some(owner) => Err(CheckpointError::Held {
                projection: shard.projection.clone(),
                owner,
            }),
        }
    }
}

impl MemoryStore {
    fn check_that_it_may_run(
        &self,
        committed: &Committed,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<(), CheckpointError> {
        let standing = committed
            .rows
            .standing(shard)
            .ok_or_else(|| unknown(shard))?;
        standing.check_lifecycle()?;
        if !committed.nodes.is_alive(node) {
            let projection = shard.projection.clone();
            return Err(CheckpointError::NotAlive { projection, node });
        }
        let log = self.log();
        let anchored = standing
            .anchor
            .is_some_and(|(position, id)| log.event_id_at(position) == Some(id));
        standing.check_fit(event_types, log.head(), anchored)
    }
}

fn unknown(shard: &Shard) -> CheckpointError {
    CheckpointError::Unknown {
        shard: shard.clone(),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{Batch, Position};

    /// Beyond the contract: nothing that only reads waits for a transaction, and who asks for the shard
    /// of another's batch is told at once. Seen to fail when each of them takes the turn.
    #[tokio::test]
    async fn reads_and_refusals_wait_for_no_batch() {
        let store = MemoryStore::new();
        let node = |id| Node {
            id: Uuid::from_u128(id),
            name: String::new(),
            runs: Vec::new(),
        };
        let ttl = Duration::from_secs(60);
        let standing = Standing::new(Shard::new(ProjectionId::new("rooms", 1), 0), 1, &["note"]);
        let shard = &standing.shard;
        let (mut change, _) = store.begin_change(&shard.projection).await.unwrap();
        change
            .put_standings(std::slice::from_ref(&standing))
            .await
            .unwrap();
        change.commit().await.unwrap();
        store.beat(&node(1), ttl).await.unwrap();
        let claim = store.acquire(shard, &["note"], node(1).id).await.unwrap();
        let to = Progress {
            position: Position::START,
            anchor: None,
        };
        let mut batch = store.begin_batch(&claim, &to).await.unwrap();
        *batch.connection().model_mut::<usize>() += 1;

        let now = "it does not wait";
        store
            .beat(&node(2), ttl)
            .now_or_never()
            .expect(now)
            .unwrap();
        store.leave(node(1).id).now_or_never().expect(now).unwrap();
        store.standings(None).now_or_never().expect(now).unwrap();
        let letters = Letters::default();
        store
            .dead_letters(&letters, 1)
            .now_or_never()
            .expect(now)
            .unwrap();
        store
            .parked(&shard.projection, 1)
            .now_or_never()
            .expect(now)
            .unwrap();
        assert_eq!(store.model::<usize>().now_or_never().expect(now), 0);
        let acquired = store.acquire(shard, &["note"], node(2).id).now_or_never();
        let err = acquired.expect(now).unwrap_err();
        assert!(matches!(err, CheckpointError::Held { owner, .. } if owner == node(1).id));

        drop(batch);
        store.acquire(shard, &["note"], node(2).id).await.unwrap();
    }
}
