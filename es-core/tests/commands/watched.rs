//! A store in memory that counts round trips, gives way before and after each of them, fails when
//! told to, and can be put back to an older state.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Capabilities, EraseError, EventStore, ExpectedVersion, Filter,
    LogPage, MemoryStore, NewEvent, Position, ReadError, RecordedEvent, Scan, Snapshot,
    SnapshotError, SnapshotStore, SnapshotView, StreamErased, StreamId, StreamVisitor, Version,
    Visit,
};
use tokio::{sync::Semaphore, task::yield_now};

#[derive(Debug, Clone)]
pub(crate) struct Watched {
    store: Arc<Mutex<MemoryStore>>,
    seen: Arc<Mutex<Seen>>,
    fault: Arc<Mutex<Option<Fault>>>,
    erase: Arc<AtomicBool>,
    /// Snapshots wait here.
    snapshots: Arc<Semaphore>,
}

/// The round trips since the last [`Watched::forget`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) appends: usize,
    pub(crate) conflicts: usize,
    pub(crate) visits: Vec<Visit>,
    pub(crate) snapshots: usize,
    /// Any other read.
    pub(crate) reads: usize,
}

/// What goes wrong with the next append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is recorded.
    Refused,
    /// It is recorded, but the answer is lost.
    AnswerLost,
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::default(),
            seen: Arc::default(),
            fault: Arc::default(),
            erase: Arc::default(),
            snapshots: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        *self.seen.lock().unwrap() = Seen::default();
    }

    pub(crate) fn unwatched(&self) -> MemoryStore {
        self.store.lock().unwrap().clone()
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    /// The stream is erased right after its snapshot was shown: a backend that reads step by step can
    /// meet that.
    pub(crate) fn erase_in_next_visit(&self) {
        self.erase.store(true, Ordering::SeqCst);
    }

    async fn erase_in_visit(
        &self,
        visit: &Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        let store = self.unwatched();
        let snapshot = store.load_snapshot(&visit.stream, visit.at_most).await?;
        let snapshot = snapshot.unwrap();
        let believed = visitor.snapshot(SnapshotView {
            version: snapshot.version,
            fingerprint: snapshot.fingerprint.as_deref(),
            state: snapshot.state.as_str(),
        });
        assert!(believed);
        let tombstone = StreamErased::new("asked to", "the office");
        store.erase(&visit.stream, &tombstone).await.unwrap();
        let rest = Visit {
            after: snapshot.version,
            snapshot: false,
            ..visit.clone()
        };
        store.visit_stream(&rest, visitor).await
    }

    /// No snapshot is saved any more, and those who try wait.
    pub(crate) fn hold_snapshots(&self) {
        self.snapshots.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// The first `events` of `stream`, as from a backup; nothing else is left.
    pub(crate) async fn restore(&self, stream: &StreamId, events: u32) {
        let old = self.unwatched();
        let backup = MemoryStore::new();
        for event in old
            .read_stream(stream, Version::EMPTY, events)
            .await
            .unwrap()
        {
            let mut new = NewEvent::new(event.event_type, event.event_data);
            new.event_id = event.event_id;
            backup
                .append(stream, ExpectedVersion::Any, &[new])
                .await
                .unwrap();
        }
        *self.store.lock().unwrap() = backup;
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap());
    }

    async fn recorded<T>(
        &self,
        first: &StreamId,
        answer: impl Future<Output = Result<T, AppendError>>,
    ) -> Result<T, AppendError> {
        self.note(|seen| seen.appends += 1);
        let fault = self.fault.lock().unwrap().take();
        let dead = AppendError::Backend {
            stream: first.clone(),
            count: 1,
            transient: true,
            source: "the line went dead".into(),
        };
        yield_now().await;
        if fault == Some(Fault::Refused) {
            return Err(dead);
        }
        let answer = answer.await;
        yield_now().await;
        if fault == Some(Fault::AnswerLost) {
            return Err(dead);
        }
        if matches!(answer, Err(AppendError::Conflict { .. })) {
            self.note(|seen| seen.conflicts += 1);
        }
        answer
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
        let store = self.unwatched();
        self.recorded(stream, store.append(stream, expected, events))
            .await
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        let store = self.unwatched();
        self.recorded(&appends[0].stream, store.append_all(appends))
            .await
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        self.unwatched().erase(stream, tombstone).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.note(|seen| seen.reads += 1);
        self.unwatched().read_stream(stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        self.note(|seen| seen.reads += 1);
        self.unwatched().read_log(filter, after, limit).await
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        self.note(|seen| seen.reads += 1);
        self.unwatched().scan(scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        self.unwatched().settled().await
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        self.unwatched().wait_for_events(after).await
    }

    fn capabilities(&self) -> Capabilities {
        self.unwatched().capabilities()
    }
}

#[async_trait]
impl SnapshotStore for Watched {
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError> {
        self.note(|seen| seen.reads += 1);
        self.unwatched().load_snapshot(stream, at_most).await
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.note(|seen| seen.snapshots += 1);
        yield_now().await;
        let _turn = self.snapshots.acquire().await.unwrap();
        self.unwatched().save_snapshot(snapshot).await
    }

    async fn visit_stream(
        &self,
        visit: &Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        self.note(|seen| seen.visits.push(visit.clone()));
        yield_now().await;
        if self.erase.swap(false, Ordering::SeqCst) {
            return self.erase_in_visit(visit, visitor).await;
        }
        self.unwatched().visit_stream(visit, visitor).await?;
        yield_now().await;
        Ok(())
    }
}
