//! The public JSON form keeps whatever is put into it.

use chrono::{DateTime, Utc};
use es_core::{Json, Metadata, Name, Position, RecordedEvent, Snapshot, Version};
use proptest::{collection, option, prelude::*};
use serde_json::Value;
use uuid::Uuid;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Seen to fail when `form::rfc3339` writes only milliseconds.
    #[test]
    fn any_event_is_the_same_after_it_was_written_and_read(event in event()) {
        let compact = serde_json::to_string(&event).unwrap();
        let pretty = serde_json::to_string_pretty(&event).unwrap();

        for text in [compact, pretty] {
            let read: RecordedEvent = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &event, "from {}", text);
        }
    }

    #[test]
    fn any_snapshot_is_the_same_after_it_was_written_and_read(snapshot in snapshot()) {
        let compact = serde_json::to_string(&snapshot).unwrap();
        let pretty = serde_json::to_string_pretty(&snapshot).unwrap();

        for text in [compact, pretty] {
            let read: Snapshot = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &snapshot, "from {}", text);
        }
    }
}

fn event() -> impl Strategy<Value = RecordedEvent> {
    let ids = (uuid(), uuid(), name(), name());
    let places = (any::<u32>(), any::<u64>(), any::<u32>());
    (ids, places, time(), json(), metadata()).prop_map(
        |(
            (event_id, aggregate_id, aggregate_type, event_type),
            (version, position, schema_version),
            created_at,
            event_data,
            metadata,
        )| RecordedEvent {
            event_id,
            aggregate_id,
            aggregate_type,
            event_type,
            event_version: Version::new(version),
            created_at,
            event_data,
            position: Position::new(position),
            schema_version,
            metadata,
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let ids = (uuid(), uuid(), name());
    let fingerprint = option::of(any::<String>());
    (ids, any::<u32>(), time(), json(), fingerprint).prop_map(
        |((snapshot_id, aggregate_id, aggregate_type), version, created_at, state, fingerprint)| {
            Snapshot {
                snapshot_id,
                aggregate_id,
                aggregate_type,
                version: Version::new(version),
                created_at,
                state,
                fingerprint,
            }
        },
    )
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let headers = collection::btree_map(any::<String>(), any::<String>(), 0..3);
    let ids = (option::of(uuid()), option::of(uuid()));
    (ids, option::of(any::<String>()), headers).prop_map(|(ids, actor, headers)| {
        let mut metadata = Metadata::default();
        (metadata.correlation_id, metadata.causation_id) = ids;
        metadata.actor = actor;
        metadata.headers = headers;
        metadata
    })
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn name() -> impl Strategy<Value = Name> {
    any::<String>().prop_map(Name::from)
}

/// To the microsecond, as databases keep it, in the years that RFC 3339 knows.
fn time() -> impl Strategy<Value = DateTime<Utc>> {
    let [first, last] = ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"]
        .map(|text| text.parse::<DateTime<Utc>>().unwrap().timestamp_micros());
    (first..=last).prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap())
}

/// Any document, with or without spaces in it, and numbers that no machine type holds.
fn json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| Value::from(n).to_string()),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        number,
        any::<String>().prop_map(|text| Value::from(text).to_string()),
    ];
    let space = || prop_oneof![3 => Just(""), 1 => Just(" "), 1 => Just("\n\t")];
    let tree = leaf.prop_recursive(4, 32, 4, move |inner| {
        let items = collection::vec(inner.clone(), 0..4);
        let fields = collection::vec((any::<String>(), inner), 0..4);
        prop_oneof![
            (items, space()).prop_map(|(items, space)| {
                format!(
                    "[{space}{}{space}]",
                    items.join(&format!("{space},{space}"))
                )
            }),
            (fields, space()).prop_map(|(fields, space)| {
                let field = |(key, value): &(String, String)| {
                    format!("{}{space}:{space}{value}", Value::from(key.as_str()))
                };
                let fields: Vec<_> = fields.iter().map(field).collect();
                format!(
                    "{{{space}{}{space}}}",
                    fields.join(&format!("{space},{space}"))
                )
            }),
        ]
    });
    tree.prop_map(|text| Json::parse(text).unwrap())
}
