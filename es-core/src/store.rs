//! The ports a backend implements for events and snapshots.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{
    Append, AppendError, EraseError, ExpectedVersion, Name, NewEvent, Position, ReadError,
    RecordedEvent, Snapshot, SnapshotError, StreamErased, StreamId, StreamVisitor, Version, Visit,
    visit,
};

/// An append-only log of events, split into streams.
///
/// A stream is the history of one aggregate. Most programs never call this trait: they go through
/// [`Repository`](crate::Repository). Implement it to add a backend; `es-conformance` has a test for
/// each sentence of the contract.
///
/// # Contract
///
/// 1. **All or nothing.** `append` records all of its events or none of them, also when its future
///    is dropped half-way.
/// 2. **No holes.** The versions of a stream are 1, 2, 3, and so on.
/// 3. **Expected version.** A demand that is not met records nothing and is answered with
///    [`AppendError::Conflict`], which tells the truth about the stream.
/// 4. **Idempotent.** An append repeated with the same event ids, in the same order, at the same
///    place, records nothing and returns the first result. If only some of the ids are there, or
///    elsewhere, it is an error.
/// 5. **Nothing appears late.** Once a page of [`read_log`](Self::read_log) has covered a position,
///    no event at or before it appears afterwards.
/// 6. **Order.** Positions rise with versions inside a stream, and `created_at` does not fall.
/// 7. **Append-only.** Nothing changes a recorded event but [`erase`](Self::erase), which leaves its
///    place, its name and its id.
#[async_trait]
pub trait EventStore: Send + Sync + fmt::Debug {
    /// Adds `events` to the end of `stream`, if it is where the caller expects it.
    ///
    /// Dropping the future leaves all of the events or none.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; except for [`AppendError::Backend`] nothing was recorded.
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError>;

    /// Records all of `appends` or none of them: one decision that touches several streams. Each has
    /// an expected version of its own; the answers come in the same order.
    ///
    /// Repeated as a whole it returns the first answers, as `append` does.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; it names the stream that stood in the way. A backend that cannot do this
    /// ([`Capabilities::atomic_across_streams`]) answers [`AppendError::Invalid`].
    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError>;

    /// Erases the payloads and metadata of `stream`, and its snapshots, and ends it with `tombstone`,
    /// in one transaction. Nothing can be appended to it any more.
    ///
    /// The events keep their places, names and ids; their content reads as
    /// [erased](RecordedEvent::is_erased). What else has kept it is yours to clean: read models,
    /// outboxes, logs, backups; and the files of the database hold the old bytes until it tidies up (the
    /// next `VACUUM` of Postgres, the next checkpoint of SQLite). A stream that is erased already stays as it is, and the
    /// first answer is returned.
    ///
    /// # Errors
    ///
    /// See [`EraseError`]; nothing was erased unless the backend failed while committing.
    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError>;

    /// At most `limit` events of `stream` after version `after`, in order.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. A stream that does not exist is empty, not an error.
    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError>;

    /// At most `limit` events of the log after `after` that match `filter`, in log order, and how
    /// far the page covers the log.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError>;

    /// At most `limit` events of one type by `created_at`, then position, after the cursor.
    ///
    /// Exact for everything at or below [`settled`](Self::settled): nothing is left out, and
    /// nothing appears behind a cursor that has been passed.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError>;

    /// The settled horizon: up to this position nothing can appear late.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn settled(&self) -> Result<Position, ReadError>;

    /// The settled horizon, the end of the log, and who keeps them apart: for those who watch over a
    /// system. Readers need only [`settled`](Self::settled).
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn horizon(&self) -> Result<Horizon, ReadError> {
        let settled = self.settled().await?;
        Ok(Horizon {
            settled,
            end: settled,
            blocker: None,
        })
    }

    /// Waits until the log may have settled events after `after`. It may return too early, but
    /// never later than the backend's polling interval: push is a hint, polling the guarantee.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError>;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;
}

/// Where snapshots are kept, beside the events they are taken from.
#[async_trait]
pub trait SnapshotStore: EventStore {
    /// The newest snapshot of `stream` at or below `at_most`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError>;

    /// Keeps a snapshot. One of the same stream and version is replaced. That of a stream which is
    /// [erased](EventStore::erase) is dropped in silence.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError>;

    /// Shows `visitor` the newest snapshot, if it is asked for, and the events after it.
    ///
    /// A backend can do better than this default, which takes a round trip for each step: one
    /// statement, and no record made of each event. A snapshot that cannot be read, or is ahead of its
    /// stream, is not offered.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. The visitor may have seen a part of the stream then.
    async fn visit_stream(
        &self,
        visit: &Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        visit::by_pages(self, visit, visitor).await
    }
}

/// What an append recorded, or had recorded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The stream's version with the last of the events.
    pub version: Version,
    /// The position of the last of the events.
    pub position: Position,
}

/// Which events of the log a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    #[default]
    All,
    /// Those of these event types.
    EventTypes(Vec<Name>),
}

impl Filter {
    /// Events of these types.
    pub fn event_types<N: Into<Name>>(types: impl IntoIterator<Item = N>) -> Self {
        Self::EventTypes(types.into_iter().map(Into::into).collect())
    }
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The events that match, in log order.
    pub events: Vec<RecordedEvent>,
    /// Everything at or before this position has been considered: the next `after`, and what a
    /// checkpoint may be set to. Never above the settled horizon.
    pub covered: Position,
}

/// How far the log can be read, and how far it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// Up to this position nothing can appear late.
    pub settled: Position,
    /// The highest position that can be seen.
    pub end: Position,
    /// Who has kept the two apart for longest, if anyone does.
    pub blocker: Option<Blocker>,
}

/// A transaction that has added events and has not ended: nobody reads past it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The database's number for the session. `None` for a prepared transaction, which has none.
    pub pid: Option<i32>,
    /// The session or the prepared transaction by the name it gave itself.
    pub name: String,
    /// How long the transaction has been open.
    pub age: Duration,
}

/// Which events a scan wants: one type, in a range of `created_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The event type.
    pub event_type: Name,
    /// Created at or after this time; `None` means from the first.
    pub from: Option<DateTime<Utc>>,
    /// Created before this time; `None` means to the last settled one.
    pub until: Option<DateTime<Utc>>,
    /// Where the last page ended: `created_at` and position of its last event.
    pub after: Option<(DateTime<Utc>, Position)>,
}

impl Scan {
    /// All events of one type.
    #[must_use]
    pub fn of(event_type: impl Into<Name>) -> Self {
        Self {
            event_type: event_type.into(),
            from: None,
            until: None,
            after: None,
        }
    }

    /// The scan that continues after `event`, the last of a page.
    #[must_use]
    pub fn after(mut self, event: &RecordedEvent) -> Self {
        self.after = Some((event.created_at, event.position));
        self
    }
}

/// What a backend can do, so that code above it need not guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Events survive the process once `append` has returned.
    pub durable: bool,
    /// All events of the store have one order. (Otherwise only those of a partition.)
    pub total_order: bool,
    /// Other processes can use the same log.
    pub shared_between_processes: bool,
    /// [`EventStore::append_all`] takes more than one stream.
    pub atomic_across_streams: bool,
}

impl Capabilities {
    /// What a backend says of itself. Appends are atomic across streams.
    #[must_use]
    pub const fn new(durable: bool, total_order: bool, shared_between_processes: bool) -> Self {
        Self {
            durable,
            total_order,
            shared_between_processes,
            atomic_across_streams: true,
        }
    }
}
