//! How a projection is doing.

use std::fmt;

use es_core::{Position, ProjectionId};
use tokio::sync::watch;

use crate::Failure;

/// How a projection is doing, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The projection.
    pub projection: ProjectionId,
    /// What it is doing.
    pub state: State,
    /// Every event at or before it that the projection wants is in the read model. It may be ahead
    /// of the stored checkpoint while only foreign events come in.
    pub position: Position,
    /// How far the log was known to be settled when this was written.
    pub head: Position,
    /// How many events this daemon has applied and seen committed since it started.
    pub events_applied: u64,
    /// The last error and its causes, until something works again.
    pub last_error: Option<String>,
    /// Why it stopped, if its state is [`State::Failed`].
    pub failure: Option<Failure>,
}

impl Status {
    pub(crate) fn new(projection: ProjectionId) -> Self {
        Self {
            projection,
            state: State::Starting,
            position: Position::START,
            head: Position::START,
            events_applied: 0,
            last_error: None,
            failure: None,
        }
    }

    /// How many events it may still have to apply: an upper bound, as positions have holes and other
    /// projections' events count.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.head.get().saturating_sub(self.position.get())
    }
}

/// One line: `room_occupancy v1: live at 120 of 120, 40 events applied`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            projection,
            state,
            position,
            head,
            events_applied,
            ..
        } = self;
        write!(
            f,
            "{projection}: {state} at {position} of {head}, {events_applied} events applied"
        )?;
        match &self.last_error {
            Some(error) => write!(f, "; {error}"),
            None => Ok(()),
        }
    }
}

/// What a projection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It has not reached its checkpoint yet.
    Starting,
    /// Another daemon runs it. This one takes over when that one stops.
    WaitingForLease,
    /// It applies events of the past.
    CatchingUp,
    /// It has seen everything and waits for more.
    Live,
    /// It stopped at a failure.
    Failed,
    /// It was told to stop.
    Stopped,
}

impl State {
    /// Whether it will not go on in this daemon.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Stopped)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::WaitingForLease => "waiting for its lease",
            Self::CatchingUp => "catching up",
            Self::Live => "live",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// Where a runner says how it is doing. A watch channel: readers see the newest, and miss no end.
#[derive(Debug)]
pub(crate) struct Board(watch::Sender<Status>);

impl Board {
    pub(crate) fn new(projection: ProjectionId) -> (Self, watch::Receiver<Status>) {
        let (sender, receiver) = watch::channel(Status::new(projection));
        (Self(sender), receiver)
    }

    pub(crate) fn state(&self, state: State) {
        self.0.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }

    /// Everything up to `position` is in the read model.
    pub(crate) fn reached(&self, position: Position) {
        self.0.send_modify(|status| {
            status.position = position;
            status.head = status.head.max(position);
        });
    }

    pub(crate) fn head(&self, head: Position) {
        self.0.send_modify(|status| status.head = head);
    }

    pub(crate) fn applied(&self, events: usize, position: Position) {
        self.0.send_modify(|status| {
            status.events_applied += events as u64;
            status.position = position;
            status.head = status.head.max(position);
            status.last_error = None;
        });
    }

    pub(crate) fn works(&self) {
        self.0
            .send_if_modified(|status| status.last_error.take().is_some());
    }

    pub(crate) fn error(&self, message: String) {
        self.0
            .send_modify(|status| status.last_error = Some(message));
    }

    pub(crate) fn failed(&self, failure: Failure) {
        self.0.send_modify(|status| {
            status.state = State::Failed;
            status.last_error = Some(failure.message.clone());
            status.failure = Some(failure);
        });
    }
}
