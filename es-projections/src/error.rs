//! Why a daemon did not start, why a wait ended, why a runner stopped.

use std::error::Error;

use es_core::{
    BoxError, Chain, CheckpointError, Failure, FailureKind, Position, ProjectionId,
    ProjectionStore, ReadError, Transient,
};

use crate::{CommandError, State};

/// Why a daemon did not start. Nothing of it is running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// One projection was given twice.
    #[error("projection `{projection}` was given twice; give each a name or version of its own")]
    Duplicate {
        /// The projection.
        projection: ProjectionId,
    },
    /// Creating the read model failed.
    #[error("could not set up the read model of projection `{projection}`")]
    SetUp {
        /// The projection.
        projection: ProjectionId,
        /// Whether starting again may succeed.
        transient: bool,
        /// What its `set_up` said.
        source: BoxError,
    },
    /// The projection cannot be started here.
    #[error("cannot start projection `{projection}`")]
    Refused {
        /// The projection.
        projection: ProjectionId,
        /// Why.
        source: CommandError,
    },
    /// The store failed while a read model was created.
    #[error("could not reach the read model of projection `{projection}`")]
    Store {
        /// The projection.
        projection: ProjectionId,
        /// What the store said.
        source: CheckpointError,
    },
}

impl StartError {
    /// Whether starting again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::SetUp { transient, .. } => *transient,
            Self::Store { source, .. } => source.is_retryable(),
            Self::Refused { source, .. } => source.is_retryable(),
            Self::Duplicate { .. } => false,
        }
    }
}

/// Why a wait for a position ended without it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// This daemon has no such projection.
    #[error("this daemon does not run a projection `{name}`; it was started with {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The projection has failed and will not get there.
    #[error(
        "projection `{projection}` has failed before position {position}; resume it after the repair"
    )]
    Failed {
        /// The projection.
        projection: ProjectionId,
        /// The position that was waited for.
        position: Position,
        /// Why it stopped.
        source: Failure,
    },
    /// Somebody has paused, retired or detached it.
    #[error("projection `{projection}` is {state} and has not come to position {position}")]
    NotRunning {
        /// The projection.
        projection: ProjectionId,
        /// The position that was waited for.
        position: Position,
        /// What it is doing instead.
        state: State,
    },
    /// The daemon has stopped.
    #[error("projection `{projection}` was stopped before position {position}")]
    Stopped {
        /// The projection.
        projection: ProjectionId,
        /// The position that was waited for.
        position: Position,
    },
    /// It took too long. The projection may still get there.
    #[error("projection `{projection}` is at position {reached}, not yet at {position}")]
    TimedOut {
        /// The projection.
        projection: ProjectionId,
        /// The position that was waited for.
        position: Position,
        /// Where it is.
        reached: Position,
    },
}

/// The daemon has stopped, but some projections had failed before.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} projection(s) had failed before the shutdown: {}", failures.len(), list(failures))]
#[non_exhaustive]
pub struct ShutdownError {
    /// Which, and why.
    pub failures: Vec<(ProjectionId, Failure)>,
}

fn list(failures: &[(ProjectionId, Failure)]) -> String {
    let lines: Vec<_> = failures
        .iter()
        .map(|(projection, failure)| format!("`{projection}`: {failure}"))
        .collect();
    lines.join("; ")
}

/// Whether what a projection's own function returned may be gone when it is called again.
pub(crate) fn passes<S: ProjectionStore>(store: &S, error: &(dyn Error + 'static)) -> bool {
    Transient::is_in(error) || store.is_transient(error)
}

/// Why work on a claim ended.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Something was changed on purpose: begin again from the database.
    Restart,
    /// Another node has the shard, or it is not meant to run.
    Fenced(String),
    /// The store did not answer, or its answer was lost: read the checkpoint again.
    Unavailable(String),
    /// It makes no sense to go on.
    Failed(Failure),
}

impl From<CheckpointError> for Problem {
    fn from(error: CheckpointError) -> Self {
        let message = Chain(&error).to_string();
        let kind = match error {
            CheckpointError::Fenced { .. }
            | CheckpointError::Held { .. }
            | CheckpointError::NotAlive { .. }
            | CheckpointError::Unknown { .. }
            | CheckpointError::Inline { .. }
            | CheckpointError::NotRunning { .. } => return Self::Fenced(message),
            CheckpointError::Backend { .. } => return Self::Unavailable(message),
            CheckpointError::AheadOfLog { .. } | CheckpointError::Diverged { .. } => {
                FailureKind::Diverged
            }
            CheckpointError::OtherEventTypes { .. } => FailureKind::OtherEventTypes,
            CheckpointError::Ended { .. } => FailureKind::Handler,
            _ => FailureKind::Infrastructure,
        };
        Self::Failed(Failure::new(kind, message))
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let message = Chain(&error).to_string();
        match error {
            ReadError::Backend { .. } => Self::Unavailable(message),
            _ => Self::Failed(Failure::new(FailureKind::Infrastructure, message)),
        }
    }
}
