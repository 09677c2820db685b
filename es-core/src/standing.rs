//! Where a projection stands in the database, and who is alive to run it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CheckpointError, Failure, Marks, Position, ProjectionId, Shard};

/// Where one shard of a projection stands: a row in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The projection and which part of it.
    pub shard: Shard,
    /// How many parts the projection has.
    pub shards: u32,
    /// The event types it was built from, in order.
    pub event_types: Vec<String>,
    /// Whether events may be applied to its read model a second time.
    pub repeatable: bool,
    /// Everything at or before it is applied.
    pub position: Position,
    /// The last event that was applied, if any: it ties the position to this very log.
    pub anchor: Option<(Position, Uuid)>,
    /// Rises with each change of owner and each change from outside: fences whoever was at work.
    pub epoch: i64,
    /// Who runs it; `None` also if that node is no longer alive.
    pub owner: Option<Uuid>,
    /// What it is meant to be doing.
    pub lifecycle: Lifecycle,
    /// What `resume` makes of it.
    pub before: Lifecycle,
    /// Whether it is the version whose read model is served.
    pub active: bool,
    /// Whether it may take over from the active version once it has caught up.
    pub promote: bool,
    /// Events that were applied before the projection was divided into its present shards.
    pub applied: Marks,
    /// Events whose effects have been emitted already.
    pub silent: Marks,
    /// Why it is [`Lifecycle::Failed`].
    pub failure: Option<Failure>,
}

impl Standing {
    /// A projection's part that has not begun.
    #[must_use]
    pub fn new(shard: Shard, shards: u32, event_types: &[&str]) -> Self {
        let mut event_types: Vec<_> = event_types.iter().map(|name| (*name).to_owned()).collect();
        event_types.sort_unstable();
        event_types.dedup();
        Self {
            shard,
            shards,
            event_types,
            repeatable: false,
            position: Position::START,
            anchor: None,
            epoch: 0,
            owner: None,
            lifecycle: Lifecycle::Running,
            before: Lifecycle::Running,
            active: true,
            promote: true,
            applied: Marks::default(),
            silent: Marks::default(),
            failure: None,
        }
    }

    /// Refuses what is not meant to run: for backends, where a shard is acquired.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Inline`] or `NotRunning`.
    pub fn check_lifecycle(&self) -> Result<(), CheckpointError> {
        let projection = self.shard.projection.clone();
        match self.lifecycle {
            lifecycle if lifecycle.is_running() => Ok(()),
            Lifecycle::Inline => Err(CheckpointError::Inline { projection }),
            lifecycle => Err(CheckpointError::NotRunning {
                projection,
                lifecycle,
            }),
        }
    }

    /// Refuses other event types than those that the read model is built from.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::OtherEventTypes`].
    pub fn check_event_types(&self, event_types: &[&str]) -> Result<(), CheckpointError> {
        let wanted = Self::new(self.shard.clone(), 1, event_types).event_types;
        if self.event_types == wanted {
            return Ok(());
        }
        Err(CheckpointError::OtherEventTypes {
            projection: self.shard.projection.clone(),
            stored: self.event_types.join(", "),
            wanted: wanted.join(", "),
        })
    }

    /// Refuses a checkpoint that does not fit the projection or the log: for backends, where a shard is
    /// acquired. The log ends at `end`; `anchored` says whether the anchor is in it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::OtherEventTypes`], `AheadOfLog` or `Diverged`.
    pub fn check_fit(
        &self,
        event_types: &[&str],
        end: Position,
        anchored: bool,
    ) -> Result<(), CheckpointError> {
        self.check_event_types(event_types)?;
        let projection = self.shard.projection.clone();
        let anchor = self.anchor.map(|(position, _)| position);
        if self.position.max(anchor.unwrap_or_default()) > end {
            return Err(CheckpointError::AheadOfLog { projection });
        }
        if anchor.is_some() && !anchored {
            return Err(CheckpointError::Diverged { projection });
        }
        Ok(())
    }
}

/// What a projection is meant to be doing. It is kept in the database, for all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lifecycle {
    /// It follows the log.
    Running,
    /// It is built beside the active version, without effects.
    Rebuilding,
    /// Somebody told it to wait.
    Paused,
    /// It stopped at a failure.
    Failed,
    /// A newer version has taken its place. Its read model is still there.
    Retired,
    /// Somebody took it out of service. Nobody misses it.
    Detached,
    /// It runs inside the appends.
    Inline,
}

impl Lifecycle {
    const ALL: [Self; 7] = [
        Self::Running,
        Self::Rebuilding,
        Self::Paused,
        Self::Failed,
        Self::Retired,
        Self::Detached,
        Self::Inline,
    ];

    /// Whether a daemon has anything to do.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Rebuilding)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Rebuilding => "rebuilding",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Retired => "retired",
            Self::Detached => "detached",
            Self::Inline => "inline",
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A process that runs projections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A fresh id for each start.
    pub id: Uuid,
    /// For people: host and process, say.
    pub name: String,
    /// What it can run.
    pub runs: Vec<ProjectionId>,
}

/// Who is alive, and where everything stands, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The living nodes, by id, and for how long each has announced to live.
    pub nodes: Vec<(Node, Duration)>,
    /// Every shard of every projection, in order.
    pub standings: Vec<Standing>,
}
