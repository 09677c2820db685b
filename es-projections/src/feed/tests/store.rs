//! A store in memory that counts, is slow, and fails, as it is told.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Capabilities, EraseError, EventStore, ExpectedVersion, Filter,
    Json, LogPage, MemoryStore, Name, NewEvent, Position, ReadError, RecordedEvent, Scan,
    StreamErased, StreamId, Version,
};
use uuid::Uuid;

/// Chance with a seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = usize::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits");
        mixed % end
    }
}

#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) inner: MemoryStore,
    /// The filter of each read, its `after`, and how many events it brought.
    pub(super) reads: Mutex<Vec<(Vec<Name>, Position, usize)>>,
    pub(super) waits: AtomicUsize,
    /// The next reads fail.
    pub(super) failures: AtomicU32,
    /// Reads take their time and fail now and then.
    pub(super) moods: Option<Mutex<Dice>>,
}

impl Watched {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(super) async fn append(&self, event_types: &[&'static str]) -> Position {
        self.append_bytes(event_types, 0).await
    }

    pub(super) async fn append_bytes(
        &self,
        event_types: &[&'static str],
        bytes: usize,
    ) -> Position {
        let stream = StreamId::new("thing", Uuid::now_v7());
        let content = Json::encode(&"x".repeat(bytes)).unwrap();
        let events: Vec<_> = event_types
            .iter()
            .map(|event_type| NewEvent::new(*event_type, content.clone()))
            .collect();
        let appended = self.inner.append(&stream, ExpectedVersion::Any, &events);
        appended.await.unwrap().position
    }

    /// How many reads there were, and how many events they brought.
    pub(super) fn cost(&self) -> (usize, usize) {
        let reads = self.reads.lock().unwrap();
        (reads.len(), reads.iter().map(|(_, _, events)| events).sum())
    }

    pub(super) fn forget(&self) {
        self.reads.lock().unwrap().clear();
        self.waits.store(0, Ordering::SeqCst);
    }

    async fn mood(&self) -> Result<(), ReadError> {
        let (pause, fails) = match &self.moods {
            None => (1, false),
            Some(dice) => {
                let mut dice = dice.lock().unwrap();
                (dice.below(4), dice.below(30) == 0)
            }
        };
        for _ in 0..pause {
            tokio::task::yield_now().await;
        }
        let told = self.failures.load(Ordering::SeqCst) > 0;
        if told {
            self.failures.fetch_sub(1, Ordering::SeqCst);
        }
        match fails || told {
            false => Ok(()),
            true => Err(ReadError::Backend {
                what: "the log".into(),
                transient: true,
                source: Box::new(std::io::Error::other("cut off")),
            }),
        }
    }
}

#[async_trait]
impl EventStore for Watched {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        self.inner.append(stream, expected, events).await
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        self.inner.append_all(appends).await
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        self.inner.erase(stream, tombstone).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.inner.read_stream(stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        self.mood().await?;
        let page = self.inner.read_log(filter, after, limit).await?;
        let types = match filter {
            Filter::All => Vec::new(),
            Filter::EventTypes(types) => types.clone(),
        };
        self.reads
            .lock()
            .unwrap()
            .push((types, after, page.events.len()));
        self.mood().await?;
        Ok(page)
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        self.inner.scan(scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        self.inner.settled().await
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        self.waits.fetch_add(1, Ordering::SeqCst);
        self.inner.wait_for_events(after).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
