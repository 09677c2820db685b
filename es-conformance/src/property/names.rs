//! What the numbers of a history stand for: streams, ids, types and contents.

use es_core::{
    Append, AppendError, Event, Json, Metadata, Name, NewEvent, RecordedEvent, StreamErased,
    StreamId, Version,
};
use uuid::Uuid;

use super::{
    model::{Call, Entry, Refusal},
    operation::{IDS, Kind, STREAMS},
};
use crate::fixtures::stream;

/// The names of one history. No other history has them.
pub(super) struct Names {
    streams: Vec<StreamId>,
    ids: Vec<Uuid>,
    types: [Name; 2],
}

impl Names {
    pub(super) fn new() -> Self {
        let own = Uuid::now_v7().simple();
        Self {
            streams: (0..STREAMS).map(|_| stream()).collect(),
            ids: (0..IDS).map(|_| Uuid::now_v7()).collect(),
            types: [format!("even_{own}").into(), format!("odd_{own}").into()],
        }
    }

    pub(super) fn stream(&self, stream: u8) -> &StreamId {
        &self.streams[usize::from(stream)]
    }

    fn id(&self, number: u8) -> Uuid {
        self.ids[usize::from(number)]
    }

    pub(super) fn name(&self, kind: Kind) -> Name {
        match kind {
            Kind::Even => self.types[0].clone(),
            Kind::Odd => self.types[1].clone(),
            Kind::Tombstone => StreamErased::EVENT_TYPE.into(),
        }
    }

    pub(super) fn data(&self, entry: &Entry) -> String {
        match entry.number {
            _ if entry.erased => Json::erased().as_str().to_owned(),
            Some(number) => format!(r#"{{ "number": {number} }}"#),
            None => Json::encode(&tombstone())
                .expect("it is JSON")
                .as_str()
                .to_owned(),
        }
    }

    pub(super) fn as_append(&self, call: &Call) -> Append {
        let mut stream = self.stream(call.stream).clone();
        if call.under_another_type {
            stream.aggregate_type = "another_type".into();
        }
        let events = call.events.iter().map(|number| {
            let entry = Entry {
                stream: call.stream,
                version: 0,
                number: Some(*number),
                erased: false,
                learned: None,
            };
            NewEvent {
                event_id: self.id(*number),
                event_type: self.name(entry.kind()),
                schema_version: 1,
                event_data: Json::from_stored(self.data(&entry)),
                metadata: metadata(&entry),
            }
        });
        Append::new(stream, call.expected, events.collect())
    }

    /// The event as the store must show it.
    pub(super) fn recorded(&self, entry: &Entry) -> RecordedEvent {
        let learned = entry.learned.expect("it was read when it was recorded");
        let id = self.stream(entry.stream);
        RecordedEvent {
            event_id: entry.number.map_or(learned.event_id, |n| self.id(n)),
            aggregate_id: id.aggregate_id,
            aggregate_type: id.aggregate_type.clone(),
            event_type: self.name(entry.kind()),
            event_version: Version::new(entry.version),
            created_at: learned.created_at,
            event_data: Json::from_stored(self.data(entry)),
            position: learned.position,
            schema_version: 1,
            metadata: metadata(entry),
        }
    }

    /// Whether a store's error says what the model says.
    pub(super) fn is(&self, refusal: &Refusal, err: &AppendError) -> bool {
        let same =
            |stream: &StreamId, number: u8| stream.aggregate_id == self.stream(number).aggregate_id;
        match (refusal, err) {
            (Refusal::Invalid { stream }, AppendError::Invalid { stream: s, .. })
            | (Refusal::Erased { stream }, AppendError::Erased { stream: s }) => same(s, *stream),
            (
                Refusal::OtherType { stream },
                AppendError::OtherAggregateType { stream: s, actual },
            ) => {
                let owner = &self.stream(*stream).aggregate_type;
                same(s, *stream) && *actual == owner.as_str()
            }
            (
                Refusal::Duplicate { stream, of },
                AppendError::DuplicateId {
                    stream: s,
                    event_id,
                },
            ) => same(s, *stream) && of.iter().any(|n| self.id(*n) == *event_id),
            (
                Refusal::Conflict {
                    stream,
                    expected,
                    actual,
                },
                AppendError::Conflict {
                    stream: s,
                    expected: e,
                    actual: a,
                },
            ) => same(s, *stream) && e == expected && a == actual,
            _ => false,
        }
    }
}

pub(super) fn tombstone() -> StreamErased {
    StreamErased::new("asked to", "the officer")
}

fn metadata(entry: &Entry) -> Metadata {
    let mut metadata = Metadata::default();
    if !entry.erased {
        metadata.actor = entry.number.map(|number| format!("number {number}"));
    }
    metadata
}
