//! Keeping and finding snapshots.

use chrono::{DateTime, Utc};
use es_core::{Json, Snapshot, SnapshotStore, StreamId, Version};
use uuid::Uuid;

use crate::fixtures::stream;

/// A stream without snapshots has none.
pub async fn an_unknown_stream_has_no_snapshot(store: &dyn SnapshotStore) {
    save(store, &snapshot(&stream(), 3)).await;

    assert_eq!(load(store, &stream(), Version::MAX).await, None);
}

/// The newest snapshot at or below the version asked for is found, in whatever order they came.
pub async fn the_newest_at_or_below_is_found(store: &dyn SnapshotStore) {
    let stream = stream();
    let [ten, twenty, thirty] = [10, 20, 30].map(|version| snapshot(&stream, version));
    for snapshot in [&twenty, &thirty, &ten] {
        save(store, snapshot).await;
    }

    for (at_most, expected) in [
        (0, None),
        (9, None),
        (10, Some(&ten)),
        (19, Some(&ten)),
        (20, Some(&twenty)),
        (29, Some(&twenty)),
        (30, Some(&thirty)),
        (31, Some(&thirty)),
        (Version::MAX.get(), Some(&thirty)),
    ] {
        assert_eq!(
            load(store, &stream, Version::new(at_most)).await.as_ref(),
            expected,
            "the newest snapshot at or below version {at_most}",
        );
    }
}

/// A snapshot of the same stream and version is replaced.
pub async fn the_same_version_is_replaced(store: &dyn SnapshotStore) {
    let stream = stream();
    save(store, &snapshot(&stream, 5)).await;
    let mut second = snapshot(&stream, 5);
    second.state = Json::from_stored(r#"{"second":true}"#);
    second.fingerprint = Some("feed".to_owned());

    save(store, &second).await;
    assert_eq!(
        load(store, &stream, Version::new(5)).await.as_ref(),
        Some(&second)
    );

    // The very same one again changes nothing.
    save(store, &second).await;
    assert_eq!(
        load(store, &stream, Version::MAX).await.as_ref(),
        Some(&second)
    );
    assert_eq!(load(store, &stream, Version::new(4)).await, None);
}

/// Snapshots of one stream are not found in another.
pub async fn each_stream_has_its_own_snapshots(store: &dyn SnapshotStore) {
    let (one, two) = (stream(), stream());
    let (of_one, of_two) = (snapshot(&one, 5), snapshot(&two, 7));
    save(store, &of_one).await;
    save(store, &of_two).await;

    assert_eq!(load(store, &one, Version::MAX).await, Some(of_one));
    assert_eq!(load(store, &two, Version::MAX).await, Some(of_two));
}

/// The example of the specification comes back as it went in.
pub async fn the_example_of_the_specification_is_kept(store: &dyn SnapshotStore) {
    let snapshot = Snapshot {
        snapshot_id: uuid("98f0a3b2-1dd2-4444-b537-8b0c35c30f12"),
        aggregate_id: uuid("e52c3ff1-0f7a-4e36-9f65-dd3ca5a1a711"),
        aggregate_type: "player".into(),
        version: Version::new(100),
        created_at: time("2023-04-15T10:15:22Z"),
        state: Json::from_stored(
            r#"{
        "name": "Aragorn",
        "health": 85,
        "level": 12,
        "current_room_id": "f88c7e21-a235-4829-a698-7eab2b2bbc6d",
        "inventory": ["sword", "shield", "potion"]
      }"#,
        ),
        fingerprint: None,
    };

    save(store, &snapshot).await;

    let held = load(store, &snapshot.stream(), Version::new(100)).await;
    assert_eq!(held.as_ref(), Some(&snapshot));
    assert_eq!(
        held.expect("a snapshot").state.as_str(),
        snapshot.state.as_str(),
        "the state must come back verbatim",
    );
}

/// Fingerprint, microseconds and a state with any content come back as they went in.
pub async fn a_snapshot_is_kept_whole(store: &dyn SnapshotStore) {
    let mut snapshot = snapshot(&stream(), 2_147_483_647);
    snapshot.created_at = time("2024-02-29T23:59:59.123456Z");
    snapshot.fingerprint = Some("00ff00ff00ff00ff".to_owned());
    snapshot.state = Json::from_stored(
        r#"{"z":1,"a":123456789012345678901234567890,"u":"鳥\u0000 \ud83d\ude00"}"#,
    );

    save(store, &snapshot).await;

    let held = load(store, &snapshot.stream(), Version::MAX).await;
    assert_eq!(held, Some(snapshot));
}

pub(crate) fn snapshot(stream: &StreamId, version: u32) -> Snapshot {
    Snapshot {
        snapshot_id: Uuid::now_v7(),
        aggregate_id: stream.aggregate_id,
        aggregate_type: stream.aggregate_type.clone(),
        version: Version::new(version),
        created_at: time("2024-01-02T03:04:05Z"),
        state: Json::from_stored(format!(r#"{{"version":{version}}}"#)),
        fingerprint: None,
    }
}

pub(crate) async fn save(store: &dyn SnapshotStore, snapshot: &Snapshot) {
    if let Err(err) = store.save_snapshot(snapshot).await {
        panic!("saving a snapshot must succeed, got: {err}: {err:?}");
    }
}

pub(crate) async fn load(
    store: &dyn SnapshotStore,
    stream: &StreamId,
    at_most: Version,
) -> Option<Snapshot> {
    store
        .load_snapshot(stream, at_most)
        .await
        .expect("a snapshot can be looked for")
}

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).expect("a fixture")
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a fixture")
}
