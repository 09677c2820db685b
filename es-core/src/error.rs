//! What can go wrong at the port. A message says what we were doing; `source()` says why.

use std::{error::Error, fmt};

use uuid::Uuid;

use crate::{ExpectedVersion, Lifecycle, ProjectionId, Shard, StreamId, Version};

/// Any error, boxed.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why an append did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Another writer got there first. Nothing was recorded.
    #[error("stream `{stream}` has {}, the caller expected {expected}; {}", at(*actual), next(*expected))]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What the caller demanded.
        expected: ExpectedVersion,
        /// What the stream has.
        actual: Version,
    },

    /// The id of an event is taken, and this is not a repetition of the append that took it.
    /// Nothing was recorded.
    #[error(
        "event id {event_id} in the append to `{stream}` is already taken; give new events new ids, or repeat the first append as it was"
    )]
    DuplicateId {
        /// The stream.
        stream: StreamId,
        /// One of the ids that are taken.
        event_id: Uuid,
    },

    /// The aggregate id belongs to another kind of aggregate. Nothing was recorded.
    #[error(
        "the id of `{stream}` belongs to an aggregate of type `{actual}`; ids are unique in the whole store, so use a new one"
    )]
    OtherAggregateType {
        /// The stream.
        stream: StreamId,
        /// The type on record.
        actual: String,
    },

    /// The stream was erased. Nothing was recorded.
    #[error(
        "stream `{stream}` was erased and takes no more events; begin a new one under a new id"
    )]
    Erased {
        /// The stream.
        stream: StreamId,
    },

    /// A projection that runs inside the append refused it. Nothing was recorded.
    #[error("projection `{projection}`, which runs inside the append to stream `{stream}`, failed")]
    Projection {
        /// The stream.
        stream: StreamId,
        /// The projection.
        projection: ProjectionId,
        /// Whether the same append may succeed later.
        transient: bool,
        /// What the projection said.
        source: BoxError,
    },

    /// The append cannot be stored as it is. Nothing was recorded.
    #[error("the append to stream `{stream}` is not valid: {reason}")]
    Invalid {
        /// The stream.
        stream: StreamId,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// The backend failed. If it failed during the commit the events may have been recorded:
    /// repeat the append with the *same* event ids, which is safe.
    #[error("could not append {count} event(s) to stream `{stream}`")]
    Backend {
        /// The stream.
        stream: StreamId,
        /// How many events.
        count: usize,
        /// Whether the same append may succeed later.
        transient: bool,
        /// What the backend said.
        source: BoxError,
    },
}

impl AppendError {
    /// Whether running the whole command again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict { .. } => true,
            Self::Backend { transient, .. } | Self::Projection { transient, .. } => *transient,
            Self::DuplicateId { .. }
            | Self::OtherAggregateType { .. }
            | Self::Erased { .. }
            | Self::Invalid { .. } => false,
        }
    }
}

fn next(expected: ExpectedVersion) -> &'static str {
    match expected {
        ExpectedVersion::NoStream => "it exists already, so load it, or use another id",
        ExpectedVersion::StreamExists => "create it first",
        ExpectedVersion::Any | ExpectedVersion::Exact(_) => "reload and decide again",
    }
}

fn at(version: Version) -> String {
    match version {
        Version::EMPTY => "no events".to_owned(),
        version => format!("version {version}"),
    }
}

/// Why a stream was not erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// There is nothing to erase.
    #[error("there is no stream `{stream}` to erase; check its aggregate type and id")]
    NotFound {
        /// The stream.
        stream: StreamId,
    },
    /// The tombstone could not be appended: an inline projection refused it, say. Nothing was erased.
    #[error("the tombstone of stream `{stream}` was refused")]
    Refused {
        /// The stream.
        stream: StreamId,
        /// Why.
        source: Box<AppendError>,
    },
    /// The backend failed. If it failed during the commit the stream may be erased: repeat, which is
    /// safe.
    #[error("could not erase stream `{stream}`")]
    Backend {
        /// The stream.
        stream: StreamId,
        /// Whether the same call may succeed later.
        transient: bool,
        /// What the backend said.
        source: BoxError,
    },
}

impl EraseError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotFound { .. } => false,
            Self::Refused { source, .. } => source.is_retryable(),
            Self::Backend { transient, .. } => *transient,
        }
    }
}

/// Why stored things could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A stored row is not what it must be.
    #[error("{what} is damaged: {problem}; restore it from a backup")]
    Corrupt {
        /// Which row.
        what: String,
        /// What is wrong with it, without its content.
        problem: String,
    },
    /// The backend failed.
    #[error("could not read {what}")]
    Backend {
        /// What was being read.
        what: String,
        /// Whether the same read may succeed later.
        transient: bool,
        /// What the backend said.
        source: BoxError,
    },
}

impl ReadError {
    /// Whether the same read may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Backend {
                transient: true,
                ..
            }
        )
    }
}

/// Why a snapshot could not be saved. A command never fails for it.
#[derive(Debug, thiserror::Error)]
#[error("could not save the snapshot of stream `{stream}`")]
pub struct SnapshotError {
    /// The stream.
    pub stream: StreamId,
    /// Whether it may succeed later.
    pub transient: bool,
    /// What the backend said.
    pub source: BoxError,
}

/// Why a projection's checkpoint or batch did not go through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another runner has the projection. Nothing of this batch was kept.
    #[error(
        "another runner has taken over projection `{projection}`; this one has stopped and kept nothing of its batch"
    )]
    Fenced {
        /// The projection.
        projection: ProjectionId,
    },
    /// Another node runs it.
    #[error(
        "projection `{projection}` is being run by node {owner}; it is taken over when that node stops or dies"
    )]
    Held {
        /// The projection.
        projection: ProjectionId,
        /// The node that runs it.
        owner: Uuid,
    },
    /// The node that asks has not announced itself, or too long ago.
    #[error(
        "node {node} has not announced in time that it is alive, so it may not run projection `{projection}`"
    )]
    NotAlive {
        /// The projection.
        projection: ProjectionId,
        /// The node that asked.
        node: Uuid,
    },
    /// There is no such projection, or no such shard of it.
    #[error(
        "shard `{shard}` is not known to this store; a daemon that starts the projection makes it known"
    )]
    Unknown {
        /// What was asked for.
        shard: Shard,
    },
    /// It is not meant to run.
    #[error("projection `{projection}` is {lifecycle}")]
    NotRunning {
        /// The projection.
        projection: ProjectionId,
        /// What it is instead.
        lifecycle: Lifecycle,
    },
    /// The projection runs inside the appends to this store, so it is never behind.
    #[error(
        "projection `{projection}` runs inside the appends to this store; do not start it in a daemon as well"
    )]
    Inline {
        /// The projection.
        projection: ProjectionId,
    },
    /// The checkpoint is above the log's end: an older backup of the log was restored.
    #[error(
        "the checkpoint of projection `{projection}` is ahead of the log (an older log was restored?); raise its version to rebuild it"
    )]
    AheadOfLog {
        /// The projection.
        projection: ProjectionId,
    },
    /// The checkpoint's last event is not in the log: another log was put in place.
    #[error(
        "the checkpoint of projection `{projection}` belongs to another history of the log (restored from a backup?); raise its version to rebuild it"
    )]
    Diverged {
        /// The projection.
        projection: ProjectionId,
    },
    /// The projection wants other event types than when its read model was built.
    #[error(
        "projection `{projection}` was built from event types {stored}, now it wants {wanted}; raise its version to rebuild it"
    )]
    OtherEventTypes {
        /// The projection.
        projection: ProjectionId,
        /// The types on record.
        stored: String,
        /// The types it wants now.
        wanted: String,
    },
    /// The projection itself has ended the transaction of its batch. What it had written until then may be
    /// kept, with the checkpoint of the whole batch.
    #[error(
        "projection `{projection}` has ended the transaction that it writes in (`COMMIT`, `ROLLBACK`); remove that statement, then reset the projection or raise its version, since part of a batch may be missing"
    )]
    Ended {
        /// The projection.
        projection: ProjectionId,
    },
    /// The backend failed. Nothing of the batch is visible unless the failure hit the commit itself;
    /// the stored checkpoint tells.
    #[error("could not {action} of projection `{projection}`")]
    Backend {
        /// The projection.
        projection: ProjectionId,
        /// What was being done.
        action: &'static str,
        /// Whether it may succeed later.
        transient: bool,
        /// What the backend said.
        source: BoxError,
    },
}

impl CheckpointError {
    /// Whether trying again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } | Self::NotAlive { .. } => true,
            Self::Backend { transient, .. } => *transient,
            _ => false,
        }
    }
}

/// Prints an error and its causes on one line, each once: for logs.
///
/// ```
/// use es_core::Chain;
///
/// let error = std::io::Error::other("disk full");
/// assert_eq!(Chain(&error).to_string(), "disk full");
/// ```
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut said = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source.
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}
