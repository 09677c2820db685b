//! What generated code may name. Not public API: it changes without notice.

pub use std::vec::Vec;

pub use serde::{Serialize, de::DeserializeOwned};
pub use serde_json;

use crate::{Aggregate, DecodeError, Event, EventSet, Json, Misplaced};

/// The stored form of one event.
pub fn encode<E: Event>(event: &E) -> Result<Json, serde_json::Error> {
    Json::encode(event)
}

/// One event from its stored form, without a `Value` in between.
pub fn decode<E: Event>(schema_version: u32, data: &str) -> Result<E, DecodeError> {
    if schema_version > E::SCHEMA_VERSION {
        return Err(DecodeError::NewerSchema {
            event_type: E::EVENT_TYPE.to_owned(),
            stored: schema_version,
            known: E::SCHEMA_VERSION,
        });
    }
    serde_json::from_str(data).map_err(|error| DecodeError::Undecodable {
        event_type: E::EVENT_TYPE.to_owned(),
        problem: crate::json::describe(&error),
    })
}

/// A decision of one event.
pub fn one<S>(event: S) -> Vec<S> {
    std::vec![event]
}

/// The set has no event of this name.
#[cold]
pub fn unknown<S>(event_type: &str) -> Result<S, DecodeError> {
    Err(DecodeError::UnknownType {
        event_type: event_type.to_owned(),
    })
}

/// The first event of a history is not a start.
#[cold]
pub fn not_a_start<A: Aggregate>(event: &A::Event) -> Misplaced {
    Misplaced::NotAStart {
        aggregate_type: A::AGGREGATE_TYPE,
        event_type: event.event_type().name,
    }
}

/// A start stands in the middle of a history.
#[cold]
pub fn started_twice<A: Aggregate>(event: &A::Event) -> Misplaced {
    Misplaced::StartedTwice {
        aggregate_type: A::AGGREGATE_TYPE,
        event_type: event.event_type().name,
    }
}

/// Refuses at compile time two events of one set that share a stored name.
pub const fn assert_distinct(types: &[crate::EventType]) {
    let mut i = 0;
    while i < types.len() {
        let mut j = i + 1;
        while j < types.len() {
            assert!(
                !same(types[i].name.as_bytes(), types[j].name.as_bytes()),
                "two events of this set have the same stored name; give one `#[event(name = \"…\")]`"
            );
            j += 1;
        }
        i += 1;
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
