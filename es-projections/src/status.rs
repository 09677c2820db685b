//! How a projection is doing.

use std::{fmt, time::Duration};

use es_core::{Blocker, Failure, Lifecycle, Position, ProjectionId};

/// How a projection is doing, at one moment, as this daemon sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The projection.
    pub projection: ProjectionId,
    /// What it is doing; with several shards, the least advanced of them.
    pub state: State,
    /// Whether its read model is the one that is served.
    pub active: bool,
    /// Every event at or before it that the projection wants is in the read model. It may be ahead
    /// of the stored checkpoint while only foreign events come in.
    pub position: Position,
    /// How far the log was known to be settled.
    pub head: Position,
    /// How old the oldest event is that it has not applied yet; nothing when it has seen everything, and
    /// not known of what other nodes run.
    pub behind: Option<Duration>,
    /// How many events this daemon has applied and seen committed since it started.
    pub events_applied: u64,
    /// Events applied by this daemon per second, over the last seconds.
    pub events_per_second: f64,
    /// How long it will take to reach the head at the present speed, while it is catching up.
    pub time_left: Option<Duration>,
    /// How many aggregates are parked, as far as this daemon runs them.
    pub parked: usize,
    /// The last error and its causes, until something works again.
    pub last_error: Option<String>,
    /// Why it has failed.
    pub failure: Option<Failure>,
    /// The names of the nodes that run it, each once.
    pub owners: Vec<String>,
    /// Its parts.
    pub shards: Vec<ShardStatus>,
    /// The transaction that keeps readers from the end of the log, if any does.
    pub blocker: Option<Blocker>,
}

/// How one part of a projection is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ShardStatus {
    /// Which part.
    pub index: u32,
    /// What it is doing.
    pub state: State,
    /// Where it is.
    pub position: Position,
    /// The name of the node that runs it.
    pub owner: Option<String>,
}

impl Status {
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
        if self.parked > 0 {
            write!(f, ", {} aggregates parked", self.parked)?;
        }
        if let Some(left) = self.time_left {
            write!(f, ", {} s left", left.as_secs())?;
        }
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
    /// It has stopped at a failure and waits to be [resumed](crate::Projections::resume).
    Failed,
    /// Somebody told it to wait.
    Paused,
    /// A newer version has taken its place.
    Retired,
    /// Somebody took it out of service.
    Detached,
    /// It runs inside the appends.
    Inline,
    /// It has not reached its checkpoint yet.
    Starting,
    /// Another node runs it. This one takes over when that one stops.
    StandingBy,
    /// It is built beside the version that is served.
    Rebuilding,
    /// It applies events of the past.
    CatchingUp,
    /// It has seen everything and waits for more.
    Live,
    /// This daemon has stopped.
    Stopped,
}

impl State {
    /// Whether somebody must do something before it goes on, here or elsewhere.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Failed | Self::Paused | Self::Retired | Self::Detached | Self::Stopped
        )
    }

    pub(crate) fn of(lifecycle: Lifecycle) -> Self {
        match lifecycle {
            Lifecycle::Paused => Self::Paused,
            Lifecycle::Failed => Self::Failed,
            Lifecycle::Retired => Self::Retired,
            Lifecycle::Detached => Self::Detached,
            Lifecycle::Inline => Self::Inline,
            _ => Self::Starting,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Retired => "retired",
            Self::Detached => "detached",
            Self::Inline => "inline",
            Self::Starting => "starting",
            Self::StandingBy => "standing by",
            Self::Rebuilding => "rebuilding",
            Self::CatchingUp => "catching up",
            Self::Live => "live",
            Self::Stopped => "stopped",
        })
    }
}
