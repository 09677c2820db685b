//! The SQLite store: one file, one writer at a time, no server.

mod address;
mod append;
mod checkpoint;
mod listen;
mod options;
mod read;
mod row;
mod schema;
mod snapshot;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use es_core::{
    AppendError, Appended, Capabilities, EventStore, ExpectedVersion, Filter, LogPage, NewEvent,
    Position, ReadError, RecordedEvent, Scan, StreamId, Version,
};
use sqlx::SqlitePool;
use tokio::sync::watch;

pub use self::{
    checkpoint::SqliteBatch,
    options::{SqliteOptions, Synchronous},
};
use crate::OpenError;

/// An event store in a SQLite file. Cheap to clone; all clones are one store.
///
/// Several processes may open the same file; SQLite lets one of them write at a time, so the order
/// of the log is the order of commits.
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
    /// One connection: writers of this process queue here instead of in SQLite's busy handler.
    writer: SqlitePool,
    readers: SqlitePool,
    head: watch::Sender<Position>,
    poll: Duration,
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

    /// A database of its own in memory.
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
        schema::migrate(&self.0.writer, &self.0.address).await
    }

    /// Connections for reading your read models. Writing to them belongs in a projection.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.0.readers
    }

    /// Waits for what is under way and closes all connections.
    pub async fn close(&self) {
        self.0.writer.close().await;
        self.0.readers.close().await;
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
        let appended = append::run(self, stream, expected, events).await?;
        tracing::debug!(%stream, version = %appended.version, position = %appended.position, "appended");
        Ok(appended)
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        read::stream(&self.0.readers, stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        read::log(&self.0.readers, filter, after, limit).await
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        read::scan(&self.0.readers, scan, limit).await
    }

    /// One writer at a time: what is committed is settled.
    async fn settled(&self) -> Result<Position, ReadError> {
        read::head(&self.0.readers).await
    }

    /// Wakes at once for appends through this store, and looks every
    /// [`poll_interval`](SqliteOptions::poll_interval) for those of other processes.
    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        listen::wait(self, after).await
    }

    fn capabilities(&self) -> Capabilities {
        let in_file = self.0.address != ":memory:";
        Capabilities::new(in_file, true, in_file)
    }
}
