//! The judge of the torture tests: a read model that stores the last version and a count for each
//! aggregate, refuses a version that is not the next one, and must equal a fold of the table.

use std::collections::BTreeMap;

use es_core::{
    Appended, EventStore, ExpectedVersion, Filter, Json, NewEvent, Position, RecordedEvent,
    StreamId,
};
use uuid::Uuid;

/// What is known of one aggregate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) version: i64,
    pub(crate) count: i64,
}

/// All aggregates, as the read model has them or as the table says.
pub(crate) type Tallies = BTreeMap<Uuid, Tally>;

/// The read model of a reader that goes through the log once.
#[derive(Debug, Default)]
pub(crate) struct ReadModel {
    pub(crate) tallies: Tallies,
    pub(crate) position: Position,
}

impl ReadModel {
    /// A skipped event shows at the next of its aggregate, or in the count at the end; one that comes
    /// twice or too early shows here.
    pub(crate) fn apply(&mut self, event: &RecordedEvent) {
        assert!(
            event.position > self.position,
            "{} comes after {}",
            event.position,
            self.position
        );
        self.position = event.position;
        let tally = self.tallies.entry(event.aggregate_id).or_default();
        assert_eq!(
            i64::from(event.event_version.get()),
            tally.version + 1,
            "lost, twice or out of order at position {}",
            event.position
        );
        tally.version += 1;
        tally.count += 1;
    }
}

/// Reads the log in pages of `limit` until the event that [`finish`] adds.
pub(crate) async fn follow(
    store: &impl EventStore,
    limit: u32,
    mut seen: impl FnMut(&RecordedEvent),
) -> ReadModel {
    let mut model = ReadModel::default();
    let mut covered = Position::START;
    loop {
        let page = store.read_log(&Filter::All, covered, limit).await.unwrap();
        assert!(page.covered >= covered, "the cover went back");
        for event in &page.events {
            assert!(event.position > covered && event.position <= page.covered);
            model.apply(event);
            seen(event);
            if event.aggregate_type == "end" {
                return model;
            }
        }
        covered = page.covered;
        store.wait_for_events(covered).await.unwrap();
    }
}

/// Tells readers that the writers are done.
pub(crate) async fn finish(store: &impl EventStore) {
    add(store, &StreamId::new("end", Uuid::now_v7()), 1).await;
}

/// Appends some events wherever the stream is.
pub(crate) async fn add(store: &impl EventStore, stream: &StreamId, count: usize) -> Appended {
    store
        .append(stream, ExpectedVersion::Any, &several(count))
        .await
        .unwrap()
}

pub(crate) fn lamp() -> StreamId {
    StreamId::new("lamp", Uuid::now_v7())
}

pub(crate) fn several(count: usize) -> Vec<NewEvent> {
    let event = |n| NewEvent::new("switched", Json::from_stored(format!(r#"{{"n":{n}}}"#)));
    (0..count).map(event).collect()
}

/// Any number below `end`.
pub(crate) fn below(end: u64) -> u64 {
    let id = Uuid::now_v7().into_bytes();
    u64::from(u16::from_le_bytes([id[14], id[15]])) % end
}
