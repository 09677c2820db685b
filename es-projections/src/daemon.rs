//! Many projections on one store, started and stopped together.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use es_core::{Position, Project, ProjectionId, ProjectionStore};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    Monitor, Settings, ShutdownError, StartError, Status, WaitError, batch::Batches,
    runner::Runner, status::Board,
};

/// Runs projections on a store. Any number of daemons may run on one database: each projection is
/// run by one of them at a time, and taken over when that one stops.
#[must_use = "nothing runs before `start`"]
pub struct Daemon<S> {
    store: Arc<S>,
    settings: Settings,
    projections: Vec<(ProjectionId, Box<dyn Prepare<S>>)>,
}

impl<S: ProjectionStore + 'static> Daemon<S> {
    /// A daemon without projections yet.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            settings: Settings::default(),
            projections: Vec::new(),
        }
    }

    /// Changes how it behaves.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Adds a projection.
    pub fn run<P: Project<S::Connection>>(mut self, projection: P) -> Self {
        let id = ProjectionId::of::<P>();
        self.projections.push((id, Box::new(New(projection))));
        self
    }

    /// Sets up the read models, one after the other, then starts all projections as tasks on the
    /// current tokio runtime. If the future is dropped nothing is started.
    ///
    /// A projection that fails later stops alone; see [`Status`].
    ///
    /// # Errors
    ///
    /// [`StartError`], of the first projection that could not be set up; then none is running.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub async fn start(self) -> Result<DaemonHandle, StartError> {
        let mut seen = HashSet::new();
        if let Some((twice, _)) = self.projections.iter().find(|(id, _)| !seen.insert(id)) {
            return Err(StartError::Duplicate {
                projection: twice.clone(),
            });
        }

        let mut ready = Vec::with_capacity(self.projections.len());
        for (id, projection) in self.projections {
            let store = Arc::clone(&self.store);
            ready.push((id, projection.prepare(store, self.settings.clone()).await?));
        }

        let stop = CancellationToken::new();
        let owner = Uuid::now_v7();
        let mut tasks = Vec::with_capacity(ready.len());
        let mut statuses = Vec::with_capacity(ready.len());
        for (id, launch) in ready {
            let span = tracing::info_span!("projection", projection = %id);
            let (board, status) = Board::new(id);
            let runner = launch(owner, board, stop.clone());
            tasks.push(tokio::spawn(runner.instrument(span)));
            statuses.push(status);
        }
        Ok(DaemonHandle {
            monitor: Monitor::new(statuses),
            stop: stop.drop_guard(),
            tasks,
        })
    }
}

impl<S> fmt::Debug for Daemon<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let projections: Vec<_> = self.projections.iter().map(|(id, _)| id).collect();
        f.debug_struct("Daemon")
            .field("projections", &projections)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A running daemon. Dropping it stops the projections too, each after the batch in hand, without
/// waiting for them; [`shutdown`](Self::shutdown) waits.
#[derive(Debug)]
#[must_use = "dropping the handle stops the daemon"]
pub struct DaemonHandle {
    monitor: Monitor,
    /// Tells the tasks to stop, at the latest when the handle is dropped.
    stop: DropGuard,
    /// One for each projection.
    tasks: Vec<JoinHandle<()>>,
}

impl DaemonHandle {
    /// Waits until every event at or before `position` that the projection wants is in its read
    /// model: read your own writes. See [`Monitor`] for how projections are named.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if the projection is unknown, or failed or stopped before it got there.
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

    /// Reads statuses and waits for positions, for parts of the program that must not stop the
    /// daemon.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Stops: each projection finishes the batch in hand and gives its lease back, so that another
    /// daemon can go on at once. Waits for all of them; if the future is dropped they still stop.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] names the projections that had failed before. The daemon has stopped all
    /// the same.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        self.stop.disarm().cancel();
        for task in self.tasks {
            // A runner catches its panics; what is left is a runtime that is shutting down.
            if let Err(error) = task.await {
                tracing::warn!(%error, "a projection's task ended early");
            }
        }
        let failures: Vec<_> = self
            .monitor
            .statuses()
            .into_iter()
            .filter_map(|status| Some((status.projection, status.failure?)))
            .collect();
        match failures.is_empty() {
            true => Ok(()),
            false => Err(ShutdownError { failures }),
        }
    }
}

/// A projection whose type is forgotten.
trait Prepare<S>: Send + Sync {
    fn prepare(
        self: Box<Self>,
        store: Arc<S>,
        settings: Settings,
    ) -> BoxFuture<'static, Result<Launch, StartError>>;
}

/// Makes the task of a projection that is set up.
type Launch =
    Box<dyn FnOnce(Uuid, Board, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

struct New<P>(P);

impl<S: ProjectionStore + 'static, P: Project<S::Connection>> Prepare<S> for New<P> {
    fn prepare(
        self: Box<Self>,
        store: Arc<S>,
        settings: Settings,
    ) -> BoxFuture<'static, Result<Launch, StartError>> {
        let batches = Arc::new(Batches::new(store, self.0, settings));
        Box::pin(async move {
            batches.set_up().await?;
            let launch: Launch = Box::new(|owner, board, stop| {
                Box::pin(Runner::new(batches, owner, board, stop).run())
            });
            Ok(launch)
        })
    }
}
