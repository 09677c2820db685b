//! The public JSON form: both examples of the design document, to the letter.

use es_core::{RecordedEvent, Snapshot};
use serde_json::Value;

const EVENT: &str = r#"{
  "event_id": "f8c3de3d-1fea-4d7c-a8b0-29f63c4c3454",
  "aggregate_id": "e52c3ff1-0f7a-4e36-9f65-dd3ca5a1a711",
  "aggregate_type": "player",
  "event_type": "player_moved",
  "event_version": 7,
  "created_at": "2023-04-12T15:23:47Z",
  "event_data": {
    "from_room_id": "a42f8bee-e2c9-4598-bf99-b4e1c394d6ab",
    "to_room_id": "f88c7e21-a235-4829-a698-7eab2b2bbc6d",
    "move_timestamp": "2023-04-12T15:23:45Z"
  }
}"#;

const SNAPSHOT: &str = r#"{
  "snapshot_id": "98f0a3b2-1dd2-4444-b537-8b0c35c30f12",
  "aggregate_id": "e52c3ff1-0f7a-4e36-9f65-dd3ca5a1a711",
  "aggregate_type": "player",
  "version": 100,
  "created_at": "2023-04-15T10:15:22Z",
  "state": {
    "name": "Aragorn",
    "health": 85,
    "level": 12,
    "current_room_id": "f88c7e21-a235-4829-a698-7eab2b2bbc6d",
    "inventory": ["sword", "shield", "potion"]
  }
}"#;

#[test]
fn the_event_reads_and_writes_as_it_is() {
    let event: RecordedEvent = serde_json::from_str(EVENT).unwrap();

    let written: Value = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();

    assert_eq!(written, serde_json::from_str::<Value>(EVENT).unwrap());
    assert_eq!(event.event_version.get(), 7);
    assert_eq!(event.schema_version, 1);
}

#[test]
fn the_snapshot_reads_and_writes_as_it_is() {
    let snapshot: Snapshot = serde_json::from_str(SNAPSHOT).unwrap();

    let written: Value = serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();

    assert_eq!(written, serde_json::from_str::<Value>(SNAPSHOT).unwrap());
    assert_eq!(snapshot.version.get(), 100);
}

/// Also through a `Value`, where raw JSON needs care.
#[test]
fn the_event_survives_a_value() {
    let value: Value = serde_json::from_str(EVENT).unwrap();

    let event: RecordedEvent = serde_json::from_value(value.clone()).unwrap();

    assert_eq!(serde_json::to_value(&event).unwrap(), value);
}

#[test]
fn keys_keep_the_order_of_the_document() {
    let event: RecordedEvent = serde_json::from_str(EVENT).unwrap();

    let written = serde_json::to_string_pretty(&event).unwrap();

    let keys = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| {
                line.trim()
                    .strip_prefix('"')?
                    .split('"')
                    .next()
                    .map(str::to_owned)
            })
            .collect()
    };
    assert_eq!(keys(&written)[..6], keys(EVENT)[..6]);
}

#[test]
fn what_is_missing_is_named() {
    for field in [
        "event_id",
        "aggregate_id",
        "aggregate_type",
        "event_type",
        "event_version",
        "created_at",
        "event_data",
    ] {
        let mut value: Value = serde_json::from_str(EVENT).unwrap();
        value.as_object_mut().unwrap().remove(field);

        let error = serde_json::from_str::<RecordedEvent>(&value.to_string()).unwrap_err();

        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (field, wrong) in [
        ("event_id", r#""no uuid""#),
        ("aggregate_id", "7"),
        ("aggregate_type", "null"),
        ("event_version", "-1"),
        ("event_version", r#""seven""#),
        ("created_at", r#""yesterday""#),
        ("metadata", "3"),
        ("position", r#""x""#),
    ] {
        let mut value: Value = serde_json::from_str(EVENT).unwrap();
        value[field] = serde_json::from_str(wrong).unwrap();

        let error = serde_json::from_str::<RecordedEvent>(&value.to_string()).unwrap_err();

        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}
