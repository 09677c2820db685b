//! Events that a projection put aside instead of applying them.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Failure, Name, Position, ProjectionId, RecordedEvent, StreamId, Version};

/// An event that a projection put aside. It refers to the event; the content stays in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "parked event")]
pub struct DeadLetter {
    /// The projection.
    pub projection: ProjectionId,
    /// The event.
    pub event_id: Uuid,
    /// Its position.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub event_version: Version,
    /// Its type.
    pub event_type: Name,
    /// Whether it waits, or is passed over for good.
    pub state: LetterState,
    /// Why it is here.
    pub failure: Failure,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether somebody asked that it be tried again.
    pub retry: bool,
    /// Whether its effects are to be emitted when it is applied one day. They are not if another version of
    /// the projection, or this one before it was moved back, has emitted them.
    pub owed: bool,
    /// When it was put aside, and when it was tried last: written by the store's clock, whatever
    /// stands here when it is put there.
    pub since: DateTime<Utc>,
    /// See [`since`](Self::since).
    pub tried: DateTime<Utc>,
}

impl DeadLetter {
    /// Puts `event` aside. Nobody has asked for a retry, and no effects are owed.
    #[must_use]
    pub fn new(
        projection: ProjectionId,
        event: &RecordedEvent,
        state: LetterState,
        failure: Failure,
        attempts: u32,
    ) -> Self {
        Self {
            projection,
            event_id: event.event_id,
            position: event.position,
            stream: StreamId::new(event.aggregate_type.clone(), event.aggregate_id),
            event_version: event.event_version,
            event_type: event.event_type.clone(),
            state,
            failure,
            attempts,
            retry: false,
            owed: false,
            since: event.created_at,
            tried: event.created_at,
        }
    }
}

/// What becomes of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterState {
    /// It waits for a retry, and later events of its aggregate wait behind it.
    Parked,
    /// It was passed over: its aggregate went on without it. Kept for the record.
    Skipped,
}

impl LetterState {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Skipped => "skipped",
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Parked, Self::Skipped]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl fmt::Display for LetterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which dead letters are wanted, by position.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Letters {
    /// Those of this projection only.
    pub projection: Option<ProjectionId>,
    /// Those of this aggregate only.
    pub aggregate_id: Option<Uuid>,
    /// Those in this state only.
    pub state: Option<LetterState>,
    /// Those at a later position only: where the last page ended.
    pub after: Position,
}

impl Letters {
    /// Those of one projection.
    #[must_use]
    pub fn of(projection: ProjectionId) -> Self {
        Self {
            projection: Some(projection),
            ..Self::default()
        }
    }

    /// Only those of one aggregate.
    #[must_use]
    pub fn aggregate(mut self, aggregate_id: Uuid) -> Self {
        self.aggregate_id = Some(aggregate_id);
        self
    }

    /// Only those in one state.
    #[must_use]
    pub fn in_state(mut self, state: LetterState) -> Self {
        self.state = Some(state);
        self
    }

    /// Only those at a later position.
    #[must_use]
    pub fn after(mut self, position: Position) -> Self {
        self.after = position;
        self
    }
}

/// An aggregate whose events a projection puts aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parked {
    /// The aggregate.
    pub aggregate_id: Uuid,
    /// Whether somebody asked that its letters be tried again.
    pub retry: bool,
}
