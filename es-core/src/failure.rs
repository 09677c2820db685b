//! Why a projection stopped, or why an event was put aside: kept in the database as JSON.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BoxError, Chain, DecodeError, Position, RecordedEvent};

/// Why a projection stopped, or why an event was put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The position of the event at which it happened, if it was an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The type of that event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The id of that event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// The error and its causes, on one line. Never an event's content, unless a handler put it
    /// into its error.
    pub message: String,
}

impl Failure {
    /// A failure that is no single event's.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            position: None,
            event_type: None,
            event_id: None,
            message: message.into(),
        }
    }

    /// That a handler has failed.
    #[must_use]
    pub fn handler(error: &(dyn Error + 'static)) -> Self {
        Self::new(FailureKind::Handler, Chain(error).to_string())
    }

    /// The same, at this event.
    #[must_use]
    pub fn at(mut self, event: &RecordedEvent) -> Self {
        self.position = Some(event.position);
        self.event_type = Some(event.event_type.to_string());
        self.event_id = Some(event.event_id);
        self
    }

    /// That an event cannot be read.
    #[must_use]
    pub fn decode(error: &DecodeError) -> Self {
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

impl Error for Failure {}

/// An error that passes by itself: a service that does not answer, a lock that is taken.
///
/// A handler that returns it is tried again for ever, with growing pauses, and no event is put aside for it.
/// What comes from the store's own driver need not be wrapped: the store knows it.
///
/// ```
/// use es_core::{BoxError, Transient};
///
/// fn answered(status: u16) -> Result<(), BoxError> {
///     match status {
///         200 => Ok(()),
///         429 | 503 => Err(Transient::new("the search service is busy").into()),
///         other => Err(format!("the search service answered {other}").into()),
///     }
/// }
///
/// assert!(Transient::is_in(&*answered(503).unwrap_err()));
/// assert!(!Transient::is_in(&*answered(400).unwrap_err()));
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Transient(BoxError);

impl Transient {
    /// Says that `error` will pass.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// Whether `error`, or one of its causes, says so.
    #[must_use]
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// An earlier event of the same aggregate was put aside; this one waits behind it.
    Behind,
    /// More aggregates would have been parked than the settings allow.
    TooManyParked,
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
            Self::Behind => "an earlier event of its aggregate is parked",
            Self::TooManyParked => "too many aggregates are parked",
            Self::Diverged => "the checkpoint does not belong to this log",
            Self::OtherEventTypes => "the event types have changed",
            Self::Infrastructure => "the store failed",
        })
    }
}
