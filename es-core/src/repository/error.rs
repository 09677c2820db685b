//! What can go wrong between a program and its aggregates.

use std::{error::Error, fmt};

use crate::{AppendError, DecodeError, Misplaced, ReadError, StreamId, Version};

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It has no events, or had none at that time.
    #[error("there is no `{stream}`; create it first")]
    NotFound {
        /// The stream.
        stream: StreamId,
    },
    /// It never had that many events.
    #[error("`{stream}` has version {actual}, not yet {wanted}")]
    NoSuchVersion {
        /// The stream.
        stream: StreamId,
        /// The version asked for.
        wanted: Version,
        /// The version it has.
        actual: Version,
    },
    /// The store could not be read.
    #[error("could not load `{stream}`")]
    Read {
        /// The stream.
        stream: StreamId,
        /// What went wrong.
        source: ReadError,
    },
    /// An event of its history could not be decoded.
    #[error("could not decode event {version} of `{stream}`")]
    Decode {
        /// The stream.
        stream: StreamId,
        /// The event's version.
        version: Version,
        /// What went wrong.
        source: DecodeError,
    },
    /// It was erased: its events keep their places and names, their content is gone for good.
    #[error("`{stream}` was erased and has no state any more; its last event says why and by whom")]
    Erased {
        /// The stream.
        stream: StreamId,
    },
    /// An event stands where it cannot.
    #[error("the history of `{stream}` makes no sense at event {version}")]
    Misplaced {
        /// The stream.
        stream: StreamId,
        /// The event's version.
        version: Version,
        /// What went wrong.
        source: Misplaced,
    },
}

impl LoadError {
    /// Whether the same load may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.is_retryable())
    }
}

/// Why events were not saved. They stay in the aggregate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The store refused or failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// An event cannot be written as JSON.
    #[error("an event of `{stream}` cannot be written as JSON")]
    Encode {
        /// The stream.
        stream: StreamId,
        /// What serde said.
        source: serde_json::Error,
    },
    /// An event is written as JSON that it cannot be read from: a float that is no number, perhaps, or
    /// `Serialize` and `Deserialize` that do not fit each other. Recorded, it would stand in the way of
    /// every load.
    #[error("an event of `{stream}` could not be read back as it is written; nothing was recorded")]
    Unreadable {
        /// The stream.
        stream: StreamId,
        /// What went wrong.
        source: DecodeError,
    },
    /// The decision made something happen that cannot happen next.
    #[error("the decision does not fit the history of `{stream}`")]
    Misplaced {
        /// The stream.
        stream: StreamId,
        /// What went wrong.
        source: Misplaced,
    },
}

impl SaveError {
    /// Whether running the whole command again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Append(error) if error.is_retryable())
    }
}

/// Why an update did not happen. `E` is the decision's own error, of any type that can be shown.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// The domain said no, in its own words. Nothing was recorded.
    Rejected(E),
    /// The aggregate could not be loaded.
    Load(LoadError),
    /// The events could not be saved.
    Save(SaveError),
}

impl<E> UpdateError<E> {
    /// Whether running the whole command again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected(_) => false,
            Self::Load(error) => error.is_retryable(),
            Self::Save(error) => error.is_retryable(),
        }
    }

    /// The decision's own error, if that is what it was.
    pub fn rejection(self) -> Option<E> {
        match self {
            Self::Rejected(error) => Some(error),
            Self::Load(_) | Self::Save(_) => None,
        }
    }
}

impl<E> From<LoadError> for UpdateError<E> {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl<E> From<SaveError> for UpdateError<E> {
    fn from(error: SaveError) -> Self {
        Self::Save(error)
    }
}

impl<E: fmt::Display> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            Self::Save(error) => error.fmt(f),
        }
    }
}

/// A refusal need not be an `Error`: text will do. So it has no `source` here.
impl<E: fmt::Debug + fmt::Display> Error for UpdateError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(_) => None,
            Self::Load(error) => error.source(),
            Self::Save(error) => error.source(),
        }
    }
}
