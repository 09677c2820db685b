//! What is recorded is what will be read.

use es_core::{Aggregate, Apply, Event, MemoryStore, Repository, SaveError, Start, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Event, Serialize, Deserialize)]
struct Measured {
    degrees: f64,
    #[serde(skip)]
    note: String,
}

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Measured), events(Noted))]
struct Gauge {
    degrees: f64,
    note: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Noted {
    degrees: f64,
    #[serde(skip)]
    note: String,
}

impl Start<Measured> for Gauge {
    fn start(event: &Measured) -> Self {
        Self {
            degrees: event.degrees,
            note: event.note.clone(),
        }
    }
}

impl Apply<Noted> for Gauge {
    fn apply(&mut self, event: &Noted) {
        self.degrees = event.degrees;
        self.note.clone_from(&event.note);
    }
}

/// JSON has no NaN: it is written as null, which is no float. Seen to fail when events are not read back
/// before they are recorded.
#[tokio::test]
async fn an_event_that_could_not_be_read_is_not_recorded() {
    let store = MemoryStore::new();
    let gauges = Repository::<Gauge>::new(store.clone());
    let id = Uuid::now_v7();
    let note = String::new;
    let first = Measured {
        degrees: f64::NAN,
        note: note(),
    };
    let refused = gauges.create(id, first).await.unwrap_err();
    assert!(
        matches!(refused, SaveError::Unreadable { .. }),
        "{refused:?}"
    );

    let first = Measured {
        degrees: 20.5,
        note: note(),
    };
    gauges.create(id, first).await.unwrap();
    let decide = |_: &Gauge| {
        Ok::<_, &str>(Noted {
            degrees: f64::INFINITY,
            note: note(),
        })
    };
    assert!(gauges.update(id, decide).await.is_err());
    assert_eq!(gauges.load(id).await.unwrap().version(), Version::new(1));
}

/// What an event keeps to itself is no part of history. Seen to fail when the event in memory is applied,
/// and not the one that is stored.
#[tokio::test]
async fn commands_and_snapshots_see_what_a_replay_would_see() {
    let store = MemoryStore::new();
    let gauges = Repository::<Gauge>::new(store.clone()).snapshot_every(1);
    let id = Uuid::now_v7();
    let lossy = || "only in memory".to_owned();
    let first = Measured {
        degrees: 1.0,
        note: lossy(),
    };
    gauges.create(id, first).await.unwrap();
    assert_eq!(gauges.load(id).await.unwrap().note, "");

    let note = |_: &Gauge| {
        Ok::<_, &str>(Noted {
            degrees: 2.0,
            note: lossy(),
        })
    };
    gauges.update(id, note).await.unwrap();
    let see = |gauge: &Gauge| {
        assert_eq!(gauge.note, "");
        Ok::<_, &str>(())
    };
    gauges.update(id, see).await.unwrap();
    assert_eq!(gauges.load(id).await.unwrap().note, "");
}
