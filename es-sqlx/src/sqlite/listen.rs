//! New events: pushed inside the process, looked for where other processes write.
//!
//! Of all that wait, whoever finds that it is time looks for the others too: at a number that changes with
//! each commit, which reads no table, and then at the end of the log, since most commits of a process
//! that runs projections append nothing. There is no task that could end too early or too late.

use std::{
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use es_core::{EventStore, Position, ReadError};
use futures::future::select;
use sqlx::{Connection, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};
use tokio::time::{Instant, sleep, sleep_until};

use super::{SqliteStore, read::HEAD, writer::Writer};

const VERSION: &str = "PRAGMA data_version";

/// Returns when the log goes beyond `after`.
pub(super) async fn wait(store: &SqliteStore, after: Position) -> Result<(), ReadError> {
    let mut head = store.0.writer.head.subscribe();
    loop {
        // In this order: a push after the look is still to come, one before it has been seen.
        head.mark_unchanged();
        if store.settled().await? > after {
            return Ok(());
        }
        let (changed, watch) = (pin!(head.changed()), pin!(store.0.watcher.watch()));
        // Either way the loop looks again.
        select(changed, watch).await;
    }
}

/// Looks for commits of others.
pub(super) struct Watcher {
    writer: Arc<Writer>,
    every: Duration,
    /// When somebody last began to look.
    looked: Mutex<Instant>,
    sight: tokio::sync::Mutex<Sight>,
}

/// What is looked at.
pub(super) enum Sight {
    /// `PRAGMA data_version`, which can be compared on one and the same connection only.
    File {
        options: Box<SqliteConnectOptions>,
        open: Option<(SqliteConnection, Seen)>,
    },
    /// The end of the log: who uses the only connection to a database in memory can write past the store.
    Memory {
        pool: SqlitePool,
        head: i64,
    },
    Closed,
}

/// `PRAGMA data_version`, and where the log ended then or a little later.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    version: i64,
    head: i64,
}

impl Watcher {
    pub(super) fn new(writer: Arc<Writer>, every: Duration, sight: Sight) -> Self {
        Self {
            writer,
            every,
            looked: Mutex::new(Instant::now()),
            sight: tokio::sync::Mutex::new(sight),
        }
    }

    /// Wakes all that wait when something was committed. Ends if somebody looks and does not come to an
    /// end: his future may be one that nobody polls.
    async fn watch(&self) {
        loop {
            let next = *self.looked() + self.every;
            sleep_until(next).await;
            let Ok(mut sight) = self.sight.try_lock() else {
                sleep(self.every).await;
                if self.looked().elapsed() > 5 * self.every {
                    return;
                }
                continue;
            };
            if self.is_time() && sight.has_changed().await {
                self.wake();
            }
        }
    }

    /// One of all that slept until then hears that it is.
    fn is_time(&self) -> bool {
        let mut looked = self.looked();
        let is_time = looked.elapsed() >= self.every;
        if is_time {
            *looked = Instant::now();
        }
        is_time
    }

    fn looked(&self) -> MutexGuard<'_, Instant> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.writer.head.send_modify(|_| {});
    }

    /// Those that wait look once more, and hear that the store is closed.
    pub(super) async fn close(&self) {
        self.wake();
        let sight = mem::replace(&mut *self.sight.lock().await, Sight::Closed);
        if let Sight::File {
            open: Some((connection, _)),
            ..
        } = sight
        {
            // It only read: there is nothing to lose.
            let _ = connection.close().await;
        }
    }
}

impl Sight {
    /// If there is any doubt: those who wait then look for themselves.
    async fn has_changed(&mut self) -> bool {
        match self {
            Self::File { options, open } => {
                // Put back only if all goes well.
                let (mut connection, before) = match open.take() {
                    Some((connection, before)) => (connection, Some(before)),
                    None => match SqliteConnection::connect_with(options).await {
                        Ok(connection) => (connection, None),
                        Err(_) => return true,
                    },
                };
                let Ok(now) = look(&mut connection, before).await else {
                    return true;
                };
                *open = Some((connection, now));
                before.is_none_or(|before| before.head != now.head)
            }
            Self::Memory { pool, head } => {
                let Ok(now) = sqlx::query_scalar(HEAD).fetch_one(&*pool).await else {
                    return true;
                };
                mem::replace(head, now) != now
            }
            Self::Closed => true,
        }
    }
}

async fn look(
    connection: &mut SqliteConnection,
    before: Option<Seen>,
) -> Result<Seen, sqlx::Error> {
    let version = sqlx::query_scalar(VERSION)
        .fetch_one(&mut *connection)
        .await?;
    match before {
        Some(before) if before.version == version => Ok(before),
        _ => Ok(Seen {
            version,
            head: sqlx::query_scalar(HEAD).fetch_one(connection).await?,
        }),
    }
}
