//! Events before and after they are recorded.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    DecodeError, Event, EventSet, EventView, Json, Name, Position, StreamId, Version, form,
};

/// An event that a writer wants recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "EventData")]
pub struct NewEvent {
    /// Identifies this event for ever. Appending the same ids again is recognised as a repetition.
    pub event_id: Uuid,
    /// The stored name.
    pub event_type: Name,
    /// The version of the stored shape.
    pub schema_version: u32,
    /// The event's content.
    pub event_data: Json,
    /// Why it happened and through whom.
    pub metadata: Metadata,
}

impl NewEvent {
    /// An event with a fresh time-ordered id, schema version 1 and no metadata.
    #[must_use]
    pub fn new(event_type: impl Into<Name>, event_data: Json) -> Self {
        Self {
            event_id: Uuid::now_v7(),
            event_type: event_type.into(),
            schema_version: 1,
            event_data,
            metadata: Metadata::default(),
        }
    }

    /// The stored form of one event struct.
    ///
    /// # Errors
    ///
    /// If its `Serialize` fails.
    pub fn encode<E: Event>(event: &E) -> Result<Self, serde_json::Error> {
        let mut new = Self::new(E::EVENT_TYPE, Json::encode(event)?);
        new.schema_version = E::SCHEMA_VERSION;
        Ok(new)
    }

    /// The stored form of one event of a set.
    ///
    /// # Errors
    ///
    /// If its `Serialize` fails.
    pub fn encode_set<S: EventSet>(event: &S) -> Result<Self, serde_json::Error> {
        let event_type = event.event_type();
        let mut new = Self::new(event_type.name, event.encode()?);
        new.schema_version = event_type.schema_version;
        Ok(new)
    }
}

impl NewEvent {
    /// The event as it will be read back.
    pub(crate) fn read_back<S: EventSet>(&self) -> Result<S, DecodeError> {
        let view = EventView {
            version: Version::EMPTY,
            event_type: &self.event_type,
            schema_version: self.schema_version,
            data: self.event_data.as_str(),
        };
        view.decode()
    }
}

/// Why an event happened and through whom.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// Shared by everything one request caused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The event or command that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl Metadata {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An event that is in the log.
///
/// Serialises to the public JSON form and reads it back. `position`, `schema_version` and
/// `metadata` are left out where they say nothing.
///
/// ```
/// use es_core::RecordedEvent;
///
/// let event: RecordedEvent = serde_json::from_str(r#"{
///     "event_id": "f8c3de3d-1fea-4d7c-a8b0-29f63c4c3454",
///     "aggregate_id": "e52c3ff1-0f7a-4e36-9f65-dd3ca5a1a711",
///     "aggregate_type": "player",
///     "event_type": "item_dropped",
///     "event_version": 7,
///     "created_at": "2023-04-12T15:23:47Z",
///     "event_data": { "item": "sword" }
/// }"#)?;
/// assert_eq!(event.event_version.get(), 7);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "envelope")]
pub struct RecordedEvent {
    /// Identifies this event for ever.
    #[serde(deserialize_with = "form::event_id")]
    pub event_id: Uuid,
    /// The aggregate it happened to.
    #[serde(deserialize_with = "form::aggregate_id")]
    pub aggregate_id: Uuid,
    /// The kind of aggregate.
    #[serde(deserialize_with = "form::aggregate_type")]
    pub aggregate_type: Name,
    /// The stored name.
    #[serde(deserialize_with = "form::event_type")]
    pub event_type: Name,
    /// Its place in the stream, counted from 1.
    #[serde(deserialize_with = "form::event_version")]
    pub event_version: Version,
    /// When it was recorded, by the database's clock, in microseconds. Rises within a stream.
    #[serde(
        serialize_with = "form::rfc3339",
        deserialize_with = "form::created_at"
    )]
    pub created_at: DateTime<Utc>,
    /// Its content.
    #[serde(deserialize_with = "form::event_data")]
    pub event_data: Json,
    /// Its place in the log; [`Position::START`] if the event did not come from a log.
    #[serde(
        default,
        skip_serializing_if = "form::is_start",
        deserialize_with = "form::position"
    )]
    pub position: Position,
    /// The version of the stored shape.
    #[serde(
        default = "form::one",
        skip_serializing_if = "form::is_one",
        deserialize_with = "form::schema_version"
    )]
    pub schema_version: u32,
    /// Why it happened and through whom.
    #[serde(
        default,
        skip_serializing_if = "Metadata::is_empty",
        deserialize_with = "form::metadata"
    )]
    pub metadata: Metadata,
}

impl RecordedEvent {
    /// The stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        StreamId::new(self.aggregate_type.clone(), self.aggregate_id)
    }

    /// Whether its content was [erased](crate::EventStore::erase) with its stream.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        EventView::from(self).is_erased()
    }

    /// Its content as one of the events of `S`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the type is unknown or newer than this program, or its content erased or
    /// unreadable.
    pub fn decode<S: EventSet>(&self) -> Result<S, DecodeError> {
        EventView::from(self).decode()
    }
}

/// A recorded event with its content decoded: what handlers receive.
#[derive(Debug, Clone)]
pub struct Recorded<S> {
    /// The decoded content.
    pub event: S,
    /// The stored event.
    pub record: RecordedEvent,
}

impl<S: EventSet> Recorded<S> {
    /// Decodes a stored event.
    ///
    /// # Errors
    ///
    /// As [`RecordedEvent::decode`].
    pub fn decode(record: RecordedEvent) -> Result<Self, DecodeError> {
        let event = record.decode()?;
        Ok(Self { event, record })
    }
}
