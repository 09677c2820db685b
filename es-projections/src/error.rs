//! Why a daemon did not start, why a projection stopped, why a wait ended.

use std::fmt;

use es_core::{
    BoxError, Chain, CheckpointError, DecodeError, Position, ProjectionId, ReadError, RecordedEvent,
};
use uuid::Uuid;

/// Why a projection stopped for good. It goes on from the same place when a daemon starts it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The position of the event at which it stopped, if it was an event.
    pub position: Option<Position>,
    /// The type of that event.
    pub event_type: Option<String>,
    /// The id of that event.
    pub event_id: Option<Uuid>,
    /// The error and its causes, on one line. Never an event's content, unless a handler put it
    /// into its error.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: String) -> Self {
        Self {
            kind,
            position: None,
            event_type: None,
            event_id: None,
            message,
        }
    }

    pub(crate) fn at(mut self, event: &RecordedEvent) -> Self {
        self.position = Some(event.position);
        self.event_type = Some(event.event_type.to_string());
        self.event_id = Some(event.event_id);
        self
    }

    pub(crate) fn decode(error: &DecodeError) -> Self {
        let kind = match error {
            DecodeError::UnknownType { .. } => FailureKind::UnknownType,
            DecodeError::NewerSchema { .. } => FailureKind::NewerSchema,
            _ => FailureKind::Undecodable,
        };
        Self::new(kind, Chain(error).to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.position, &self.event_type) {
            (Some(position), Some(event_type)) => {
                write!(f, "{} at `{event_type}`, position {position}: ", self.kind)?;
            }
            _ => write!(f, "{}: ", self.kind)?,
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What kind of failure stopped a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error, also when it was tried again.
    Handler,
    /// The handler, or the reading of an event, panicked.
    Panicked,
    /// An event does not have the shape that this program knows.
    Undecodable,
    /// An event has a type that this program does not know.
    UnknownType,
    /// An event was written by a newer program.
    NewerSchema,
    /// The checkpoint does not belong to this log: a backup was restored.
    Diverged,
    /// The projection wants other event types than its read model was built from.
    OtherEventTypes,
    /// The store failed in a way that waiting does not cure.
    Infrastructure,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handler => "the handler failed",
            Self::Panicked => "panicked",
            Self::Undecodable => "the event could not be read",
            Self::UnknownType => "the event's type is unknown",
            Self::NewerSchema => "the event is from a newer program",
            Self::Diverged => "the checkpoint does not belong to this log",
            Self::OtherEventTypes => "the event types have changed",
            Self::Infrastructure => "the store failed",
        })
    }
}

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
        /// What its `set_up` said.
        source: BoxError,
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
        matches!(self, Self::Store { source, .. } if source.is_retryable())
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
        "projection `{projection}` has stopped before position {position}; restart it after the repair"
    )]
    Failed {
        /// The projection.
        projection: ProjectionId,
        /// The position that was waited for.
        position: Position,
        /// Why it stopped.
        source: Failure,
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

/// Why work on a claim ended.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Another runner has the projection.
    Fenced,
    /// The store did not answer, or its answer was lost: read the checkpoint again.
    Unavailable(String),
    /// It makes no sense to go on.
    Failed(Failure),
}

impl From<CheckpointError> for Problem {
    fn from(error: CheckpointError) -> Self {
        let message = Chain(&error).to_string();
        let kind = match error {
            CheckpointError::Fenced { .. } | CheckpointError::Held { .. } => return Self::Fenced,
            CheckpointError::Backend { .. } => return Self::Unavailable(message),
            CheckpointError::AheadOfLog { .. } | CheckpointError::Diverged { .. } => {
                FailureKind::Diverged
            }
            CheckpointError::OtherEventTypes { .. } => FailureKind::OtherEventTypes,
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
