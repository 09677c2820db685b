//! Transactions of the program, with appends inside.

use std::{fmt, sync::Arc};

use es_core::{Append, AppendError, Appended, ExpectedVersion, NewEvent, Position, StreamId};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::runtime::Handle;

use super::{
    SqliteStore,
    admit::Begin,
    projections::{Leases, Written},
    record,
    writer::Writer,
};

const ENDED: &str = "the transaction was ended by one of its statements";

/// It was committed before its end.
#[derive(Debug, thiserror::Error)]
#[error("the transaction was committed by one of its statements")]
struct Committed;

/// Whether that is what went wrong.
pub(super) fn was_committed(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Configuration(cause) if cause.is::<Committed>())
}

/// A write transaction in which code of the program runs. Dropping it rolls back.
pub(super) struct Open {
    /// `None` only once it has ended.
    transaction: Option<Transaction<'static, Sqlite>>,
    writer: Arc<Writer>,
    /// How many transactions had been committed, and rolled back, when it began.
    ends: (u64, u64),
    runtime: Handle,
    /// Which nodes of this process have been announced in it.
    announced: Option<Written>,
}

impl Open {
    pub(super) async fn begin(writer: &Arc<Writer>) -> Result<Self, sqlx::Error> {
        let transaction = writer.pool().begin_with("BEGIN IMMEDIATE").await?;
        Ok(Self {
            transaction: Some(transaction),
            ends: ends(writer),
            writer: Arc::clone(writer),
            runtime: Handle::current(),
            announced: None,
        })
    }

    /// Writes which nodes of this process are alive, if some of them wait for the write lock.
    pub(super) async fn announce(&mut self) -> Result<(), sqlx::Error> {
        let writer = Arc::clone(&self.writer);
        self.announced = Some(writer.leases.write(self.connection()).await?);
        Ok(())
    }

    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        match &mut self.transaction {
            Some(transaction) => transaction,
            None => unreachable!("what ends the transaction consumes it"),
        }
    }

    /// Whether a statement, or SQLite by itself, has ended the transaction.
    fn has_ended(&self) -> bool {
        ends(&self.writer) != self.ends
    }

    /// SQLite itself only rolls back.
    fn refuse_committed(&self) -> Result<(), sqlx::Error> {
        match self.writer.ends.committed() == self.ends.0 {
            true => Ok(()),
            false => Err(sqlx::Error::Configuration(Committed.into())),
        }
    }

    pub(super) fn rollback(self) -> Result<(), sqlx::Error> {
        self.refuse_committed()
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.refuse_committed()?;
        if self.has_ended() {
            return Err(sqlx::Error::Protocol(ENDED.to_owned()));
        }
        if self.announced.is_none() {
            self.announce().await?;
        }
        if let Some(transaction) = self.transaction.take() {
            transaction.commit().await?;
        }
        if let Some(announced) = &self.announced {
            self.writer.leases.forget(announced);
        }
        Ok(())
    }
}

fn ends(writer: &Writer) -> (u64, u64) {
    (writer.ends.committed(), writer.ends.rolled_back())
}

/// The driver gives the connection back in a task, also where the transaction is dropped on a thread
/// that has no runtime.
impl Drop for Open {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        let Some(mut transaction) = self.transaction.take() else {
            return;
        };
        if self.has_ended() {
            self.runtime
                .spawn(async move { reconcile(&mut transaction).await });
        } else if self.writer.leases.is_waiting() {
            let writer = Arc::clone(&self.writer);
            self.runtime.spawn(async move {
                roll_back_and_announce(&mut transaction, &writer.leases).await;
                reconcile(&mut transaction).await;
            });
        }
    }
}

/// The driver believes that there is a transaction until it has rolled one back.
async fn reconcile(db: &mut SqliteConnection) {
    let _ = sqlx::raw_sql("BEGIN").execute(db).await;
}

/// Nodes of this process have waited for the lock: they must not be taken for dead when others get it.
/// If the disk is full, say, they wait for their next beat.
async fn roll_back_and_announce(db: &mut SqliteConnection, leases: &Leases) {
    // In one trip, so that hardly anybody comes in between.
    let _ = sqlx::raw_sql("ROLLBACK; BEGIN IMMEDIATE")
        .execute(&mut *db)
        .await;
    let announced = leases.write(&mut *db).await;
    let committed = sqlx::raw_sql("COMMIT").execute(db).await;
    if let (Ok(announced), Ok(_)) = (announced, committed) {
        leases.forget(&announced);
    }
}

/// A write transaction on a [`SqliteStore`] for events and tables of the program together: an outbox,
/// say. Dropping it rolls back.
///
/// It holds the write lock: nobody else appends until it ends, so keep it short, and do not append
/// through the store from inside. Statements that end the transaction themselves (`COMMIT`,
/// `ON CONFLICT ROLLBACK`) must not be used; after one of them nothing can be appended any more.
///
/// ```
/// use es_core::{EventStore, ExpectedVersion, Json, NewEvent, StreamId};
/// use es_sqlx::SqliteStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SqliteStore::in_memory().await?;
/// let order = StreamId::new("order", uuid::Uuid::now_v7());
/// let paid = NewEvent::new("paid", Json::parse("{}")?);
///
/// let mut transaction = store.begin().await?;
/// sqlx::raw_sql("CREATE TABLE outbox (letter TEXT); INSERT INTO outbox VALUES ('receipt')")
///     .execute(transaction.connection())
///     .await?;
/// transaction.append(&order, ExpectedVersion::NoStream, &[paid]).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
pub struct SqliteTransaction {
    open: Open,
    store: SqliteStore,
    /// The last position it has used.
    position: Position,
    /// Whether an append has begun and not ended.
    torn: bool,
}

impl SqliteTransaction {
    /// The connection inside the transaction.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        self.open.connection()
    }

    /// Adds `events` to the end of `stream`, as [`EventStore::append`](es_core::EventStore::append)
    /// does, when the transaction commits. If its future is dropped the transaction cannot commit any
    /// more.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. After all but `Backend` the transaction is as it was before.
    pub async fn append(
        &mut self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let append = checked(stream, expected, events)?;
        let appended = self.all(&[append]).await?;
        Ok(appended[0])
    }

    /// All of `appends` or none of them, as
    /// [`EventStore::append_all`](es_core::EventStore::append_all) does, when the transaction commits.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub async fn append_all(&mut self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        es_core::check_appends(appends)?;
        match appends.is_empty() {
            true => Ok(Vec::new()),
            false => self.all(appends).await,
        }
    }

    async fn all(&mut self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        let store = self.store.clone();
        if self.open.has_ended() {
            // A savepoint would begin another transaction, and commit it.
            self.torn = true;
            let problem = sqlx::Error::InvalidArgument(ENDED.to_owned());
            return Err(record::first_failed(appends, problem));
        }
        self.torn = true;
        let result = record::all(
            &store.0.writer,
            self.connection(),
            Begin::Savepoint,
            appends,
        );
        let result = result.await;
        // SQLite may have ended the transaction by itself.
        self.torn = matches!(result, Err(AppendError::Backend { .. }));
        let appended = result?;
        let last = appended.iter().map(|appended| appended.position).max();
        self.position = self.position.max(last.unwrap_or_default());
        Ok(appended)
    }

    /// Makes everything visible together.
    ///
    /// # Errors
    ///
    /// What the driver says; nothing was kept then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        if self.torn {
            let problem = "an append in this transaction failed or was dropped";
            return Err(sqlx::Error::Protocol(problem.to_owned()));
        }
        self.open.commit().await?;
        self.store.0.writer.push(self.position);
        Ok(())
    }

    /// Throws everything away.
    ///
    /// # Errors
    ///
    /// None: a transaction that SQLite has already ended is rolled back too.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        drop(self);
        Ok(())
    }
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteTransaction")
            .field(&self.store)
            .finish()
    }
}

impl SqliteStore {
    /// Begins a transaction, with the write lock.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub async fn begin(&self) -> Result<SqliteTransaction, sqlx::Error> {
        Ok(SqliteTransaction {
            open: Open::begin(&self.0.writer).await?,
            store: self.clone(),
            position: Position::START,
            torn: false,
        })
    }

    /// Adds `events` to the end of `stream` when the transaction commits that is open on `connection`,
    /// which may be any connection to the same file. Begin it with `BEGIN IMMEDIATE`: one that has read
    /// before it writes fails, transiently, if somebody else has written in between.
    ///
    /// With [`SqliteStore::begin`] those who wait in this process are woken by the commit; here they
    /// find the events by looking. If the future is dropped, roll the transaction back.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. After all but `Backend` the transaction is as it was before. Where no
    /// transaction is open nothing is recorded.
    pub async fn append_in(
        &self,
        connection: &mut SqliteConnection,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let append = checked(stream, expected, events)?;
        refuse_outside(connection, &append).await?;
        let appended = record::all(&self.0.writer, connection, Begin::Savepoint, &[append]).await?;
        Ok(appended[0])
    }
}

/// Where no transaction is open the savepoint would be one, and commit by itself. SQLite tells only by
/// refusing to begin another.
async fn refuse_outside(
    connection: &mut SqliteConnection,
    append: &Append,
) -> Result<(), AppendError> {
    match sqlx::raw_sql("BEGIN").execute(&mut *connection).await {
        Ok(_) => {
            let ended = sqlx::raw_sql("ROLLBACK").execute(connection).await;
            ended.map_err(|error| record::one_failed(append, error))?;
            Err(AppendError::Invalid {
                stream: append.stream.clone(),
                reason: "no transaction is open on this connection; begin one with \
                         `BEGIN IMMEDIATE` first, or use `SqliteStore::begin`"
                    .to_owned(),
            })
        }
        Err(sqlx::Error::Database(error)) if error.message().contains("within a transaction") => {
            Ok(())
        }
        Err(error) => Err(record::one_failed(append, error)),
    }
}

fn checked(
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> Result<Append, AppendError> {
    es_core::check_append(stream, events)?;
    Ok(Append::new(stream.clone(), expected, events.to_vec()))
}
