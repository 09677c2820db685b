//! One shard's life on this node: wait for the order to run, take the right to, take turns.

use std::{sync::Arc, time::Duration};

use es_core::{Chain, Claim, Failure, Lifecycle, Marks, Position, ProjectionStore, Shard};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Options, backoff::Backoff, batch::Batches, board::ShardBoard, caught::caught, change,
    error::Problem, feed::Feed, lifecycle, status::State, target::Target, turn::Turn,
};

/// What the node wants of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Another node runs it, or nobody is meant to. If the database believes that this one does, under
    /// this epoch, it is given back.
    Rest { stray: Option<i64> },
    /// Run it. Claims with a lower epoch are no longer good.
    Run { epoch: i64 },
}

impl Order {
    /// Whether a claim of this epoch may go on.
    pub(crate) fn lets(self, claimed: i64) -> bool {
        matches!(self, Self::Run { epoch } if epoch <= claimed)
    }
}

/// What all runners of a daemon share.
#[derive(Debug)]
pub(crate) struct Common<S> {
    pub(crate) store: Arc<S>,
    pub(crate) feed: Arc<Feed<S>>,
    pub(crate) node: Uuid,
    pub(crate) node_name: String,
    pub(crate) lease_ttl: Duration,
    pub(crate) backoff: (Duration, Duration),
    /// Wakes the node: something has changed that it should look at.
    pub(crate) nudge: Arc<Notify>,
    /// Only looked at between batches and in pauses: a batch in hand is always finished.
    pub(crate) stop: CancellationToken,
}

impl<S> Common<S> {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.backoff.0, self.backoff.1)
    }
}

/// Runs one shard until it is told to stop.
pub(crate) struct Runner<S, T> {
    pub(crate) common: Arc<Common<S>>,
    pub(crate) batches: Arc<Batches<S, T>>,
    pub(crate) options: Arc<Options>,
    pub(crate) shard: Shard,
    pub(crate) board: ShardBoard,
    pub(crate) orders: watch::Receiver<Order>,
    /// The daemon stops, or the shard is no more.
    pub(crate) stop: CancellationToken,
    pub(crate) backoff: Backoff,
    /// How many events the first page of the next turn may have.
    pub(crate) size: u32,
    /// Given back at the end, also after a panic.
    pub(crate) held: Option<Claim>,
}

impl<S: ProjectionStore + 'static, T: Target<S>> Runner<S, T> {
    pub(crate) async fn run(mut self) {
        while self.ordered().await {
            let turn = caught(self.turn()).await;
            let turn = turn.unwrap_or_else(|panic| Err(Problem::Failed(panic)));
            self.end(turn).await;
            self.board.rests();
        }
    }

    /// Waits for the order to run. `false` if it was told to stop.
    async fn ordered(&mut self) -> bool {
        loop {
            if self.stop.is_cancelled() {
                return false;
            }
            let order = *self.orders.borrow_and_update();
            match order {
                Order::Run { .. } => return true,
                Order::Rest { stray: Some(epoch) } => self.give_back(epoch).await,
                Order::Rest { stray: None } => {}
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                changed = self.orders.changed() => if changed.is_err() {
                    return false;
                }
            }
        }
    }

    /// What was acquired without this runner's knowing, as when the answer was lost.
    async fn give_back(&mut self, epoch: i64) {
        self.held = Some(Claim {
            shard: self.shard.clone(),
            shards: 1,
            owner: self.common.node,
            epoch,
            position: Position::START,
            lifecycle: Lifecycle::Running,
            active: false,
            applied: Marks::default(),
            silent: Marks::default(),
        });
        self.release().await;
    }

    /// From getting the right to run to losing it.
    async fn turn(&mut self) -> Result<(), Problem> {
        let (store, types) = (&self.batches.store, T::event_types());
        let claim = store.acquire(&self.shard, &types, self.common.node).await?;
        let (position, epoch) = (claim.position.get(), claim.epoch);
        tracing::info!(shard = self.shard.index, position, epoch, "lease taken");
        self.held = Some(claim.clone());
        self.board.owner(&self.common.node_name);
        Turn::new(self, claim).run().await
    }

    async fn end(&mut self, turn: Result<(), Problem>) {
        match turn {
            Ok(()) => {
                self.release().await;
                tracing::info!(shard = self.shard.index, "gave the lease back");
            }
            Err(Problem::Restart) => {
                self.held = None;
                self.common.nudge.notify_one();
            }
            Err(Problem::Fenced(message)) => {
                tracing::warn!(
                    shard = self.shard.index,
                    reason = %message,
                    "fenced or lease denied; nothing of the last batch was kept"
                );
                self.held = None;
                self.board.state(State::StandingBy);
                self.common.nudge.notify_one();
                self.rest(self.common.lease_ttl / 20).await;
            }
            Err(Problem::Unavailable(message)) => {
                tracing::warn!(
                    error = %message,
                    "the store failed; trying again from the stored checkpoint"
                );
                self.board.error(&message);
                self.backoff.pause(&self.stop).await;
            }
            Err(Problem::Failed(failure)) => self.fail(failure).await,
        }
    }

    /// A new order, or some time, or the end.
    pub(crate) async fn rest(&mut self, time: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = self.orders.changed() => {}
            () = sleep(time) => {}
        }
    }

    /// Writes the failure down, so that no other node fails at the same place.
    async fn fail(&mut self, failure: Failure) {
        tracing::error!(error = %failure, shard = self.shard.index, "projection failed");
        self.board.failed(failure.clone());
        let Some(claim) = self.held.take() else {
            // Not even acquired: the checkpoint does not fit. Somebody has to act.
            self.write_down(None, failure).await;
            return;
        };
        self.write_down(Some(claim.epoch), failure).await;
    }

    async fn write_down(&mut self, epoch: Option<i64>, failure: Failure) {
        while !self.stop.is_cancelled() {
            let failure = failure.clone();
            let written =
                change::change(&*self.batches.store, &self.shard.projection, |standings| {
                    let row = standings.iter().find(|row| row.shard == self.shard);
                    let now = row.map_or(0, |row| row.epoch);
                    Ok(lifecycle::fail(
                        standings,
                        &self.shard,
                        epoch.unwrap_or(now),
                        failure,
                    ))
                });
            match written.await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "could not write the failure down");
                    if !self.backoff.pause(&self.stop).await {
                        return;
                    }
                }
            }
        }
        self.common.nudge.notify_one();
        // What the order says is older than the failure.
        self.rest(self.common.lease_ttl / 2).await;
    }

    /// Gives it back. If that fails it ends with the node.
    async fn release(&mut self) {
        let Some(claim) = self.held.take() else {
            return;
        };
        match caught(self.batches.store.release(&claim)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error = %Chain(&error),
                "could not give the lease back; it ends with this node"
            ),
            Err(panic) => tracing::error!(%panic, "while the lease was given back"),
        }
    }
}
