//! The connection that writes, and transactions on it that the driver does not know of.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use es_core::{Inline, Position};
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};
use tokio::sync::watch;

/// What all who write share.
pub(super) struct Writer {
    /// One connection: writers of this process queue here instead of in SQLite's busy handler.
    pub(super) pool: SqlitePool,
    pub(super) in_file: bool,
    pub(super) forsaken: Forsaken,
    /// The end of the log, as far as this process has moved it.
    pub(super) head: watch::Sender<Position>,
    /// The projections that run inside each append.
    pub(super) inline: Vec<Inline<SqliteConnection>>,
}

/// Whether somebody left the connection of a database in memory inside a transaction: it cannot be
/// closed without losing everything, so the next user rolls back.
pub(super) type Forsaken = Arc<AtomicBool>;

impl Writer {
    /// Wakes those who wait in this process.
    pub(super) fn push(&self, position: Position) {
        self.head.send_if_modified(|known| {
            let newer = position > *known;
            *known = position.max(*known);
            newer
        });
    }

    pub(super) async fn acquire(&self) -> Result<Raw<'_>, sqlx::Error> {
        Ok(Raw {
            connection: self.pool.acquire().await?,
            writer: self,
            ended: false,
        })
    }
}

/// A connection on which `BEGIN` and `COMMIT` are parts of ordinary queries: each trip to the driver's
/// thread costs as much as an insert.
///
/// Dropped before its transaction has ended, it is closed, which rolls back.
pub(super) struct Raw<'w> {
    connection: PoolConnection<Sqlite>,
    writer: &'w Writer,
    ended: bool,
}

impl Raw<'_> {
    pub(super) fn db(&mut self) -> &mut SqliteConnection {
        &mut self.connection
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

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.writer.in_file {
            self.connection.close_on_drop();
        } else {
            self.writer.forsaken.store(true, Ordering::Release);
        }
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
