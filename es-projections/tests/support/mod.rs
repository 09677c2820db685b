//! Events, an oracle that refuses anything out of order, and a store that fails on cue.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses a part"
)]

mod diary;
mod flaky;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use es_core::{
    Appended, BoxError, Event, EventStore, ExpectedVersion, Json, MemoryModels, NewEvent, Position,
    Project, Projection, ProjectionStore, Recorded, StreamId,
};
use es_projections::{DaemonHandle, Settings};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

pub use self::{
    diary::{Diary, Diary2, Outbox, Pages, Scrap, Served, Versions, folded},
    flaky::{Fault, Flaky, Op},
};

/// Longer than any test, shorter than an hour: a red test instead of a hanging one.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Event, Serialize, Deserialize, Debug, Clone)]
pub struct Noted {
    pub number: u32,
}

#[derive(Event, Serialize, Deserialize, Debug, Clone)]
pub struct Foreign {}

/// What the oracle knows: per aggregate the last version; how many events in all; in which batches.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ledger {
    pub versions: BTreeMap<Uuid, u32>,
    pub count: usize,
    pub batches: Vec<usize>,
}

impl Ledger {
    fn record(&mut self, events: &[Recorded<OracleEvent>]) -> Result<(), BoxError> {
        for event in events {
            let version = event.record.event_version.get();
            let last = self.versions.entry(event.record.aggregate_id).or_default();
            if version != *last + 1 {
                return Err(
                    format!("version {version} after {last}: lost, twice or inverted").into(),
                );
            }
            *last = version;
            self.count += 1;
        }
        self.batches.push(events.len());
        Ok(())
    }
}

/// A projection that refuses an event that is not the next of its stream, and misbehaves on cue.
#[derive(Projection, Debug, Default, Clone)]
#[projection(name = "oracle", version = 1, events(Noted))]
pub struct Oracle(pub Cues);

impl Project<MemoryModels> for Oracle {
    async fn project(
        &self,
        models: &mut MemoryModels,
        events: &[Recorded<OracleEvent>],
    ) -> Result<(), BoxError> {
        models.model_mut::<Ledger>().record(events)?;
        let numbers = events.iter().map(|event| match &event.event {
            OracleEvent::Noted(noted) => noted.number,
        });
        self.0.obey(numbers).await
    }
}

/// Another projection of the same events, in a read model of its own.
#[derive(Projection, Debug, Default, Clone)]
#[projection(name = "bystander", version = 1, events(Noted))]
pub struct Bystander;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen(pub usize);

impl Project<MemoryModels> for Bystander {
    async fn project(
        &self,
        models: &mut MemoryModels,
        events: &[Recorded<BystanderEvent>],
    ) -> Result<(), BoxError> {
        models.model_mut::<Seen>().0 += events.len();
        Ok(())
    }
}

/// How a handler is told to misbehave. Clones share the cues.
#[derive(Debug, Default, Clone)]
pub struct Cues(Arc<State>);

#[derive(Debug, Default)]
struct State {
    fails: Mutex<HashSet<u32>>,
    fails_once: Mutex<Vec<u32>>,
    panics: Mutex<HashSet<u32>>,
    deadlocks: Mutex<Vec<u32>>,
    given_up: Mutex<HashSet<(Uuid, u32)>>,
    gate: Mutex<Option<Arc<Gate>>>,
    calls: watch::Sender<usize>,
}

impl Cues {
    pub fn fail_at(&self, number: u32) {
        self.0.fails.lock().unwrap().insert(number);
    }

    pub fn fail_times_at(&self, number: u32, times: usize) {
        let mut fails = self.0.fails_once.lock().unwrap();
        fails.extend(std::iter::repeat_n(number, times));
    }

    pub fn panic_at(&self, number: u32) {
        self.0.panics.lock().unwrap().insert(number);
    }

    /// The database says so often that there was a deadlock.
    pub fn deadlock_times_at(&self, number: u32, times: usize) {
        let mut deadlocks = self.0.deadlocks.lock().unwrap();
        deadlocks.extend(std::iter::repeat_n(number, times));
    }

    /// The aggregate may go on without its event of this version.
    pub fn give_up(&self, aggregate_id: Uuid, version: u32) {
        self.0
            .given_up
            .lock()
            .unwrap()
            .insert((aggregate_id, version));
    }

    pub fn is_given_up(&self, aggregate_id: Uuid, version: u32) -> bool {
        self.0
            .given_up
            .lock()
            .unwrap()
            .contains(&(aggregate_id, version))
    }

    pub fn gate(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate::new());
        *self.0.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    pub fn repair(&self) {
        self.0.fails.lock().unwrap().clear();
        self.0.panics.lock().unwrap().clear();
    }

    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    pub async fn obey(&self, numbers: impl Iterator<Item = u32>) -> Result<(), BoxError> {
        self.0.calls.send_modify(|calls| *calls += 1);
        let gate = self.0.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        for number in numbers {
            let panics = self.0.panics.lock().unwrap().contains(&number);
            assert!(!panics, "number {number} is unlucky");
            let mut deadlocks = self.0.deadlocks.lock().unwrap();
            if let Some(index) = deadlocks.iter().position(|cue| *cue == number) {
                deadlocks.remove(index);
                return Err("deadlock detected".into());
            }
            let fails = self.0.fails.lock().unwrap().contains(&number);
            let mut fails_once = self.0.fails_once.lock().unwrap();
            let once = fails_once.iter().position(|cue| *cue == number);
            if let Some(index) = once {
                fails_once.remove(index);
            }
            if fails || once.is_some() {
                return Err(Box::new(Refused(number)));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct Refused(u32);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not note {}", self.0)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static CAUSE: std::sync::LazyLock<std::io::Error> =
            std::sync::LazyLock::new(|| std::io::Error::other("the pencil broke"));
        Some(&*CAUSE)
    }
}

/// Stops whoever passes, until it is opened.
#[derive(Debug)]
pub struct Gate {
    entered: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub fn new() -> Self {
        Self {
            entered: Semaphore::new(0),
            open: Semaphore::new(0),
        }
    }

    pub fn enter(&self) {
        self.entered.add_permits(1);
    }

    pub async fn pass(&self) {
        self.enter();
        self.open.acquire().await.unwrap().forget();
    }

    pub async fn entered(&self) {
        let entered = tokio::time::timeout(PATIENCE, self.entered.acquire()).await;
        entered.expect("nobody came").unwrap().forget();
    }

    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

pub fn settings() -> Settings {
    Settings::default()
        .with_backoff(Duration::from_millis(1), Duration::from_millis(5))
        .with_lease_ttl(Duration::from_millis(200))
}

/// The projection must come there.
pub async fn reach<S: ProjectionStore + 'static>(
    daemon: &DaemonHandle<S>,
    name: &str,
    position: Position,
) {
    let reached = daemon.wait_until_within(name, position, PATIENCE).await;
    reached.unwrap();
}

pub fn stream() -> StreamId {
    StreamId::new("note", Uuid::now_v7())
}

/// Appends the numbers as one append.
pub async fn note(
    store: &impl EventStore,
    stream: &StreamId,
    numbers: impl IntoIterator<Item = u32>,
) -> Appended {
    let events: Vec<_> = numbers
        .into_iter()
        .map(|number| NewEvent::encode(&Noted { number }).unwrap())
        .collect();
    store
        .append(stream, ExpectedVersion::Any, &events)
        .await
        .unwrap()
}

pub async fn foreign(store: &impl EventStore) -> Appended {
    let event = NewEvent::encode(&Foreign {}).unwrap();
    store
        .append(&stream(), ExpectedVersion::Any, &[event])
        .await
        .unwrap()
}

pub async fn damaged(store: &impl EventStore, stream: &StreamId) -> Appended {
    let json = Json::parse(r#"{"number": "secret payload"}"#).unwrap();
    let event = NewEvent::new(Noted::EVENT_TYPE, json);
    store
        .append(stream, ExpectedVersion::Any, &[event])
        .await
        .unwrap()
}

/// An event as a newer program would write it.
pub async fn newer(store: &impl EventStore, stream: &StreamId) -> Appended {
    let mut event = NewEvent::encode(&Noted { number: 0 }).unwrap();
    event.schema_version = 9;
    store
        .append(stream, ExpectedVersion::Any, &[event])
        .await
        .unwrap()
}

/// Polls, so that a test takes no longer than it must.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let polled = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, polled).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}
