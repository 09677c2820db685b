//! Snapshots: a cache of an aggregate's state.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Json, Name, StreamId, Version, form};

/// An aggregate's state at a version. A cache: any doubt means the events are replayed instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Identifies this snapshot.
    #[serde(deserialize_with = "form::snapshot_id")]
    pub snapshot_id: Uuid,
    /// The aggregate.
    #[serde(deserialize_with = "form::aggregate_id")]
    pub aggregate_id: Uuid,
    /// The kind of aggregate.
    #[serde(deserialize_with = "form::aggregate_type")]
    pub aggregate_type: Name,
    /// How many events the state contains.
    #[serde(deserialize_with = "form::version")]
    pub version: Version,
    /// When it was taken.
    #[serde(
        serialize_with = "form::rfc3339",
        deserialize_with = "form::created_at"
    )]
    pub created_at: DateTime<Utc>,
    /// The state.
    #[serde(deserialize_with = "form::state")]
    pub state: Json,
    /// The shape of the state ([`Aggregate::STATE_FINGERPRINT`](crate::Aggregate) in hexadecimal).
    /// A snapshot without one, or with another one, is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Snapshot {
    /// The stream whose state it holds.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        StreamId::new(self.aggregate_type.clone(), self.aggregate_id)
    }
}
