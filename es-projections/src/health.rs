//! Whether a daemon is well.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use es_core::{Horizon, Position, ProjectionId};

use crate::status::{State, Status};

/// Whether a daemon is well, for a health check: red also when a loop stands still, with no lag to be
/// seen and nothing to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// What is wrong; nothing if all is well.
    pub complaints: Vec<Complaint>,
}

impl Health {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.complaints.is_empty()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_green() {
            return f.write_str("green");
        }
        f.write_str("red: ")?;
        for (index, complaint) in self.complaints.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{complaint}")?;
        }
        Ok(())
    }
}

/// Something that is wrong with a daemon.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Complaint {
    /// A projection has failed.
    Failed {
        /// The projection.
        projection: ProjectionId,
        /// Why.
        message: String,
    },
    /// A projection's loop has not come round for too long.
    StandsStill {
        /// The projection.
        projection: ProjectionId,
        /// Which of its parts.
        shard: u32,
        /// For how long.
        since: Duration,
    },
    /// The node could not say for too long that it is alive: the store does not answer, or the process
    /// has no time.
    NoPulse {
        /// For how long.
        since: Duration,
        /// What the store said last, if it said anything.
        error: Option<String>,
    },
    /// The end of the log moves, or somebody keeps it from moving, and what can be read of it does not.
    HorizonStandsStill {
        /// Up to where the log can be read.
        settled: Position,
        /// For how long it has been there.
        since: Duration,
        /// Who holds it, with pid and age, as far as it is known.
        blocker: Option<String>,
    },
    /// A projection has nobody to run it, or its owner does not get on, while there is work.
    NoProgress {
        /// The projection.
        projection: ProjectionId,
        /// Where it is.
        position: Position,
        /// For how long.
        since: Duration,
    },
    /// The version of a projection that is served is run by no living node, so its read model stays as it
    /// is: what should take its place has not, which the status of that one explains.
    NotRun {
        /// The version that is served.
        projection: ProjectionId,
        /// For how long.
        since: Duration,
    },
    /// The daemon has stopped.
    Stopped,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed {
                projection,
                message,
            } => write!(f, "{projection} has failed: {message}"),
            Self::StandsStill {
                projection,
                shard,
                since,
            } => write!(
                f,
                "the loop of {projection}/{shard} has stood still for {} s",
                since.as_secs()
            ),
            Self::NoPulse { since, error } => {
                write!(f, "the store has not answered for {} s", since.as_secs())?;
                match error {
                    Some(error) => write!(f, ": {error}"),
                    None => Ok(()),
                }
            }
            Self::HorizonStandsStill {
                settled,
                since,
                blocker,
            } => {
                let seconds = since.as_secs();
                write!(f, "nothing can be read after {settled} for {seconds} s")?;
                match blocker {
                    Some(blocker) => write!(f, ", because of {blocker}"),
                    None => Ok(()),
                }
            }
            Self::NoProgress {
                projection,
                position,
                since,
            } => write!(
                f,
                "{projection} has stayed at {position} for {} s, with work to do",
                since.as_secs()
            ),
            Self::NotRun { projection, since } => write!(
                f,
                "{projection} is served, and no node has run it for {} s",
                since.as_secs()
            ),
            Self::Stopped => f.write_str("the daemon has stopped"),
        }
    }
}

/// The node's own signs of life.
#[derive(Debug)]
pub(crate) struct Pulse {
    seen: Mutex<Seen>,
    stall_after: Duration,
}

#[derive(Debug)]
struct Seen {
    beaten: Instant,
    error: Option<String>,
    /// Since when the log could be read up to here and not to its end.
    held: Option<(Position, Instant)>,
    blocker: Option<String>,
    /// Since when each projection has been where it is, with work to do.
    stuck: Vec<(ProjectionId, Position, Instant)>,
    /// Since when nobody runs what is served.
    forsaken: Vec<(ProjectionId, Instant)>,
}

impl Pulse {
    pub(crate) fn new(stall_after: Duration) -> Self {
        let seen = Seen {
            beaten: Instant::now(),
            error: None,
            held: None,
            blocker: None,
            stuck: Vec::new(),
            forsaken: Vec::new(),
        };
        Self {
            seen: Mutex::new(seen),
            stall_after,
        }
    }

    pub(crate) fn stall_after(&self) -> Duration {
        self.stall_after
    }

    pub(crate) fn beaten(&self) {
        let mut seen = self.lock();
        seen.beaten = Instant::now();
        seen.error = None;
    }

    pub(crate) fn error(&self, message: String) {
        self.lock().error = Some(message);
    }

    /// How everything stands, from time to time.
    pub(crate) fn look(&self, horizon: &Horizon, statuses: &[Status]) {
        self.horizon(horizon);
        let mut seen = self.lock();
        let before = std::mem::take(&mut seen.stuck);
        for status in statuses.iter().filter(|status| has_work(status)) {
            let (id, position) = (&status.projection, status.position);
            let known = before
                .iter()
                .find(|(known, at, _)| known == id && *at == position);
            let since = known.map_or_else(Instant::now, |(_, _, since)| *since);
            seen.stuck.push((id.clone(), position, since));
        }
    }

    /// What is served here under names that this node knows, and run by nobody.
    pub(crate) fn forsaken(&self, now: Vec<ProjectionId>) {
        let mut seen = self.lock();
        let before = std::mem::take(&mut seen.forsaken);
        seen.forsaken = now
            .into_iter()
            .map(|id| {
                let known = before.iter().find(|(known, _)| *known == id);
                let since = known.map_or_else(Instant::now, |(_, since)| *since);
                (id, since)
            })
            .collect();
    }

    fn horizon(&self, horizon: &Horizon) {
        let mut seen = self.lock();
        let blocked = horizon.settled < horizon.end || horizon.blocker.is_some();
        seen.held = match seen.held {
            Some((settled, since)) if blocked && settled == horizon.settled => {
                Some((settled, since))
            }
            _ => blocked.then(|| (horizon.settled, Instant::now())),
        };
        seen.blocker = horizon.blocker.as_ref().map(|blocker| {
            let age = blocker.age.as_secs();
            let name = &blocker.name;
            match blocker.pid {
                Some(pid) => format!("`{name}`, pid {pid}, whose transaction is {age} s old"),
                None => format!("the prepared transaction `{name}`, {age} s old"),
            }
        });
    }

    /// What is wrong with the node itself, and which projections do not move.
    pub(crate) fn complaints(&self, statuses: &[Status]) -> Vec<Complaint> {
        if statuses.iter().all(|status| status.state == State::Stopped) && !statuses.is_empty() {
            return vec![Complaint::Stopped];
        }
        let seen = self.lock();
        let mut complaints = Vec::new();
        let since = seen.beaten.elapsed();
        if since > self.stall_after {
            let error = seen.error.clone();
            complaints.push(Complaint::NoPulse { since, error });
        }
        if let Some((settled, since)) = seen.held
            && since.elapsed() > self.stall_after
        {
            complaints.push(Complaint::HorizonStandsStill {
                settled,
                since: since.elapsed(),
                blocker: seen.blocker.clone(),
            });
        }
        for (projection, position, since) in &seen.stuck {
            if since.elapsed() > self.stall_after {
                complaints.push(Complaint::NoProgress {
                    projection: projection.clone(),
                    position: *position,
                    since: since.elapsed(),
                });
            }
        }
        for (projection, since) in &seen.forsaken {
            if since.elapsed() > self.stall_after {
                complaints.push(Complaint::NotRun {
                    projection: projection.clone(),
                    since: since.elapsed(),
                });
            }
        }
        complaints
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_work(status: &Status) -> bool {
    status.lag() > 0 && !status.state.is_final() && status.state != State::Inline
}
