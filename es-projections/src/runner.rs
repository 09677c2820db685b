//! One projection's life: wait for the lease, take turns, give the lease back.

use std::{panic::AssertUnwindSafe, sync::Arc};

use es_core::{
    Chain, CheckpointError, Claim, EventSet, Project, ProjectionId, ProjectionStore, ReadError,
};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Failure, FailureKind, State,
    backoff::{Backoff, pause},
    batch::{Batches, panicked},
    error::Problem,
    lease::Lease,
    status::Board,
    turn::Turn,
};

/// Runs one projection until it fails or is told to stop.
pub(crate) struct Runner<S, P> {
    pub(crate) batches: Arc<Batches<S, P>>,
    /// Outside of the turns, so that it is given back after a panic too.
    pub(crate) lease: Lease<S>,
    pub(crate) board: Board,
    /// Only looked at between batches and in pauses: a batch in hand is always finished.
    pub(crate) stop: CancellationToken,
    pub(crate) backoff: Backoff,
}

impl<S: ProjectionStore + 'static, P: Project<S::Connection>> Runner<S, P> {
    pub(crate) fn new(
        batches: Arc<Batches<S, P>>,
        owner: Uuid,
        board: Board,
        stop: CancellationToken,
    ) -> Self {
        let types = P::Event::EVENT_TYPES.iter().map(|event| event.name);
        Self {
            lease: Lease {
                store: Arc::clone(&batches.store),
                projection: ProjectionId::of::<P>(),
                event_types: types.collect(),
                owner,
                ttl: batches.settings.lease_ttl,
                held: None,
            },
            board,
            stop,
            backoff: Backoff::new(&batches.settings),
            batches,
        }
    }

    /// Never panics and always says its last word on the board, so nobody waits for ever.
    pub(crate) async fn run(mut self) {
        let ended = AssertUnwindSafe(self.take_turns()).catch_unwind().await;
        let ended = ended
            .unwrap_or_else(|panic| Err(Failure::new(FailureKind::Panicked, panicked(&*panic))));
        self.lease.release().await;
        match ended {
            Ok(()) => {
                tracing::info!("projection stopped");
                self.board.state(State::Stopped);
            }
            Err(failure) => {
                tracing::error!(error = %failure, "projection failed");
                self.board.failed(failure);
            }
        }
    }

    /// A turn is the time between getting the lease and losing it.
    async fn take_turns(&mut self) -> Result<(), Failure> {
        while let Some(claim) = self.acquire().await? {
            match Turn::new(self, claim).run().await {
                Ok(()) => break,
                Err(Problem::Failed(failure)) => return Err(failure),
                Err(Problem::Fenced) => {
                    tracing::warn!(
                        "another runner has taken over; nothing of the last batch was kept"
                    );
                    self.lease.lost();
                    self.backoff.pause(&self.stop).await;
                }
                Err(Problem::Unavailable(message)) => self.wait_for_store(message).await,
            }
        }
        Ok(())
    }

    /// Waits for the lease. `None` if it was told to stop.
    async fn acquire(&mut self) -> Result<Option<Claim>, Failure> {
        let mut waited = false;
        while !self.stop.is_cancelled() {
            match self.lease.claim().await {
                Ok(claim) => {
                    let (position, epoch) = (claim.position.get(), claim.epoch);
                    tracing::info!(position, epoch, "lease taken");
                    return Ok(Some(claim));
                }
                Err(CheckpointError::Held { owner, .. }) => {
                    if !waited {
                        tracing::warn!(%owner, "lease denied; waiting for its end");
                    }
                    waited = true;
                    self.stand_by().await;
                }
                Err(error) => match Problem::from(error) {
                    Problem::Failed(failure) => return Err(failure),
                    Problem::Fenced => self.stand_by().await,
                    Problem::Unavailable(message) => self.wait_for_store(message).await,
                },
            }
        }
        Ok(None)
    }

    /// Another daemon runs the projection: show how far that one is.
    async fn stand_by(&self) {
        self.board.state(State::WaitingForLease);
        if let Err(error) = self.look().await {
            self.board.error(Chain(&error).to_string());
        }
        pause(self.batches.settings.lease_retry, &self.stop).await;
    }

    async fn look(&self) -> Result<(), ReadError> {
        let store = &self.batches.store;
        if let Some(checkpoint) = store.checkpoint(&self.lease.projection).await? {
            self.board.reached(checkpoint.position);
        }
        self.board.head(store.settled().await?);
        Ok(())
    }

    async fn wait_for_store(&mut self, message: String) {
        tracing::warn!(error = %message, "the store failed; trying again from the stored checkpoint");
        self.board.error(message);
        self.backoff.pause(&self.stop).await;
    }
}
