//! Events: what happened, and the name it is stored under.

use serde::{Serialize, de::DeserializeOwned};

use crate::Json;

/// One thing that happened, in the past tense: a plain struct.
///
/// Derive it. The stored name is the struct's name in `snake_case` unless
/// `#[event(name = "…")]` says otherwise; `#[event(schema_version = 2)]` marks a changed shape.
///
/// ```
/// use es_core::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// struct PlayerMoved {
///     to_room: String,
/// }
///
/// assert_eq!(PlayerMoved::EVENT_TYPE, "player_moved");
/// assert_eq!(PlayerMoved::SCHEMA_VERSION, 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "add `#[derive(es_core::Event, serde::Serialize, serde::Deserialize)]` to `{Self}`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name this event is stored under, for example `"player_moved"`. At most 255 bytes.
    const EVENT_TYPE: &'static str;
    /// The version of the stored shape, counted from 1.
    const SCHEMA_VERSION: u32 = 1;
}

/// The name and newest schema version of one event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType {
    /// The stored name.
    pub name: &'static str,
    /// The newest schema version this program writes and reads.
    pub schema_version: u32,
}

impl EventType {
    /// The type of the event `E`.
    #[must_use]
    pub const fn of<E: Event>() -> Self {
        Self {
            name: E::EVENT_TYPE,
            schema_version: E::SCHEMA_VERSION,
        }
    }
}

/// A closed set of events: the enum that `#[derive(Aggregate)]` and `#[derive(Projection)]` generate.
pub trait EventSet: Sized + Send + Sync + 'static {
    /// Every event type of the set, in the order it was declared.
    const EVENT_TYPES: &'static [EventType];

    /// The type of this event.
    fn event_type(&self) -> EventType;

    /// The event as the JSON that is stored.
    ///
    /// # Errors
    ///
    /// If the event's `Serialize` fails, for example on a map whose keys are not strings.
    fn encode(&self) -> Result<Json, serde_json::Error>;

    /// Reads a stored event back, straight from its text.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says which of three things went wrong; they need different answers.
    fn decode(event_type: &str, schema_version: u32, data: &str) -> Result<Self, DecodeError>;
}

/// Why a stored event could not be read as one of a set. Never carries the event's content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The set has no such event.
    #[error(
        "event type `{event_type}` is unknown to this program; add it to the `events(…)` list, or deploy the version that knows it"
    )]
    UnknownType {
        /// The stored name.
        event_type: String,
    },
    /// The event was written by a newer program.
    #[error(
        "event type `{event_type}` is stored with schema version {stored}, this program knows up to {known}; deploy the newer version"
    )]
    NewerSchema {
        /// The stored name.
        event_type: String,
        /// The version found.
        stored: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// The content was erased.
    #[error("event type `{event_type}` was erased with its stream")]
    Erased {
        /// The stored name.
        event_type: String,
    },
    /// The text does not have the event's shape.
    #[error(
        "event type `{event_type}` could not be read ({problem}); let it read the old shape as well, with `#[serde(default)]` or `#[serde(alias)]`"
    )]
    Undecodable {
        /// The stored name.
        event_type: String,
        /// What is wrong and where, without the content.
        problem: String,
    },
}
