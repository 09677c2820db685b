//! How to open a store, and its connections.

use std::{path::PathBuf, sync::Arc, time::Duration};

use es_core::{Inline, Project};
use sqlx::{
    SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Inner, SqliteStore, address, inline, insert,
    listen::{Sight, Watcher},
    lone,
    record::{LIMITS, SqliteRecorder},
    schema,
    writer::{Ends, Forsaken, Writer, is_sound, tidy},
};
use crate::{OpenError, error::is_transient, queue::Queue};

/// The least time to wait for a transaction of this process that has the writer's connection.
const PATIENCE_MIN: Duration = Duration::from_secs(5);

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
    inline: Vec<Inline<SqliteConnection>>,
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
            inline: Vec::new(),
        }
    }

    /// When a commit counts as done. [`Synchronous::Full`] unless set.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait for a writer in another process. 5 s unless set. For a transaction of this
    /// process ([`SqliteStore::begin`], a projection's batch) it is as long, and at least 5 s.
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

    /// Declares a projection that runs inside the transaction of each append: its read model is never
    /// behind. It is set up when the store is opened, from the whole log if it is new, and the file
    /// keeps in mind that it must run: a store that is opened without it refuses to append.
    ///
    /// It slows every append down, and one that fails fails the append. It must not end the transaction,
    /// and it must not use the store, which is waiting for it.
    #[must_use]
    pub fn inline(mut self, projection: impl Project<SqliteConnection>) -> Self {
        self.inline.push(Inline::new(projection));
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
        let writing = options
            .clone()
            .statement_cache_capacity(insert::KEPT + lone::KEPT);
        let ends = Ends::default();
        let writer = connect(
            &address,
            &writing,
            observed(
                sound(pool(1)).acquire_timeout(self.busy_timeout.max(PATIENCE_MIN)),
                &ends,
            ),
        )
        .await?;
        let readers = connect(&address, &options, sound(pool(self.readers))).await?;
        let sight = Sight::File {
            options: Box::new(options.read_only(true)),
            open: None,
        };
        let writer = Writer::new(writer, true, Forsaken::default(), ends, self.inline);
        finish(address, writer, readers, self.poll, sight).await
    }

    /// A private database lives as long as its one connection, which reads and writes.
    async fn open_in_memory(self) -> Result<SqliteStore, OpenError> {
        let options = self.connect_options().in_memory(true);
        let options = options.statement_cache_capacity(insert::KEPT + lone::KEPT);
        let forsaken = Forsaken::default();
        let ends = Ends::default();
        let pool = observed(tidied(pool(1), &forsaken), &ends);
        let pool = connect(":memory:", &options, pool).await?;
        let address = ":memory:".to_owned();
        let sight = Sight::Memory {
            pool: pool.clone(),
            head: 0,
        };
        let writer = Writer::new(pool.clone(), false, forsaken, ends, self.inline);
        finish(address, writer, pool, self.poll, sight).await
    }

    fn connect_options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .busy_timeout(self.busy_timeout)
            .foreign_keys(true)
            // Without it REPLACE deletes past the trigger that refuses to delete events.
            .pragma("recursive_triggers", "ON")
            // What is erased is overwritten, not only forgotten.
            .pragma("secure_delete", "ON")
    }
}

async fn finish(
    address: String,
    writer: Writer,
    readers: SqlitePool,
    poll: Duration,
    sight: Sight,
) -> Result<SqliteStore, OpenError> {
    let writer = Arc::new(writer);
    let store = SqliteStore(Arc::new(Inner {
        address,
        queue: Queue::new(SqliteRecorder(Arc::clone(&writer)), LIMITS),
        watcher: Watcher::new(Arc::clone(&writer), poll, sight),
        writer,
        readers,
    }));
    store.migrate().await?;
    inline::register(&store.0.writer, &store.0.address).await?;
    Ok(store)
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

fn sound(pool: SqlitePoolOptions) -> SqlitePoolOptions {
    pool.before_acquire(|connection, _| {
        let sound = is_sound(connection);
        Box::pin(async move { Ok(sound) })
    })
}

fn tidied(pool: SqlitePoolOptions, forsaken: &Forsaken) -> SqlitePoolOptions {
    let forsaken = Arc::clone(forsaken);
    pool.before_acquire(move |connection, _| {
        let forsaken = Arc::clone(&forsaken);
        Box::pin(async move {
            tidy(connection, &forsaken).await;
            Ok(true)
        })
    })
}

fn observed(pool: SqlitePoolOptions, ends: &Ends) -> SqlitePoolOptions {
    let ends = ends.clone();
    pool.after_connect(move |connection, _| {
        let ends = ends.clone();
        Box::pin(async move { ends.observe(connection).await })
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
