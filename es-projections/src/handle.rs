//! A daemon that is running.

use std::{sync::Arc, time::Duration};

use es_core::{Position, ProjectionStore};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use crate::{
    Health, Monitor, Projections, ShutdownError, Status, Token, WaitError, runner::Common, signals,
};

/// How long to try to leave when batches had to be rolled back.
const LEAVE: Duration = Duration::from_secs(1);

/// A running daemon. Dropping it stops the projections too, each after the batch in hand, without
/// waiting for them; [`shutdown`](Self::shutdown) waits.
#[derive(Debug)]
#[must_use = "dropping the handle stops the daemon"]
pub struct DaemonHandle<S> {
    monitor: Monitor,
    projections: Projections<S>,
    common: Arc<Common<S>>,
    /// Tells the tasks to stop, at the latest when the handle is dropped.
    stop: DropGuard,
    steward: JoinHandle<()>,
}

impl<S: ProjectionStore + 'static> DaemonHandle<S> {
    pub(crate) fn new(
        monitor: Monitor,
        projections: Projections<S>,
        common: Arc<Common<S>>,
        steward: JoinHandle<()>,
    ) -> Self {
        Self {
            monitor,
            projections,
            stop: common.stop.clone().drop_guard(),
            common,
            steward,
        }
    }

    /// Waits until every event at or before `position` that the projection wants is in its read
    /// model: read your own writes. See [`Monitor`] for how projections are named.
    ///
    /// # Errors
    ///
    /// See [`Monitor::wait_until`].
    pub async fn wait_until(&self, name: &str, position: Position) -> Result<(), WaitError> {
        self.monitor.wait_until(name, position).await
    }

    /// As [`wait_until`](Self::wait_until), but not longer than `limit`.
    ///
    /// # Errors
    ///
    /// As [`wait_until`](Self::wait_until), and [`WaitError::TimedOut`].
    pub async fn wait_until_within(
        &self,
        name: &str,
        position: Position,
        limit: Duration,
    ) -> Result<(), WaitError> {
        self.monitor.wait_until_within(name, position, limit).await
    }

    /// Waits for what a client must see, but not longer than `limit`.
    ///
    /// # Errors
    ///
    /// As [`wait_until_within`](Self::wait_until_within).
    pub async fn wait_for(
        &self,
        name: &str,
        token: Token,
        limit: Duration,
    ) -> Result<(), WaitError> {
        self.monitor.wait_for(name, token, limit).await
    }

    /// How a projection is doing, or `None` if this daemon does not run it.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<Status> {
        self.monitor.status(name)
    }

    /// How all projections are doing, in the order they were given.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.monitor.statuses()
    }

    /// Whether all is well, as of now: for a health check.
    #[must_use]
    pub fn health(&self) -> Health {
        self.monitor.health()
    }

    /// Reads statuses and waits for positions, for parts of the program that must not stop the
    /// daemon.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Pauses, resumes, resets, retries, and all else that people decide. This daemon obeys at once,
    /// others within a second.
    #[must_use]
    pub fn projections(&self) -> &Projections<S> {
        &self.projections
    }

    /// Stops: each projection finishes the batch in hand and gives its shards back, so that another
    /// daemon can go on at once. Waits for all of them; if the future is dropped they still stop.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] names the projections that had failed before. The daemon has stopped all
    /// the same.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        self.shutdown_within(Duration::MAX).await
    }

    /// As [`shutdown`](Self::shutdown), but not longer than `limit`: batches that are still open then
    /// are rolled back, and come again when a daemon takes over. Nothing is lost.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(self, limit: Duration) -> Result<(), ShutdownError> {
        let Self {
            monitor,
            common,
            stop,
            mut steward,
            ..
        } = self;
        stop.disarm().cancel();
        if tokio::time::timeout(limit, &mut steward).await.is_err() {
            tracing::warn!(?limit, "batches took too long; rolling them back");
            steward.abort();
            finish(steward).await;
            // If that fails, too, others wait until this node's time has run out.
            let _ = tokio::time::timeout(LEAVE, common.store.leave(common.node)).await;
        }
        verdict(&monitor)
    }

    /// Runs until the process is told to stop (Ctrl-C, on Unix also SIGTERM), then as
    /// [`shutdown_within`](Self::shutdown_within).
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn run_until_signal(self, drain: Duration) -> Result<(), ShutdownError> {
        signals::told_to_stop().await;
        tracing::info!(?drain, "told to stop; finishing the batches in hand");
        self.shutdown_within(drain).await
    }
}

async fn finish(steward: JoinHandle<()>) {
    match steward.await {
        Err(error) if error.is_panic() => tracing::error!(%error, "the daemon panicked"),
        _ => {}
    }
}

fn verdict(monitor: &Monitor) -> Result<(), ShutdownError> {
    let failures: Vec<_> = monitor
        .statuses()
        .into_iter()
        .filter_map(|status| Some((status.projection, status.failure?)))
        .collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(ShutdownError { failures }),
    }
}
