//! Why a command was refused.

use es_core::{BoxError, CheckpointError, Lifecycle, Position, ProjectionId, ReadError, Standing};
use uuid::Uuid;

/// Why something that was asked of a projection was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such projection.
    #[error(
        "projection `{projection}` is not known to this store, which has {known}; a daemon that starts it makes it known (a `View` lives in the memory of its process and takes no commands)"
    )]
    Unknown {
        /// What was asked for.
        projection: ProjectionId,
        /// The versions there are.
        known: String,
    },
    /// It runs inside the appends.
    #[error(
        "projection `{projection}` runs inside the appends to this store and obeys the store's options only; retire it there first"
    )]
    Inline {
        /// The projection.
        projection: ProjectionId,
    },
    /// It cannot be divided like this.
    #[error(
        "projection `{projection}` cannot be divided into {shards} shards; choose a number from 1 to 1024"
    )]
    Shards {
        /// The projection.
        projection: ProjectionId,
        /// What was asked for.
        shards: u32,
    },
    /// It is not in a state in which this can be done.
    #[error("projection `{projection}` is {lifecycle} and cannot be {action}: {next}")]
    State {
        /// The projection.
        projection: ProjectionId,
        /// What it is.
        lifecycle: Lifecycle,
        /// What was asked for.
        action: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// A node is running it.
    #[error("projection `{projection}` is being run by node {owner}; pause it first")]
    Busy {
        /// The projection.
        projection: ProjectionId,
        /// The node that runs it.
        owner: Uuid,
    },
    /// Its read model is served, or it is the version that emits effects.
    #[error(
        "projection `{projection}` is in service and cannot be {action}; promote another version and wait until that is active, or detach it if it is the last"
    )]
    Needed {
        /// The projection.
        projection: ProjectionId,
        /// What was asked for.
        action: &'static str,
    },
    /// There is nothing at that position yet.
    #[error(
        "projection `{projection}` cannot be moved to position {position}: the log ends at {end}"
    )]
    BeyondLog {
        /// The projection.
        projection: ProjectionId,
        /// What was asked for.
        position: Position,
        /// Where the log ends.
        end: Position,
    },
    /// Events would be applied twice to a read model that does not bear it.
    #[error(
        "projection `{projection}` has come to position {reached}; moved back to {position} it would apply events twice: declare it `repeatable`, or reset it, or raise its version"
    )]
    NotRepeatable {
        /// The projection.
        projection: ProjectionId,
        /// What was asked for.
        position: Position,
        /// What is applied.
        reached: Position,
    },
    /// An earlier change has left marks that it has not passed yet.
    #[error(
        "the last change of projection `{projection}` is still settling; let it run past position {until}, then try again"
    )]
    Settling {
        /// The projection.
        projection: ProjectionId,
        /// Where the marks end.
        until: Position,
    },
    /// It waits for people's consent.
    #[error("projection `{projection}` may not take over by itself; promote it")]
    NotPromoted {
        /// The projection.
        projection: ProjectionId,
    },
    /// It has not caught up.
    #[error(
        "projection `{projection}` is at position {position} and must have come to {needed}; let it run, then try again"
    )]
    Behind {
        /// The projection.
        projection: ProjectionId,
        /// Where its slowest shard is.
        position: Position,
        /// Where it must be.
        needed: Position,
    },
    /// It is further than the version it would take over from: effects in between would be lost.
    #[error(
        "projection `{projection}` has come to position {position}, but the version it would take over from only to {limit}; let that one run, then try again"
    )]
    Ahead {
        /// The projection.
        projection: ProjectionId,
        /// What it has applied.
        position: Position,
        /// Where the other one is.
        limit: Position,
    },
    /// Events are parked whose effects are still to come: they would be lost.
    #[error(
        "{letters} events of projection `{projection}` are parked; retry or discard them before it is moved back, reset, or replaced by another version"
    )]
    Parked {
        /// The projection.
        projection: ProjectionId,
        /// How many.
        letters: u64,
    },
    /// The projection's own function failed, or is not written.
    #[error("projection `{projection}` could not do its part")]
    Handler {
        /// The projection.
        projection: ProjectionId,
        /// Whether it may succeed later.
        transient: bool,
        /// What it said.
        source: BoxError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CheckpointError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl CommandError {
    /// Whether the same command may succeed later, by itself.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Settling { .. } | Self::Behind { .. } | Self::Ahead { .. } => true,
            Self::Handler { transient, .. } => *transient,
            Self::Store(source) => source.is_retryable(),
            Self::Read(source) => source.is_retryable(),
            Self::Unknown { .. }
            | Self::Inline { .. }
            | Self::Shards { .. }
            | Self::State { .. }
            | Self::Busy { .. }
            | Self::Needed { .. }
            | Self::BeyondLog { .. }
            | Self::NotRepeatable { .. }
            | Self::NotPromoted { .. }
            | Self::Parked { .. } => false,
        }
    }

    pub(crate) fn unknown(projection: &ProjectionId, standings: &[Standing]) -> Self {
        let mut known: Vec<_> = standings
            .iter()
            .map(|row| format!("`{}`", row.shard.projection))
            .collect();
        known.dedup();
        let known = match known.as_slice() {
            [] => "nothing of that name".to_owned(),
            known => known.join(", "),
        };
        Self::Unknown {
            projection: projection.clone(),
            known,
        }
    }

    pub(super) fn state(row: &Standing, action: &'static str, next: &'static str) -> Self {
        Self::State {
            projection: row.shard.projection.clone(),
            lifecycle: row.lifecycle,
            action,
            next,
        }
    }

    pub(super) fn settling(row: &Standing) -> Self {
        Self::Settling {
            projection: row.shard.projection.clone(),
            until: row.applied.highest().max(row.silent.highest()),
        }
    }
}
