//! Reading how projections are doing, and waiting for a position.

use std::{sync::Arc, time::Duration};

use es_core::{
    Chain, Failure, FailureKind, Lifecycle, Position, ProjectionId, ProjectionStore, Standing,
};
use futures::future::BoxFuture;
use tokio::time::{sleep, timeout};

use crate::{
    Complaint, Health, State, Status, Token, WaitError,
    board::{Board, Gate},
    health::Pulse,
};

/// How often somebody who waits for what another node runs looks at its checkpoint.
const LOOK: Duration = Duration::from_millis(10);

/// Reads a daemon's statuses and waits for positions. Cheap to clone: give one to each request
/// handler. It keeps nothing running.
///
/// A projection is named by its name, or by name and version (`"room_occupancy v2"`). If a daemon
/// runs several versions of one name, the bare name means the one that is served.
#[derive(Clone)]
pub struct Monitor {
    boards: Arc<[Arc<Board>]>,
    pulse: Arc<Pulse>,
    checkpoints: Arc<dyn Checkpoints>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

/// Any store, to look up what other nodes do, and what was decided.
pub(crate) trait Checkpoints: Send + Sync {
    /// `None` also if the store does not answer.
    fn look_up<'a>(&'a self, projection: &'a ProjectionId) -> BoxFuture<'a, Option<Stands>>;
    /// The version of this name that is served.
    fn served<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Served>;
}

/// What is served under a name.
#[derive(Debug)]
pub(crate) enum Served {
    /// The store does not answer.
    NotKnown,
    /// There is no such name, or nothing is served.
    Nothing,
    Version(Stands),
}

/// Where a projection stands in the database.
#[derive(Debug, Clone)]
pub(crate) struct Stands {
    projection: ProjectionId,
    /// Of its slowest shard.
    position: Position,
    /// What one of its shards is doing instead of running.
    rests: Option<Lifecycle>,
    failure: Option<Failure>,
}

impl Stands {
    fn of<'a>(rows: impl Iterator<Item = &'a Standing> + Clone) -> Option<Self> {
        let first = rows.clone().next()?;
        let mut lifecycles = rows.clone().map(|row| row.lifecycle);
        Some(Self {
            projection: first.shard.projection.clone(),
            position: rows.clone().map(|row| row.position).min()?,
            rests: lifecycles.find(|lifecycle| !lifecycle.is_running()),
            failure: rows.clone().find_map(|row| row.failure.clone()),
        })
    }
}

impl<S: ProjectionStore> Checkpoints for S {
    fn look_up<'a>(&'a self, projection: &'a ProjectionId) -> BoxFuture<'a, Option<Stands>> {
        Box::pin(async move {
            let rows = rows(self, &projection.name).await?;
            let rows = rows
                .iter()
                .filter(|row| row.shard.projection == *projection);
            Stands::of(rows)
        })
    }

    fn served<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Served> {
        Box::pin(async move {
            let Some(rows) = rows(self, name).await else {
                return Served::NotKnown;
            };
            let served = Stands::of(rows.iter().filter(|row| row.active));
            served.map_or(Served::Nothing, Served::Version)
        })
    }
}

async fn rows<S: ProjectionStore>(store: &S, name: &str) -> Option<Vec<Standing>> {
    match store.standings(Some(name)).await {
        Ok(rows) => Some(rows),
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "could not look up a checkpoint");
            None
        }
    }
}

impl Monitor {
    pub(crate) fn new(
        boards: Arc<[Arc<Board>]>,
        pulse: Arc<Pulse>,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Self {
        Self {
            boards,
            pulse,
            checkpoints,
        }
    }

    /// How a projection is doing, or `None` if this daemon does not run it.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<Status> {
        self.find(name).map(|board| board.status())
    }

    /// How all projections are doing, in the order they were given.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.boards.iter().map(|board| board.status()).collect()
    }

    /// Whether all is well, as of now: for a health check.
    #[must_use]
    pub fn health(&self) -> Health {
        let statuses = self.statuses();
        let mut complaints = self.pulse.complaints(&statuses);
        for status in &statuses {
            if let Some(failure) = &status.failure {
                complaints.push(Complaint::Failed {
                    projection: status.projection.clone(),
                    message: failure.to_string(),
                });
            }
        }
        for board in &*self.boards {
            for (shard, since) in board.standing_still(self.pulse.stall_after()) {
                complaints.push(Complaint::StandsStill {
                    projection: board.projection.clone(),
                    shard,
                    since,
                });
            }
        }
        Health { complaints }
    }

    /// Waits until every event at or before `position` that the projection wants is in its read
    /// model: read your own writes. Returns at once if it is so already. Dropping the future is safe.
    /// It does not matter which node runs the projection, and a bare name means the version that is served,
    /// also if this daemon runs another one. Events that were parked or skipped are passed over.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if this daemon does not know the projection, or if it has failed, or was paused,
    /// retired, detached or stopped before it got there.
    pub async fn wait_until(&self, name: &str, position: Position) -> Result<(), WaitError> {
        loop {
            let board = self.find(name).ok_or_else(|| self.unknown(name))?;
            let reached = match board.projection.name == name && !board.is_active() {
                true => self.served_elsewhere(board, position).await?,
                false => match self.reach(board, position).await {
                    Ok(()) => true,
                    Err(state) if self.has_hope(name, board, state).await => false,
                    Err(state) => return Err(missed(&board.status(), state, position)),
                },
            };
            if reached {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the version that is served, which this daemon does not run, has come there.
    async fn served_elsewhere(&self, board: &Board, position: Position) -> Result<bool, WaitError> {
        if board.status().state == State::Stopped {
            return Err(missed(&board.status(), State::Stopped, position));
        }
        let served = match self.checkpoints.served(&board.projection.name).await {
            Served::Version(served) => served,
            Served::NotKnown => return Ok(false),
            Served::Nothing => return Err(missed(&board.status(), State::Detached, position)),
        };
        match served.rests {
            _ if served.position >= position => Ok(true),
            // Another version is about to take its place.
            None | Some(Lifecycle::Retired) => Ok(false),
            Some(lifecycle) => Err(match served.failure {
                Some(source) => WaitError::Failed {
                    projection: served.projection,
                    position,
                    source,
                },
                None => WaitError::NotRunning {
                    projection: served.projection,
                    position,
                    state: State::of(lifecycle),
                },
            }),
        }
    }

    /// Waits for a position, or for a state in which it is not reached.
    async fn reach(&self, board: &Board, position: Position) -> Result<(), State> {
        board.ask(position);
        let mut gates = board.watch();
        let done = |gate: &Gate| {
            gate.position >= position || gate.state.is_final() || gate.state == State::Inline
        };
        let moved = |gate: &Gate, elsewhere| gate.elsewhere != elsewhere;
        let gate = loop {
            // What other nodes do is only heard of now and then.
            let elsewhere = gates.borrow().elsewhere;
            let patience = if elsewhere { LOOK } else { Duration::MAX };
            let changed = gates.wait_for(|gate| done(gate) || moved(gate, elsewhere));
            let seen = timeout(patience, changed).await;
            match seen.map(|gate| gate.map(|gate| gate.clone())) {
                Ok(Ok(gate)) if done(&gate) => break gate,
                Ok(Ok(_)) => {}
                // The daemon is gone without a last word, as when its runtime ended.
                Ok(Err(_)) => break board.watch().borrow().clone(),
                Err(_) => {
                    let stands = self.checkpoints.look_up(&board.projection).await;
                    if stands.is_some_and(|stands| stands.position >= position) {
                        return Ok(());
                    }
                }
            }
        };
        match gate.position >= position || gate.state == State::Inline {
            true => Ok(()),
            false => Err(gate.state),
        }
    }

    /// Whether it may get there all the same, because this daemon does not know yet what was decided.
    async fn has_hope(&self, name: &str, board: &Board, state: State) -> bool {
        match state {
            State::Stopped => false,
            // The name means the version that takes its place.
            State::Retired if board.projection.name == name => true,
            _ => {
                let stands = self.checkpoints.look_up(&board.projection).await;
                stands.is_some_and(|stands| stands.rests.is_none())
            }
        }
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
        match timeout(limit, self.wait_until(name, position)).await {
            Ok(result) => result,
            Err(_) => match self.status(name) {
                None => Err(self.unknown(name)),
                Some(status) => Err(WaitError::TimedOut {
                    projection: status.projection,
                    position,
                    reached: status.position,
                }),
            },
        }
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
        self.wait_until_within(name, token.position(), limit).await
    }

    fn find(&self, name: &str) -> Option<&Arc<Board>> {
        let full_name = self
            .boards
            .iter()
            .find(|board| board.projection.to_string() == name);
        full_name.or_else(|| {
            let versions = self
                .boards
                .iter()
                .filter(|board| board.projection.name == name);
            versions.min_by_key(|board| (!board.is_active(), board.projection.version))
        })
    }

    fn unknown(&self, name: &str) -> WaitError {
        let known: Vec<_> = self
            .boards
            .iter()
            .map(|board| format!("`{}`", board.projection))
            .collect();
        WaitError::Unknown {
            name: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        }
    }
}

fn missed(status: &Status, state: State, position: Position) -> WaitError {
    let projection = status.projection.clone();
    match state {
        State::Failed => WaitError::Failed {
            projection,
            position,
            source: status.failure.clone().unwrap_or_else(|| {
                let message = status.last_error.clone().unwrap_or_default();
                Failure::new(FailureKind::Infrastructure, message)
            }),
        },
        State::Stopped => WaitError::Stopped {
            projection,
            position,
        },
        state => WaitError::NotRunning {
            projection,
            position,
            state,
        },
    }
}
