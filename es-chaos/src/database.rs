//! Both stores behind one trait: what the chaos does with either.

use std::{future::Future, time::Duration};

use es_core::{
    AppendError, Appended, BoxError, Chain, ExpectedVersion, NewEvent, ProjectionStore, StreamId,
};
use es_sqlx::{
    PgStore, SqliteStore,
    postgres::{PgOptions, PgTransaction},
    sqlite::{SqliteOptions, SqliteTransaction, Synchronous},
};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::time::{Instant, sleep};

use crate::tables::Tables;

/// How long a database may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and what else is needed of its database.
pub(crate) trait Store: ProjectionStore<Connection: Tables> + Clone + 'static {
    type Transaction: Transaction;

    /// On SQLite whoever writes holds up all others.
    const ONE_WRITER: bool;

    fn connect(url: &str) -> impl Future<Output = Result<Self, BoxError>> + Send;

    /// Creates the tables.
    fn prepare(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, sqlx::Error>> + Send;

    /// A connection beside the store's own.
    fn aside(url: &str) -> impl Future<Output = Result<Self::Connection, sqlx::Error>> + Send;
}

/// An open transaction that may append. Dropping it rolls back.
pub(crate) trait Transaction: Send {
    fn append(
        &mut self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    fn commit(self) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn rollback(self) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Connects, also while the server starts again.
pub(crate) async fn open<S: Store>(url: &str) -> Result<S, BoxError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match S::connect(url).await {
            Ok(store) => return Ok(store),
            Err(error) if Instant::now() > end => return Err(error),
            Err(error) => eprintln!("not yet: {}", Chain(&*error)),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

impl Store for SqliteStore {
    type Transaction = SqliteTransaction;
    const ONE_WRITER: bool = true;

    async fn connect(url: &str) -> Result<Self, BoxError> {
        // Processes die here, the machine does not.
        let options = SqliteOptions::new(url).synchronous(Synchronous::Normal);
        Ok(options.open().await?)
    }

    async fn prepare(&self) -> Result<(), BoxError> {
        Ok(())
    }

    async fn begin(&self) -> Result<SqliteTransaction, sqlx::Error> {
        self.begin().await
    }

    async fn aside(url: &str) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnection::connect(url).await
    }
}

impl Store for PgStore {
    type Transaction = PgTransaction;
    const ONE_WRITER: bool = false;

    async fn connect(url: &str) -> Result<Self, BoxError> {
        Ok(PgOptions::new(url).max_connections(6).connect().await?)
    }

    async fn prepare(&self) -> Result<(), BoxError> {
        Ok(self.migrate().await?)
    }

    async fn begin(&self) -> Result<PgTransaction, sqlx::Error> {
        self.begin().await
    }

    async fn aside(url: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(url).await
    }
}

macro_rules! transaction {
    ($transaction:ty) => {
        impl Transaction for $transaction {
            async fn append(
                &mut self,
                stream: &StreamId,
                expected: ExpectedVersion,
                events: &[NewEvent],
            ) -> Result<Appended, AppendError> {
                self.append(stream, expected, events).await
            }

            async fn commit(self) -> Result<(), sqlx::Error> {
                self.commit().await
            }

            async fn rollback(self) -> Result<(), sqlx::Error> {
                self.rollback().await
            }
        }
    };
}

transaction!(SqliteTransaction);
transaction!(PgTransaction);
