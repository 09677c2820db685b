//! Transactions with a mechanism taken out.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::{
    Batch, CheckpointError, DeadLetter, Letters, MemoryBatch, MemoryModels, Position, ProjectionId,
    ProjectionStore, Shard, Standing,
};
use uuid::Uuid;

use super::FaultyStore;
use crate::fault::Fault;

/// A [`MemoryBatch`], except for the fault of its store.
#[derive(Debug)]
pub(crate) struct FaultyBatch {
    store: FaultyStore,
    /// There, except while one takes the place of another.
    inner: Option<MemoryBatch>,
    projection: ProjectionId,
    of_a_claim: bool,
    /// What is put at last, by a transaction that has locked nothing.
    later: Vec<Standing>,
    began: Instant,
}

impl FaultyBatch {
    pub(super) fn new(store: &FaultyStore, inner: MemoryBatch, projection: &ProjectionId) -> Self {
        Self {
            store: store.clone(),
            inner: Some(inner),
            projection: projection.clone(),
            of_a_claim: false,
            later: Vec::new(),
            began: Instant::now(),
        }
    }

    pub(super) fn of_a_claim(mut self) -> Self {
        self.of_a_claim = true;
        self
    }

    pub(super) async fn put_all(&mut self, standings: &[Standing]) {
        let put = self.inner().put_standings(standings).await;
        put.expect("memory can be written");
    }

    pub(super) async fn commit_statement(&mut self) -> Result<(), CheckpointError> {
        if let Some(inner) = self.inner.take() {
            inner.commit().await?;
        }
        let (next, _) = self.store.inner.begin_change(&self.projection).await?;
        self.inner = Some(next);
        Ok(())
    }

    fn inner(&mut self) -> &mut MemoryBatch {
        self.inner.as_mut().expect("a batch is open")
    }

    async fn after_statement(&mut self) -> Result<(), CheckpointError> {
        match self.store.fault {
            Fault::CommitsEachStatement => self.commit_statement().await,
            _ => Ok(()),
        }
    }

    /// The letters of the projection that are committed.
    async fn letters(&self, projection: &ProjectionId) -> Vec<DeadLetter> {
        let wanted = Letters::of(projection.clone());
        let letters = self.store.inner.dead_letters(&wanted, u32::MAX).await;
        letters.expect("memory can be read")
    }
}

#[async_trait]
impl Batch for FaultyBatch {
    type Connection = MemoryModels;

    fn connection(&mut self) -> &mut MemoryModels {
        self.inner().connection()
    }

    async fn put_standings(&mut self, standings: &[Standing]) -> Result<(), CheckpointError> {
        for standing in standings {
            let mut put = standing.clone();
            put.shard = self.store.key(&put.shard);
            self.store.as_put().insert(put.shard.clone(), put.clone());
            let skip = match self.store.fault {
                Fault::KeepsTheFirstStanding => self.store.row(&put.shard).await.is_some(),
                Fault::BatchesPutNoStandings => self.of_a_claim,
                _ => false,
            };
            if self.store.fault == Fault::StartsAtTheEnd && put.position == Position::START {
                put.position = self.store.end().await;
            }
            if self.store.fault == Fault::ChangesLockNothing {
                self.later.push(put);
            } else if !skip {
                self.inner().put_standings(&[put]).await?;
            }
        }
        self.after_statement().await
    }

    async fn remove_standings(&mut self, shards: &[Shard]) -> Result<(), CheckpointError> {
        let name = self.projection.name.clone();
        let all = self.store.inner.standings(Some(&name)).await;
        let all = all.expect("memory can be read").into_iter();
        let whole = all.map(|standing| standing.shard).collect::<Vec<_>>();
        let letters = self.letters(&self.projection).await;
        let projection = self.projection.clone();
        let fault = self.store.fault;
        let inner = self.inner();
        match fault {
            Fault::IgnoresRemovals => {}
            Fault::RemovesTheWholeProjection => inner.remove_standings(&whole).await?,
            Fault::LettersGoWithAnyShard => {
                inner.remove_standings(shards).await?;
                inner.remove_letters(&projection, None).await?;
            }
            Fault::LettersOutliveTheirProjection => {
                inner.remove_standings(shards).await?;
                inner.put_letters(&letters).await?;
            }
            _ => inner.remove_standings(shards).await?,
        }
        self.after_statement().await
    }

    async fn put_letters(&mut self, letters: &[DeadLetter]) -> Result<(), CheckpointError> {
        let there = self.letters(&self.projection).await;
        for letter in letters {
            let mut put = letter.clone();
            let known = there.iter().any(|known| known.event_id == put.event_id);
            match self.store.fault {
                Fault::KeepsTheFirstLetter if known => continue,
                Fault::ForgetsWhyALetterIsThere => put.failure.message.clear(),
                _ => {}
            }
            let remembered = (put.event_id, put.clone());
            self.store.letters_as_put().extend([remembered]);
            self.inner().put_letters(&[put]).await?;
        }
        self.after_statement().await
    }

    async fn retry_letters(
        &mut self,
        projection: &ProjectionId,
        aggregate_id: Option<Uuid>,
    ) -> Result<u64, CheckpointError> {
        let aggregate_id = aggregate_id.filter(|_| self.store.fault != Fault::RetriesAll);
        let count = self.inner().retry_letters(projection, aggregate_id).await?;
        self.after_statement().await?;
        Ok(count)
    }

    async fn remove_letters(
        &mut self,
        projection: &ProjectionId,
        event_ids: Option<&[Uuid]>,
    ) -> Result<u64, CheckpointError> {
        let event_ids = event_ids.filter(|_| self.store.fault != Fault::RemovesAllLetters);
        let count = self.inner().remove_letters(projection, event_ids).await?;
        self.after_statement().await?;
        Ok(count)
    }

    async fn commit(self) -> Result<(), CheckpointError> {
        let long = self.began.elapsed() > Duration::from_millis(50);
        if self.store.fault == Fault::FencesLongBatches && self.of_a_claim && long {
            return Err(CheckpointError::Fenced {
                projection: self.projection,
            });
        }
        if let Some(inner) = self.inner {
            inner.commit().await?;
        }
        if self.later.is_empty() {
            return Ok(());
        }
        let (mut late, _) = self.store.inner.begin_change(&self.projection).await?;
        late.put_standings(&self.later).await?;
        late.commit().await
    }

    async fn rollback(self) -> Result<(), CheckpointError> {
        match self.inner {
            Some(inner) => inner.rollback().await,
            None => Ok(()),
        }
    }
}
