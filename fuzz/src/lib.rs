//! What reading stored things must keep to, whatever it is given.
//!
//! The fuzz target and a test of es-core (`tests/stored_form.rs`) are both made from this file.

use std::{collections::BTreeMap, fmt::Debug};

use chrono::{DateTime, Utc};
use es_core::{Event, EventSet, EventView, Projection, RecordedEvent, Snapshot, Version};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Events with a field of each kind. Decoding needs no more of a program than the derive.
#[derive(Projection)]
#[projection(name = "everything", events(Moved, Hit, Renamed, Waited))]
pub struct Everything;

/// Texts and times.
#[derive(Debug, Event, Serialize, Deserialize)]
pub struct Moved {
    to_room: String,
    from_room: Option<String>,
    at: DateTime<Utc>,
}

/// Numbers, in the second shape of this event.
#[derive(Debug, Event, Serialize, Deserialize)]
#[event(schema_version = 2)]
pub struct Hit {
    points: u32,
    #[serde(default)]
    changes: Vec<i64>,
    #[serde(default)]
    factor: f64,
}

/// Nested things and a name of its own.
#[derive(Debug, Event, Serialize, Deserialize)]
#[event(name = "player.renamed")]
pub struct Renamed {
    names: BTreeMap<String, Option<Name>>,
}

/// One of two kinds of names.
#[derive(Debug, Serialize, Deserialize)]
pub enum Name {
    /// In one word.
    Short(String),
    /// In two.
    Long {
        /// The first.
        first: String,
        /// The second.
        last: char,
    },
}

/// Nothing at all.
#[derive(Debug, Event, Serialize, Deserialize)]
pub struct Waited {}

/// Reads `text` as the public JSON form of an event and of a snapshot, as the content of each event of a
/// set, and as three lines of event type, schema version and content. Nothing may panic; what can be
/// read must be the same after it was written and read again.
pub fn stored_form(text: &str) {
    if let Some(event) = round_trip::<RecordedEvent>(text) {
        let _ = event.is_erased();
        if let Ok(set) = event.decode::<EverythingEvent>() {
            encodes_to_the_same(&set);
        }
    }
    round_trip::<Snapshot>(text);
    for known in EverythingEvent::EVENT_TYPES {
        decode(known.name, known.schema_version, text);
    }
    let mut lines = text.splitn(3, '\n');
    if let (Some(event_type), Some(schema_version), Some(data)) =
        (lines.next(), lines.next(), lines.next())
        && let Ok(schema_version) = schema_version.parse()
    {
        decode(event_type, schema_version, data);
    }
}

fn round_trip<T>(text: &str) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let first: T = serde_json::from_str(text).ok()?;
    let written = serde_json::to_string(&first).expect("what was read can be written");
    let second: T = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(first, second, "after it was written and read again");
    let again = serde_json::to_string(&second).expect("what was read can be written");
    assert_eq!(written, again, "written twice");
    Some(second)
}

fn decode(event_type: &str, schema_version: u32, data: &str) {
    let view = EventView {
        version: Version::new(1),
        event_type,
        schema_version,
        data,
    };
    match view.decode::<EverythingEvent>() {
        Ok(event) => encodes_to_the_same(&event),
        // It names the type and the problem, and must not choke on either.
        Err(error) => assert!(!error.to_string().is_empty(), "an error says something"),
    }
}

fn encodes_to_the_same(event: &EverythingEvent) {
    let known = event.event_type();
    let written = event.encode().expect("what was read can be written");
    let read = EverythingEvent::decode(known.name, known.schema_version, written.as_str());
    let read = read.expect("what was written can be read");
    assert_eq!(read.event_type(), known, "the type");
    let again = read.encode().expect("what was read can be written");
    assert_eq!(
        written,
        again,
        "written twice: {}, {}",
        written.as_str(),
        again.as_str()
    );
}
