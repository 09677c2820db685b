//! Claims, and the batches that begin with them, with a mechanism taken out.

use std::time::Duration;

use es_core::{
    CheckpointError, Claim, Lifecycle, Marks, MemoryStore, Position, Progress, ProjectionId,
    ProjectionStore, Shard, Standing,
};
use uuid::Uuid;

use super::{FaultyStore, batch::FaultyBatch};
use crate::fault::Fault;

impl FaultyStore {
    /// The row that is used for a shard.
    pub(super) fn key(&self, shard: &Shard) -> Shard {
        let mut key = shard.clone();
        match self.fault {
            Fault::IgnoresTheProjectionsVersion => {
                key.projection = ProjectionId::new(key.projection.name, 1);
            }
            Fault::IgnoresTheShard => key.index = 0,
            _ => {}
        }
        key
    }

    pub(super) async fn faulty_acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        let key = self.key(shard);
        let row = self.row(&key).await;
        let stored = row.as_ref().map(|row| row.event_types.clone());
        let stored = stored.unwrap_or_default();
        let wanted: Vec<_> = match self.fault {
            Fault::IgnoresTheEventTypes => stored.iter().map(String::as_str).collect(),
            _ => event_types.to_vec(),
        };
        let mut claim = match self.inner.acquire(&key, &wanted, node).await {
            Ok(claim) => claim,
            Err(err) => self.acquire_anyway(err, &key, row, &wanted, node).await?,
        };
        match self.fault {
            Fault::FindsNoAnchor if claim.position > Position::START => {
                return Err(CheckpointError::Diverged {
                    projection: key.projection,
                });
            }
            Fault::FreezesTheEpoch => claim.epoch = 1,
            Fault::ForgetsMarksInClaims => claim.applied = Marks::default(),
            _ => {}
        }
        claim.shard = shard.clone();
        Ok(claim)
    }

    /// Takes away what stands in the way, if that is the fault.
    async fn acquire_anyway(
        &self,
        err: CheckpointError,
        key: &Shard,
        row: Option<Standing>,
        wanted: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError> {
        match (self.fault, &err, row) {
            (Fault::IgnoresTheHolder, CheckpointError::Held { owner, .. }, Some(row)) => {
                self.inner.release(&claim_of(&row, *owner)).await?;
            }
            (Fault::GivesAwayWhatIsOpen, CheckpointError::Held { .. }, Some(row))
                if row.owner.is_none() =>
            {
                return Ok(claim_of(&row, node));
            }
            (Fault::LetsTheDeadRun, CheckpointError::NotAlive { .. }, _) => {
                let alive = self
                    .inner
                    .beat(&self.nobody(node), Duration::from_secs(60))
                    .await;
                alive.expect("memory can be read");
            }
            (Fault::InventsShards, CheckpointError::Unknown { .. }, _) => {
                let standing = Standing::new(key.clone(), 1, wanted);
                self.put_in_place(&standing).await?;
            }
            (
                Fault::RunsWhateverIsThere,
                CheckpointError::NotRunning { .. } | CheckpointError::Inline { .. },
                Some(mut row),
            ) => {
                row.lifecycle = Lifecycle::Running;
                self.put_in_place(&row).await?;
            }
            _ => return Err(err),
        }
        self.inner.acquire(key, wanted, node).await
    }

    async fn put_in_place(&self, standing: &Standing) -> Result<(), CheckpointError> {
        use es_core::Batch;

        let (mut change, _) = self.inner.begin_change(&standing.shard.projection).await?;
        change.put_standings(std::slice::from_ref(standing)).await?;
        change.commit().await
    }

    pub(super) async fn faulty_release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        let mut claim = claim.clone();
        claim.shard = self.key(&claim.shard);
        match (self.fault, self.row(&claim.shard).await) {
            (Fault::IgnoresTheRelease, _) => return Ok(()),
            (Fault::ReleasesWhoeverHolds, Some(row)) => {
                claim = claim_of(&row, row.owner.unwrap_or_default());
            }
            _ => {}
        }
        self.inner.release(&claim).await
    }

    pub(super) async fn faulty_begin(
        &self,
        claim: &Claim,
        to: &Progress,
    ) -> Result<FaultyBatch, CheckpointError> {
        let mut claim = claim.clone();
        claim.shard = self.key(&claim.shard);
        let projection = &claim.shard.projection.clone();
        let row = self.row(&claim.shard).await;
        if let Some(row) = &row {
            self.mend(&mut claim, row).await;
        }
        let mut to = *to;
        let stays = to.position == claim.position;
        let fenced = CheckpointError::Fenced {
            projection: projection.clone(),
        };
        match self.fault {
            Fault::FencesTheSleeper if row.as_ref().is_some_and(|row| row.owner.is_none()) => {
                return Err(fenced);
            }
            Fault::RefusesToStay if stays => return Err(fenced),
            Fault::StaysWithoutALock if stays => {
                let (elsewhere, _) = MemoryStore::new().begin_change(projection).await?;
                return Ok(FaultyBatch::new(self, elsewhere, projection));
            }
            Fault::NeverMovesTheCheckpoint => {
                let (unmoved, _) = self.inner.begin_change(projection).await?;
                return Ok(FaultyBatch::new(self, unmoved, projection));
            }
            Fault::ForgetsTheAnchor => to.anchor = None,
            Fault::TakesTheLogsEnd => {
                let end = self.end().await;
                to.position = to.position.min(end);
                to.anchor = to.anchor.filter(|(position, _)| *position <= end);
            }
            _ => {}
        }
        let batch = self.inner.begin_batch(&claim, &to).await?;
        let mut batch = FaultyBatch::new(self, batch, projection).of_a_claim();
        match (self.fault, row) {
            (Fault::CommitsEachStatement, _) => batch.commit_statement().await?,
            (Fault::MovesAllShards, Some(row)) => {
                let name = Some(projection.name.as_str());
                let standings = self.inner.standings(name).await;
                let mut others = standings.expect("memory can be read");
                others.retain(|other| other.shard != row.shard);
                for other in &mut others {
                    other.position = to.position;
                }
                batch.put_all(&others).await;
            }
            (Fault::RewritesTheRow, Some(row)) => {
                let types: Vec<_> = row.event_types.iter().map(String::as_str).collect();
                let mut anew = Standing::new(row.shard.clone(), row.shards, &types);
                anew.position = to.position;
                anew.anchor = to.anchor;
                batch.put_all(&[anew]).await;
            }
            _ => {}
        }
        Ok(batch)
    }

    /// Makes a claim hold, as far as the fault does.
    async fn mend(&self, claim: &mut Claim, row: &Standing) {
        match self.fault {
            Fault::DoesNotFence => {
                claim.epoch = row.epoch;
                claim.position = row.position;
                claim.owner = row.owner.unwrap_or(claim.owner);
                if row.owner.is_none() {
                    let types: Vec<_> = row.event_types.iter().map(String::as_str).collect();
                    let acquired = self.inner.acquire(&row.shard, &types, claim.owner).await;
                    *claim = acquired.unwrap_or_else(|_| claim.clone());
                }
            }
            Fault::IgnoresTheClaimsPosition => claim.position = row.position,
            Fault::IgnoresTheClaimsEpoch => claim.epoch = row.epoch,
            Fault::IgnoresTheClaimsOwner => claim.owner = row.owner.unwrap_or(claim.owner),
            _ => {}
        }
    }
}

fn claim_of(row: &Standing, owner: Uuid) -> Claim {
    Claim {
        shard: row.shard.clone(),
        shards: row.shards,
        owner,
        epoch: row.epoch,
        position: row.position,
        lifecycle: row.lifecycle,
        active: row.active,
        applied: row.applied.clone(),
        silent: row.silent.clone(),
    }
}
