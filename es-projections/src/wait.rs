//! Reading how projections are doing, and waiting for a position.

use std::{sync::Arc, time::Duration};

use es_core::Position;
use tokio::sync::watch;

use crate::{Failure, FailureKind, State, Status, WaitError};

/// Reads a daemon's statuses and waits for positions. Cheap to clone: give one to each request
/// handler. It keeps nothing running.
///
/// A projection is named by its name, or by name and version (`"room_occupancy v2"`). If a daemon
/// runs several versions of one name, the bare name means the oldest: the one that serves while a
/// newer one is built.
#[derive(Debug, Clone)]
pub struct Monitor {
    statuses: Arc<[watch::Receiver<Status>]>,
}

impl Monitor {
    pub(crate) fn new(statuses: Vec<watch::Receiver<Status>>) -> Self {
        Self {
            statuses: statuses.into(),
        }
    }

    /// How a projection is doing, or `None` if this daemon does not run it.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<Status> {
        self.find(name).map(|status| status.borrow().clone())
    }

    /// How all projections are doing, in the order they were given.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.statuses
            .iter()
            .map(|status| status.borrow().clone())
            .collect()
    }

    /// Waits until every event at or before `position` that the projection wants is in its read
    /// model: read your own writes. Returns at once if it is so already. Dropping the future is safe.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if the projection is unknown, or failed or stopped before it got there.
    pub async fn wait_until(&self, name: &str, position: Position) -> Result<(), WaitError> {
        let mut receiver = self.find(name).ok_or_else(|| self.unknown(name))?.clone();
        let seen = receiver
            .wait_for(|status| status.position >= position || status.state.is_final())
            .await
            .map(|status| status.clone());
        // An error means that the runner is gone without a last word, as when its runtime ended.
        let reached = seen.unwrap_or_else(|_| receiver.borrow().clone());
        if reached.position >= position {
            return Ok(());
        }
        Err(missed(reached, position))
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
        match tokio::time::timeout(limit, self.wait_until(name, position)).await {
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

    fn find(&self, name: &str) -> Option<&watch::Receiver<Status>> {
        let full_name = self
            .statuses
            .iter()
            .find(|status| status.borrow().projection.to_string() == name);
        full_name.or_else(|| {
            self.statuses
                .iter()
                .filter(|status| status.borrow().projection.name == name)
                .min_by_key(|status| status.borrow().projection.version)
        })
    }

    fn unknown(&self, name: &str) -> WaitError {
        let known: Vec<_> = self
            .statuses
            .iter()
            .map(|status| format!("`{}`", status.borrow().projection))
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

fn missed(status: Status, position: Position) -> WaitError {
    let projection = status.projection;
    if status.state != State::Failed {
        return WaitError::Stopped {
            projection,
            position,
        };
    }
    let source = status.failure.unwrap_or_else(|| {
        Failure::new(
            FailureKind::Infrastructure,
            status.last_error.unwrap_or_default(),
        )
    });
    WaitError::Failed {
        projection,
        position,
        source,
    }
}
