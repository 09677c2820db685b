//! Erasure: the payloads of a stream go, the fact that it was erased stays.

use serde::{Deserialize, Serialize};

use crate::Event;

/// What stands in the place of an erased payload.
pub(crate) const ERASED: &str = r#"{"$erased":true}"#;

/// The tombstone: the last event of a stream whose payloads were erased with
/// [`EventStore::erase`](crate::EventStore::erase).
///
/// It is an event like any other. A projection that lists it in `events(…)` is told, and can delete
/// what it has kept about the aggregate; `record.aggregate_id` and `record.created_at` tell of whom
/// and when.
///
/// Reason and actor are kept for ever: do not name the person who was erased in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "tombstone")]
#[doc(alias = "GDPR")]
pub struct StreamErased {
    /// Why.
    pub reason: String,
    /// Who decided it.
    pub actor: String,
}

impl StreamErased {
    /// The tombstone to leave.
    #[must_use]
    pub fn new(reason: impl Into<String>, actor: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            actor: actor.into(),
        }
    }
}

impl Event for StreamErased {
    const EVENT_TYPE: &'static str = "$stream_erased";
}
