//! One batch: read model, dead letters and checkpoint in one transaction. The only place where a
//! checkpoint moves.

use std::sync::Arc;

use es_core::{
    Batch, BoxError, Chain, CheckpointError, Claim, DeadLetter, Failure, Lifecycle, Position,
    Progress, ProjectionStore, Recorded,
};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::{
    caught::caught,
    error::{Problem, passes},
    target::Target,
};

/// One projection and the store it stands in.
#[derive(Debug)]
pub(crate) struct Batches<S, T> {
    pub(crate) store: Arc<S>,
    pub(crate) target: T,
}

/// A part of the log and what is to be done about it.
#[derive(Debug)]
pub(crate) struct Part<'a, E> {
    pub(crate) events: &'a [Recorded<E>],
    pub(crate) letters: &'a [DeadLetter],
    pub(crate) covered: Position,
}

// A derive would ask for `E: Copy`.
impl<E> Copy for Part<'_, E> {}

impl<E> Clone for Part<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Why a batch was not applied. The transaction is rolled back, unless it is in doubt.
#[derive(Debug)]
pub(crate) enum Refused {
    ByStore(Problem),
    ByHandler(Failure),
}

/// For those who apply nothing that could be put aside.
impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ByStore(problem) => problem,
            Refused::ByHandler(failure) => Self::Failed(failure),
        }
    }
}

impl From<CheckpointError> for Refused {
    fn from(error: CheckpointError) -> Self {
        Self::ByStore(error.into())
    }
}

impl<S: ProjectionStore, T: Target<S>> Batches<S, T> {
    /// Applies a part of the log and moves the checkpoint, in one transaction. `claim` follows. Returns how
    /// long the events took, without the wait for a connection or for the disk, which are as long for one
    /// event.
    ///
    /// The stored checkpoint must be where `claim` says, so after an error that leaves the commit in
    /// doubt a new claim is needed, and nothing is applied twice.
    pub(crate) async fn apply(
        &self,
        claim: &mut Claim,
        part: Part<'_, T::Event>,
    ) -> Result<Duration, Refused> {
        let emit = loud(claim, part.events);
        let mut stopwatch = Instant::now();
        if !part.events.is_empty() {
            self.handled(self.target.before(part.events, &emit)).await?;
        }
        let to = Progress {
            position: part.covered,
            anchor: part.events.last().map(anchor),
        };
        let before = stopwatch.elapsed();
        let mut batch = self.store.begin_batch(claim, &to).await?;
        stopwatch = Instant::now();
        if let Err(refused) = self.write(&mut batch, part, &emit).await {
            return Err(roll_back(batch, refused).await);
        }
        let inside = stopwatch.elapsed();
        committed(batch.commit().await, !part.events.is_empty())?;
        claim.position = part.covered;
        Ok(before + inside)
    }

    async fn write(
        &self,
        batch: &mut S::Batch,
        part: Part<'_, T::Event>,
        emit: &[&[Recorded<T::Event>]],
    ) -> Result<(), Refused> {
        if !part.events.is_empty() {
            let inside = self.target.inside(batch.connection(), part.events, emit);
            self.handled(inside).await?;
        }
        if !part.letters.is_empty() {
            batch.put_letters(part.letters).await?;
        }
        Ok(())
    }

    /// Tries one parked event again, and takes its letter away if that works.
    pub(crate) async fn apply_parked(
        &self,
        claim: &Claim,
        event: &[Recorded<T::Event>; 1],
        owed: bool,
    ) -> Result<(), Refused> {
        let emit: Vec<&[Recorded<T::Event>]> = match owed {
            true => vec![event],
            false => Vec::new(),
        };
        self.handled(self.target.before(event, &emit)).await?;
        let mut batch = self.begin_in_place(claim).await?;
        let written: Result<(), Refused> = async {
            let inside = self.target.inside(batch.connection(), event, &emit);
            self.handled(inside).await?;
            let ids = [event[0].record.event_id];
            batch
                .remove_letters(&claim.shard.projection, Some(&ids))
                .await?;
            Ok(())
        }
        .await;
        if let Err(refused) = written {
            return Err(roll_back(batch, refused).await);
        }
        committed(batch.commit().await, true)
    }

    /// Writes down what became of dead letters.
    pub(crate) async fn note(&self, claim: &Claim, letters: &[DeadLetter]) -> Result<(), Problem> {
        let mut batch = self.begin_in_place(claim).await?;
        batch.put_letters(letters).await?;
        Ok(batch.commit().await?)
    }

    /// Takes letters away whose events have no content any more.
    pub(crate) async fn forget(&self, claim: &Claim, event_ids: &[Uuid]) -> Result<(), Problem> {
        let mut batch = self.begin_in_place(claim).await?;
        let projection = &claim.shard.projection;
        batch.remove_letters(projection, Some(event_ids)).await?;
        Ok(batch.commit().await?)
    }

    /// A batch that does not move the checkpoint but holds it.
    async fn begin_in_place(&self, claim: &Claim) -> Result<S::Batch, CheckpointError> {
        let here = Progress {
            position: claim.position,
            anchor: None,
        };
        self.store.begin_batch(claim, &here).await
    }

    async fn handled(
        &self,
        handler: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(), Refused> {
        match caught(handler).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if passes(&*self.store, &*error) => {
                let message = Chain(&*error).to_string();
                Err(Refused::ByStore(Problem::Unavailable(message)))
            }
            Ok(Err(error)) => Err(Refused::ByHandler(Failure::handler(&*error))),
            Err(panic) => Err(Refused::ByHandler(panic)),
        }
    }
}

/// A commit that the database refused is the events' business, as where a constraint is only checked then:
/// it answered, so that nothing is in doubt.
fn committed(commit: Result<(), CheckpointError>, with_events: bool) -> Result<(), Refused> {
    match commit {
        Err(
            error @ CheckpointError::Backend {
                transient: false, ..
            },
        ) if with_events => Err(Refused::ByHandler(Failure::handler(&error))),
        ended => Ok(ended?),
    }
}

/// The events whose effects are wanted, in runs: none of a rebuild, and none whose effects an earlier
/// version has had.
fn loud<'a, E>(claim: &Claim, events: &'a [Recorded<E>]) -> Vec<&'a [Recorded<E>]> {
    if claim.lifecycle == Lifecycle::Rebuilding {
        return Vec::new();
    }
    runs(events, |event| {
        let Recorded { record, .. } = event;
        !claim.silent.cover(record.aggregate_id, record.position)
    })
}

/// The events that are wanted, as few slices as it takes.
pub(crate) fn runs<E>(
    events: &[Recorded<E>],
    is_wanted: impl Fn(&Recorded<E>) -> bool,
) -> Vec<&[Recorded<E>]> {
    events
        .chunk_by(|one, next| is_wanted(one) == is_wanted(next))
        .filter(|run| run.first().is_some_and(&is_wanted))
        .collect()
}

fn anchor<E>(event: &Recorded<E>) -> (Position, Uuid) {
    (event.record.position, event.record.event_id)
}

/// Dropping would roll back too; this frees the locks now. Returns why the batch was not applied: what
/// there was to undo may be kept.
async fn roll_back<B: Batch>(batch: B, refused: Refused) -> Refused {
    match batch.rollback().await {
        Ok(()) => refused,
        Err(ended @ CheckpointError::Ended { .. }) => ended.into(),
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "could not roll back; the store will");
            refused
        }
    }
}
