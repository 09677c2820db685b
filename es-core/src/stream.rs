//! Streams, versions, and what a writer expects.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Name;

/// Which history: a kind of aggregate and an id. Shown as `player-e52c3ff1-…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[doc(alias = "stream name")]
pub struct StreamId {
    /// The kind of aggregate, for example `"player"`. At most 255 bytes.
    pub aggregate_type: Name,
    /// The aggregate. Unique in the whole store, not only among its kind.
    pub aggregate_id: Uuid,
}

impl StreamId {
    /// The stream of one aggregate.
    #[must_use]
    pub fn new(aggregate_type: impl Into<Name>, aggregate_id: Uuid) -> Self {
        Self {
            aggregate_type: aggregate_type.into(),
            aggregate_id,
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.aggregate_type, self.aggregate_id)
    }
}

/// How many events a stream has: the first event is version 1, an empty stream has version 0.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[doc(alias = "revision")]
#[doc(alias = "sequence number")]
pub struct Version(u32);

impl Version {
    /// No events yet.
    pub const EMPTY: Self = Self(0);
    /// The highest version a stream can have: the column is a 32-bit signed integer.
    pub const MAX: Self = Self(i32::MAX as u32);

    /// The version with this number of events.
    #[must_use]
    pub const fn new(version: u32) -> Self {
        Self(version)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The version after `events` more, or `None` past [`Version::MAX`].
    #[must_use]
    pub fn after(self, events: usize) -> Option<Self> {
        let next = self.0.checked_add(u32::try_from(events).ok()?)?;
        (next <= Self::MAX.0).then_some(Self(next))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What the writer demands of the stream before its events are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Nothing: add to whatever is there.
    Any,
    /// The stream has no events.
    NoStream,
    /// The stream has at least one event.
    StreamExists,
    /// The stream has exactly this version.
    Exact(Version),
}

impl ExpectedVersion {
    /// Whether a stream at `actual` meets the demand.
    #[must_use]
    pub fn accepts(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == Version::EMPTY,
            Self::StreamExists => actual != Version::EMPTY,
            Self::Exact(version) => actual == version,
        }
    }

    /// The one version that meets the demand, if there is only one.
    #[must_use]
    pub fn exact(self) -> Option<Version> {
        match self {
            Self::Any | Self::StreamExists => None,
            Self::NoStream => Some(Version::EMPTY),
            Self::Exact(version) => Some(version),
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no events"),
            Self::StreamExists => f.write_str("some events"),
            Self::Exact(version) => write!(f, "version {version}"),
        }
    }
}

/// A place in the whole log. Ordered and stored; never computed, only read and compared: the log
/// may have holes.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[doc(alias = "offset")]
#[doc(alias = "global sequence")]
pub struct Position(u64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// A position that was stored before.
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The number to store.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
