//! A [`MemoryStore`] with one mechanism taken out.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use es_core::{
    AppendError, Appended, Batch, Capabilities, Checkpoint, CheckpointError, Claim, EventStore,
    ExpectedVersion, Filter, Json, LogPage, MemoryBatch, MemoryModels, MemoryStore, Metadata, Name,
    NewEvent, Position, Progress, ProjectionId, ProjectionStore, ReadError, RecordedEvent, Scan,
    Snapshot, SnapshotError, SnapshotStore, StreamId, Version,
};
use uuid::Uuid;

/// What is wrong with a [`FaultyStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every append is taken as one that accepts any version.
    IgnoresExpectedVersion,
    /// As with a sequence and no horizon: every seventh event is not there when its place in the
    /// log is first read past, and is there afterwards.
    ShowsSomeEventsLate,
    /// Every second append records the first half of its events and answers with success.
    AppendsHalf,
    /// An append writes its halves one after the other, not in one transaction.
    AppendsInTwoSteps,
    /// The expected version is checked before it is known whether the append is a repetition.
    ChecksTheVersionFirst,
    /// A conflict says that the stream has no events.
    LiesInAConflict,
    /// A store that parses the content and writes it again without its spaces.
    RewritesTheContent,
    /// Nobody knows through whom an event happened.
    ForgetsTheMetadata,
    /// A name that is empty or too long is replaced.
    MendsNames,
    /// Each event has the time of another clock.
    TakesEachWritersClock,
    /// The store gives events ids of its own.
    ForgetsIds,
    /// A full page says that it covers everything that is settled.
    CoversMoreThanItRead,
    /// A short page says that it covers a place that nobody has written to yet.
    CoversMoreThanIsSettled,
    /// A page without events says that it covers nothing.
    CoversOnlyWhatMatched,
    /// A batch begins from wherever the checkpoint stands, whoever holds it.
    DoesNotFence,
    /// A projection is given to whoever asks.
    IgnoresTheHolder,
    /// The checkpoint does not keep which event it stands at.
    ForgetsTheAnchor,
    /// The checkpoint is written before the batch and not in it.
    MovesTheCheckpointBeforehand,
    /// A checkpoint above the end of the log is taken to be at its end.
    TakesTheLogsEnd,
    /// All versions of a projection share a checkpoint.
    IgnoresTheProjectionsVersion,
    /// A projection may want other event types every time.
    IgnoresTheEventTypes,
    /// What is appended never settles.
    NeverSettles,
    /// The state of a snapshot is parsed and written again without its spaces.
    RewritesTheState,
    /// Waiting for events never ends.
    NeverWakes,
    /// A scan includes the time it must end before.
    ScansToTheEndInclusive,
    /// A scan goes on behind the time of the last event, not behind the event.
    ScansByTimeOnly,
    /// The newest snapshot is found, whatever version is asked for.
    FindsTooNewASnapshot,
}

/// A store that delegates to a [`MemoryStore`], except for its [`Fault`].
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    fault: Fault,
    appends: Arc<AtomicUsize>,
    shown: Arc<Mutex<HashSet<Position>>>,
}

impl FaultyStore {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            inner: MemoryStore::new(),
            fault,
            appends: Arc::default(),
            shown: Arc::default(),
        }
    }

    fn name(&self, name: &Name) -> Name {
        let bad = name.is_empty() || name.len() > 255;
        if bad && self.fault == Fault::MendsNames {
            return "mended".into();
        }
        name.clone()
    }

    fn spoil(&self, event: &mut NewEvent) {
        event.event_type = self.name(&event.event_type);
        match self.fault {
            Fault::ForgetsIds => event.event_id = Uuid::now_v7(),
            Fault::ForgetsTheMetadata => event.metadata = Metadata::default(),
            Fault::RewritesTheContent => {
                event.event_data = Json::from_stored(event.event_data.as_str().replace(' ', ""));
            }
            _ => {}
        }
    }

    async fn check_version(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
    ) -> Result<(), AppendError> {
        let held = self
            .inner
            .read_stream(stream, Version::EMPTY, u32::MAX)
            .await;
        let last = held
            .ok()
            .and_then(|held| held.last().map(|event| event.event_version));
        let actual = last.unwrap_or(Version::EMPTY);
        if expected.accepts(actual) {
            return Ok(());
        }
        Err(AppendError::Conflict {
            stream: stream.clone(),
            expected,
            actual,
        })
    }

    fn key(&self, projection: &ProjectionId) -> ProjectionId {
        match self.fault {
            Fault::IgnoresTheProjectionsVersion => ProjectionId::new(projection.name.clone(), 1),
            _ => projection.clone(),
        }
    }

    /// Leaves every seventh event out until a page has covered it once.
    fn hide_once(&self, page: &mut LogPage) {
        let mut shown = self.shown.lock().expect("no check panics in here");
        page.events
            .retain(|event| event.position.get() % 7 != 0 || !shown.insert(event.position));
    }

    async fn append_in_two_steps(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let (first, second) = events.split_at(events.len() / 2);
        let appended = self.inner.append(stream, expected, first).await?;
        tokio::task::yield_now().await;
        let expected = match expected {
            ExpectedVersion::Any => ExpectedVersion::Any,
            _ => ExpectedVersion::Exact(appended.version),
        };
        self.inner.append(stream, expected, second).await
    }
}

#[async_trait]
impl EventStore for FaultyStore {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        match self.fault {
            Fault::IgnoresExpectedVersion => {
                self.inner
                    .append(stream, ExpectedVersion::Any, events)
                    .await
            }
            Fault::AppendsHalf if events.len() > 1 => {
                let half = self
                    .appends
                    .fetch_add(1, Ordering::SeqCst)
                    .is_multiple_of(2);
                let kept = if half { events.len() / 2 } else { events.len() };
                self.inner.append(stream, expected, &events[..kept]).await
            }
            Fault::AppendsInTwoSteps if events.len() > 1 => {
                self.append_in_two_steps(stream, expected, events).await
            }
            Fault::ChecksTheVersionFirst => {
                self.check_version(stream, expected).await?;
                self.inner.append(stream, expected, events).await
            }
            Fault::LiesInAConflict => {
                let answer = self.inner.append(stream, expected, events).await;
                answer.map_err(|mut err| {
                    if let AppendError::Conflict { actual, .. } = &mut err {
                        *actual = Version::EMPTY;
                    }
                    err
                })
            }
            Fault::ForgetsIds
            | Fault::RewritesTheContent
            | Fault::ForgetsTheMetadata
            | Fault::MendsNames => {
                let stream = StreamId::new(self.name(&stream.aggregate_type), stream.aggregate_id);
                let mut events = events.to_vec();
                events.iter_mut().for_each(|event| self.spoil(event));
                self.inner.append(&stream, expected, &events).await
            }
            _ => self.inner.append(stream, expected, events).await,
        }
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let mut events = self.inner.read_stream(stream, after, limit).await?;
        if self.fault == Fault::TakesEachWritersClock {
            for event in &mut events {
                event.created_at -= TimeDelta::seconds(i64::from(event.event_version.get() % 2));
            }
        }
        Ok(events)
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        let mut page = self.inner.read_log(filter, after, limit).await?;
        let full = page.events.len() == limit as usize;
        match self.fault {
            Fault::ShowsSomeEventsLate => self.hide_once(&mut page),
            Fault::CoversMoreThanItRead if full => page.covered = self.inner.settled().await?,
            Fault::CoversMoreThanIsSettled if !full => {
                page.covered = Position::new(page.covered.get() + 1);
            }
            Fault::CoversOnlyWhatMatched if page.events.is_empty() => page.covered = after,
            _ => {}
        }
        Ok(page)
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        let mut scan = scan.clone();
        match self.fault {
            Fault::ScansToTheEndInclusive => {
                scan.until = scan.until.map(|until| until + TimeDelta::microseconds(1));
            }
            Fault::ScansByTimeOnly => {
                scan.after = scan.after.map(|(time, _)| (time, Position::new(u64::MAX)));
            }
            _ => {}
        }
        self.inner.scan(&scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        if self.fault == Fault::NeverSettles {
            return Ok(Position::START);
        }
        self.inner.settled().await
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        if self.fault == Fault::NeverWakes {
            std::future::pending::<()>().await;
        }
        self.inner.wait_for_events(after).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl SnapshotStore for FaultyStore {
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError> {
        let at_most = match self.fault {
            Fault::FindsTooNewASnapshot => Version::MAX,
            _ => at_most,
        };
        self.inner.load_snapshot(stream, at_most).await
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let mut snapshot = snapshot.clone();
        if self.fault == Fault::RewritesTheState {
            snapshot.state = Json::from_stored(snapshot.state.as_str().replace(' ', ""));
        }
        self.inner.save_snapshot(&snapshot).await
    }
}

#[async_trait]
impl ProjectionStore for FaultyStore {
    type Connection = MemoryModels;
    type Batch = MemoryBatch;

    async fn begin_set_up(
        &self,
        projection: &ProjectionId,
    ) -> Result<MemoryBatch, CheckpointError> {
        self.inner.begin_set_up(projection).await
    }

    async fn acquire(
        &self,
        projection: &ProjectionId,
        event_types: &[&str],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Claim, CheckpointError> {
        let wanted = match self.fault {
            Fault::IgnoresTheEventTypes => &["any"],
            _ => event_types,
        };
        let key = &self.key(projection);
        let claim = match self.inner.acquire(key, wanted, owner, ttl).await {
            Err(CheckpointError::Held { owner: holder, .. })
                if self.fault == Fault::IgnoresTheHolder =>
            {
                let held = self.inner.acquire(key, wanted, holder, ttl).await?;
                self.inner.release(&held).await?;
                self.inner.acquire(key, wanted, owner, ttl).await
            }
            other => other,
        };
        claim.map(|claim| Claim {
            projection: projection.clone(),
            ..claim
        })
    }

    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError> {
        let mut claim = claim.clone();
        claim.projection = self.key(&claim.projection);
        self.inner.release(&claim).await
    }

    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
        ttl: Duration,
    ) -> Result<MemoryBatch, CheckpointError> {
        let (mut claim, mut to) = (claim.clone(), *to);
        match self.fault {
            Fault::DoesNotFence => {
                let held = self.inner.checkpoint(&claim.projection).await;
                if let Ok(Some(held)) = held {
                    claim.position = held.position;
                    claim.epoch = held.epoch;
                    claim.owner = held.owner.unwrap_or(claim.owner);
                }
            }
            Fault::ForgetsTheAnchor => to.anchor = None,
            Fault::TakesTheLogsEnd => {
                let end = self.inner.settled().await.unwrap_or_default();
                to.position = to.position.min(end);
                to.anchor = to.anchor.filter(|(position, _)| *position <= end);
            }
            Fault::MovesTheCheckpointBeforehand => {
                let moved = self.inner.begin_batch(&claim, &to, ttl).await?;
                moved.commit().await?;
                return self.inner.begin_set_up(&claim.projection).await;
            }
            _ => {}
        }
        claim.projection = self.key(&claim.projection);
        self.inner.begin_batch(&claim, &to, ttl).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Checkpoint>, ReadError> {
        self.inner.checkpoint(&self.key(projection)).await
    }
}
