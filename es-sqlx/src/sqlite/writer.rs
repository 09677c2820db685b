//! The connection that writes, and transactions on it that the driver does not know of.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use es_core::{Inline, Position};
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};
use tokio::{
    runtime::{EnterGuard, Handle},
    sync::watch,
};

use super::projections::Leases;
use crate::head;

/// What all who write share.
pub(super) struct Writer {
    /// One connection: writers of this process queue here instead of in SQLite's busy handler.
    pool: SqlitePool,
    kept: Mutex<Kept>,
    runtime: Handle,
    pub(super) in_file: bool,
    pub(super) forsaken: Forsaken,
    pub(super) ends: Ends,
    /// The end of the log, as far as this process has moved it.
    pub(super) head: watch::Sender<Position>,
    pub(super) leases: Leases,
    /// The projections that run inside each append.
    pub(super) inline: Vec<Inline<SqliteConnection>>,
}

/// Whether somebody left the connection of a database in memory inside a transaction: it cannot be
/// closed without losing everything, so the next user rolls back.
pub(super) type Forsaken = Arc<AtomicBool>;

/// The pool tests a connection that comes back, which takes a trip to the driver's thread: from one append
/// to the next it is kept here, unless somebody waits for it at the pool.
#[derive(Default)]
struct Kept {
    connection: Option<PoolConnection<Sqlite>>,
    at_the_pool: usize,
    closed: bool,
}

/// How many transactions of the connection have ended: SQLite ends one by itself where a statement says
/// `ON CONFLICT ROLLBACK`, or on a full disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    committed: Arc<AtomicU64>,
    rolled_back: Arc<AtomicU64>,
}

impl Ends {
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn rolled_back(&self) -> u64 {
        self.rolled_back.load(Ordering::Acquire)
    }

    /// Counts those of `connection`.
    pub(super) async fn observe(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let mut handle = connection.lock_handle().await?;
        let (committed, rolled_back) = (Arc::clone(&self.committed), Arc::clone(&self.rolled_back));
        handle.set_commit_hook(move || {
            committed.fetch_add(1, Ordering::AcqRel);
            true
        });
        handle.set_rollback_hook(move || {
            rolled_back.fetch_add(1, Ordering::AcqRel);
        });
        Ok(())
    }
}

impl Writer {
    /// Must be called in a runtime.
    pub(super) fn new(
        pool: SqlitePool,
        in_file: bool,
        forsaken: Forsaken,
        ends: Ends,
        inline: Vec<Inline<SqliteConnection>>,
    ) -> Self {
        Self {
            pool,
            kept: Mutex::default(),
            runtime: Handle::current(),
            in_file,
            forsaken,
            ends,
            head: watch::Sender::new(Position::START),
            leases: Leases::default(),
            inline,
        }
    }

    /// The pool, with its connection in it as soon as nobody uses it.
    pub(super) fn pool(&self) -> AtThePool<'_> {
        let mut kept = self.kept();
        kept.at_the_pool += 1;
        let connection = kept.connection.take();
        drop(kept);
        self.give_back(connection);
        AtThePool(self)
    }

    pub(super) async fn close(&self) {
        self.kept().closed = true;
        self.pool().close().await;
    }

    fn keep(&self, connection: Option<PoolConnection<Sqlite>>) {
        let mut kept = self.kept();
        // In memory those who read need it too.
        if self.in_file && kept.at_the_pool == 0 && !kept.closed {
            kept.connection = connection;
            return;
        }
        drop(kept);
        self.give_back(connection);
    }

    /// It goes back in a task, also from a thread that has no runtime.
    fn give_back(&self, connection: Option<PoolConnection<Sqlite>>) {
        let _entered = self.enter();
        drop(connection);
    }

    fn enter(&self) -> Option<EnterGuard<'_>> {
        match Handle::try_current() {
            Ok(_) => None,
            Err(_) => Some(self.runtime.enter()),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing in between could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait in this process.
    pub(super) fn push(&self, position: Position) {
        head::raise(&self.head, position);
    }

    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Raw, sqlx::Error> {
        let kept = self.kept().connection.take();
        let connection = match kept {
            Some(connection) => connection,
            None => self.pool().acquire().await?,
        };
        Ok(Raw {
            connection: Some(connection),
            writer: Arc::clone(self),
            ended: false,
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let connection = self.kept().connection.take();
        self.give_back(connection);
    }
}

/// While there is one, nobody keeps the connection to himself.
pub(super) struct AtThePool<'w>(&'w Writer);

impl Deref for AtThePool<'_> {
    type Target = SqlitePool;

    fn deref(&self) -> &SqlitePool {
        &self.0.pool
    }
}

impl Drop for AtThePool<'_> {
    fn drop(&mut self) {
        self.0.kept().at_the_pool -= 1;
    }
}

/// A connection on which `BEGIN` and `COMMIT` are parts of ordinary queries: each trip to the driver's
/// thread costs as much as an insert.
///
/// Dropped before its transaction has ended, it is closed, which rolls back.
pub(super) struct Raw {
    /// `None` only once it has been dropped.
    connection: Option<PoolConnection<Sqlite>>,
    writer: Arc<Writer>,
    ended: bool,
}

impl Raw {
    pub(super) fn writer(&self) -> Arc<Writer> {
        Arc::clone(&self.writer)
    }

    pub(super) fn db(&mut self) -> &mut SqliteConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("only dropping takes it away"),
        }
    }

    /// The transaction was committed.
    pub(super) fn committed(mut self) {
        self.ended = true;
    }

    /// Ends the transaction if there still is one: SQLite ends it by itself on a full disk, for
    /// example, and it never began if the file was busy.
    pub(super) async fn roll_back(mut self) {
        self.ended = match sqlx::raw_sql("ROLLBACK").execute(self.db()).await {
            Ok(_) => true,
            Err(sqlx::Error::Database(error)) => {
                error.message().contains("no transaction is active")
            }
            Err(_) => false,
        };
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let mut connection = self.connection.take();
        if self.ended {
            self.writer.keep(connection);
            return;
        }
        if !self.writer.in_file {
            self.writer.forsaken.store(true, Ordering::Release);
        } else if let Some(connection) = &mut connection {
            connection.close_on_drop();
        }
        self.writer.give_back(connection);
    }
}

/// Whether a connection of the pool may be used: one whose transaction SQLite has ended by itself
/// would go on being counted as open by the driver, which refuses to begin another one.
pub(super) fn is_sound(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}

/// Ends what was left open on the connection of a database in memory.
pub(super) async fn tidy(connection: &mut SqliteConnection, forsaken: &Forsaken) {
    if forsaken.swap(false, Ordering::AcqRel) {
        // Fails where there is nothing to end.
        let _ = sqlx::raw_sql("ROLLBACK").execute(connection).await;
    }
}
