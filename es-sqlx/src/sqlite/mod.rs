//! The SQLite store: one file, one writer at a time, no server.

mod address;
mod admit;
mod erase;
mod frame;
mod inline;
mod insert;
mod layout;
mod listen;
mod lone;
mod options;
mod projections;
mod read;
mod record;
mod row;
mod schema;
mod snapshot;
mod transaction;
mod visit;
mod writer;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Capabilities, EraseError, EventStore, ExpectedVersion, Filter,
    LogPage, NewEvent, Position, ReadError, RecordedEvent, Scan, StreamErased, StreamId, Version,
};
use sqlx::{Sqlite, SqlitePool, pool::PoolConnection};
use tracing::Instrument;

use self::{listen::Watcher, record::SqliteRecorder, writer::Writer};
pub use self::{
    options::{SqliteOptions, Synchronous},
    projections::SqliteBatch,
    transaction::SqliteTransaction,
};
use crate::{OpenError, queue::Queue};

/// An event store in a SQLite file. Cheap to clone; all clones are one store.
///
/// Several processes may open the same file; SQLite lets one of them write at a time, so the order
/// of the log is the order of commits. Appends that wait at the same time share a transaction; an append
/// that is refused does not touch the others.
///
/// ```
/// use es_core::{EventStore, ExpectedVersion, Json, NewEvent, StreamId};
/// use es_sqlx::SqliteStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SqliteStore::in_memory().await?;
/// let lamp = StreamId::new("lamp", uuid::Uuid::now_v7());
/// let switched = NewEvent::new("switched", Json::parse(r#"{"on":true}"#)?);
///
/// let appended = store.append(&lamp, ExpectedVersion::NoStream, &[switched]).await?;
///
/// assert_eq!(appended.version.get(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    address: String,
    queue: Queue<SqliteRecorder>,
    writer: Arc<Writer>,
    readers: SqlitePool,
    watcher: Watcher,
}

impl SqliteStore {
    /// Opens a path, a `sqlite:` URL, or `:memory:`; creates and migrates the file if need be.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A file that is not ours is left as it is.
    pub async fn open(address: impl Into<String>) -> Result<Self, OpenError> {
        SqliteOptions::new(address).open().await
    }

    /// A database of its own in memory. It has one connection: while a transaction is open, readers wait
    /// for it too.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn in_memory() -> Result<Self, OpenError> {
        Self::open(":memory:").await
    }

    /// Brings the tables up to date. [`open`](Self::open) has done so; harmless at any time and from
    /// many processes at once.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn migrate(&self) -> Result<(), OpenError> {
        schema::migrate(&self.0.writer.pool(), &self.0.address).await
    }

    /// Connections for reading your read models. Writing to them belongs in a projection.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.0.readers
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, ReadError> {
        let reader = self.0.readers.acquire().await;
        reader.map_err(|error| read::failed("the database", error))
    }

    /// Waits for what is under way and closes all connections.
    pub async fn close(&self) {
        self.0.queue.close().await;
        self.0.writer.close().await;
        self.0.readers.close().await;
        self.0.watcher.close().await;
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.0.address).finish()
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        es_core::check_append(stream, events)?;
        let append = Append::new(stream.clone(), expected, events.to_vec());
        let count = events.len();
        let answer = self.0.queue.append(append).await;
        let appended = answer.unwrap_or_else(|| Err(stopped(stream, count)))?;
        tracing::debug!(%stream, version = %appended.version, position = %appended.position, "appended");
        Ok(appended)
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        es_core::check_appends(appends)?;
        let Some(first) = appends.first() else {
            return Ok(Vec::new());
        };
        let (stream, count) = (first.stream.clone(), first.events.len());
        // Only now does it go on without its caller, and nobody can come before it.
        let raw = self.0.writer.acquire().await;
        let raw = raw.map_err(|error| record::first_failed(appends, error))?;
        let appends = appends.to_vec();
        let task = async move { record::together(raw, &appends).await };
        match tokio::spawn(task.in_current_span()).await {
            Ok(result) => result,
            Err(_) => Err(stopped(&stream, count)),
        }
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        let raw = self.0.writer.acquire().await;
        let raw = raw.map_err(|error| erase::sql_failed(stream, error))?;
        let (erased, tombstone) = (stream.clone(), tombstone.clone());
        let task = async move { erase::erase(raw, &erased, &tombstone).await };
        match tokio::spawn(task.in_current_span()).await {
            Ok(result) => result,
            Err(_) => Err(erase::failed(stream, true, STOPPED)),
        }
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        read::stream(&mut *self.reader().await?, stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        read::log(&mut *self.reader().await?, filter, after, limit).await
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        read::scan(&mut *self.reader().await?, scan, limit).await
    }

    /// One writer at a time: what is committed is settled.
    async fn settled(&self) -> Result<Position, ReadError> {
        read::head(&self.0.readers).await
    }

    /// Wakes at once for appends through this store. For those of other processes one of all that wait looks
    /// every [`poll_interval`](SqliteOptions::poll_interval).
    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        listen::wait(self, after).await
    }

    fn capabilities(&self) -> Capabilities {
        let in_file = self.0.writer.in_file;
        Capabilities::new(in_file, true, in_file)
    }
}

const STOPPED: &str = "the store was closed, its runtime stopped, or a projection panicked";

fn stopped(stream: &StreamId, count: usize) -> AppendError {
    AppendError::Backend {
        stream: stream.clone(),
        count,
        transient: true,
        source: STOPPED.into(),
    }
}
