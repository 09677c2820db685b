//! The SQLite store: one file, one writer at a time, no server.

mod address;
mod append;
mod checkpoint;
mod read;
mod row;
mod schema;
mod snapshot;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use es_core::{
    AppendError, Appended, Capabilities, EventStore, ExpectedVersion, Filter, LogPage, NewEvent,
    Position, ReadError, RecordedEvent, Scan, StreamId, Version,
};
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

pub use self::checkpoint::SqliteBatch;
use crate::{OpenError, error::is_transient};

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

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// When the disk has it: survives a power cut. The default.
    #[default]
    Full,
    /// When the operating system has it: survives a crash of the process. After a power cut the
    /// newest commits may be missing; the file stays sound. Several times faster.
    Normal,
}

/// How to open a [`SqliteStore`].
///
/// ```no_run
/// use es_sqlx::sqlite::{SqliteOptions, Synchronous};
///
/// # async fn open() -> Result<(), es_sqlx::OpenError> {
/// let store = SqliteOptions::new("game.db").synchronous(Synchronous::Normal).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    address: String,
    synchronous: Synchronous,
    busy_timeout: Duration,
    readers: u32,
    poll: Duration,
}

impl SqliteOptions {
    /// A path, a `sqlite:` URL, or `:memory:`.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            poll: Duration::from_millis(20),
        }
    }

    /// When a commit counts as done. [`Synchronous::Full`] unless set.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait for a writer in another process. 5 s unless set.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many connections read at the same time. 4 unless set; at least 1.
    #[must_use]
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// How often to look for events of other processes. 20 ms unless set.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll = interval;
        self
    }

    /// Opens the store; creates and migrates the file if need be.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A file that is not ours is left as it is.
    pub async fn open(self) -> Result<SqliteStore, OpenError> {
        match address::parse(&self.address)? {
            Some(path) => self.open_file(path).await,
            None => self.open_in_memory().await,
        }
    }

    async fn open_file(self, path: PathBuf) -> Result<SqliteStore, OpenError> {
        let address = path.display().to_string();
        schema::look(&path, &address).await?;
        let options = self
            .connect_options()
            .filename(&path)
            .create_if_missing(true);
        let options =
            options
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(match self.synchronous {
                    Synchronous::Full => SqliteSynchronous::Full,
                    Synchronous::Normal => SqliteSynchronous::Normal,
                });
        let writer = connect(&address, &options, sound(pool(1))).await?;
        let readers = connect(&address, &options, sound(pool(self.readers))).await?;
        self.finish(address, writer, readers).await
    }

    /// A private database lives as long as its one connection, which reads and writes.
    async fn open_in_memory(self) -> Result<SqliteStore, OpenError> {
        let options = self.connect_options().in_memory(true);
        let pool = connect(":memory:", &options, pool(1)).await?;
        self.finish(":memory:".to_owned(), pool.clone(), pool).await
    }

    fn connect_options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .busy_timeout(self.busy_timeout)
            .foreign_keys(true)
            // Without it REPLACE deletes past the trigger that refuses to delete events.
            .pragma("recursive_triggers", "ON")
    }

    async fn finish(
        self,
        address: String,
        writer: SqlitePool,
        readers: SqlitePool,
    ) -> Result<SqliteStore, OpenError> {
        let store = SqliteStore(Arc::new(Inner {
            address,
            writer,
            readers,
            head: watch::Sender::new(Position::START),
            poll: self.poll,
        }));
        store.migrate().await?;
        Ok(store)
    }
}

/// A connection to a file does not age, and needs no test before use.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
}

/// Replaces a connection whose transaction SQLite has ended by itself (on a full disk, for
/// example): the driver would go on counting it as open and refuse to begin another one.
fn sound(pool: SqlitePoolOptions) -> SqlitePoolOptions {
    pool.before_acquire(|connection, _| {
        let sound = !connection.is_in_transaction();
        Box::pin(async move { Ok(sound) })
    })
}

/// Changing to WAL needs the file alone for a moment, and SQLite does not wait for that.
async fn connect(
    address: &str,
    options: &SqliteConnectOptions,
    pool: SqlitePoolOptions,
) -> Result<SqlitePool, OpenError> {
    let mut attempt = 0;
    loop {
        match pool.clone().connect_with(options.clone()).await {
            Ok(pool) => return Ok(pool),
            Err(error) if is_transient(&error) && attempt < 50 => attempt += 1,
            Err(source) => {
                return Err(OpenError::Unreachable {
                    backend: "SQLite",
                    address: address.to_owned(),
                    transient: is_transient(&source),
                    source: source.into(),
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

    fn saw(&self, position: Position) {
        self.0.head.send_if_modified(|known| {
            let newer = position > *known;
            *known = position.max(*known);
            newer
        });
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
        let appended = append::run(&self.0.writer, stream, expected, events).await?;
        self.saw(appended.position);
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
        let mut head = self.0.head.subscribe();
        loop {
            head.mark_unchanged();
            if self.settled().await? > after {
                return Ok(());
            }
            // Either way the loop looks again.
            let _ = tokio::time::timeout(self.0.poll, head.changed()).await;
        }
    }

    fn capabilities(&self) -> Capabilities {
        let in_file = self.0.address != ":memory:";
        Capabilities::new(in_file, true, in_file)
    }
}
