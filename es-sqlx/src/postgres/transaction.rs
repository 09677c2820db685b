//! Transactions: begun so that they can be given up at any time, with appends inside.

use std::{fmt, io, sync::Arc};

use es_core::{Append, AppendError, Appended, ExpectedVersion, NewEvent, Position, StreamId};
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Row, Transaction};
use tokio::runtime::Handle;

use super::{
    Inner, PgStore,
    append::{Ask, Verdict, ask, failed, lost_race},
    inline,
    record::{PgRecorder, all},
};

/// Whatever the database's default is: after waiting for a lock, a statement must see what its holder
/// has committed.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The same where it is worth waiting: connections for events have little patience with locks.
pub(super) const BEGIN_PATIENTLY: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0";

/// How often an append inside a transaction may lose a race.
const RACES_MAX: u32 = 3;

/// Begins in a task of its own. In sqlx 0.9 a future of `begin` that is dropped before the answer
/// has come gives its connection back inside the transaction; what the next user of the connection
/// wrote would be acknowledged and then lost. The task ends what it began, and the transaction that
/// nobody wants any more is rolled back.
pub(super) async fn begin(
    pool: &PgPool,
    begin: String,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(AssertSqlSafe(begin)).await });
    match begun.await {
        Ok(begun) => begun,
        Err(stopped) => Err(io::Error::other(stopped).into()),
    }
}

/// A transaction in which code of the program runs. Dropping it rolls back.
pub(super) struct Open {
    /// `None` only once it has ended.
    transaction: Option<Transaction<'static, Postgres>>,
    runtime: Handle,
}

impl Open {
    pub(super) async fn begin(pool: &PgPool, with: String) -> Result<Self, sqlx::Error> {
        Ok(Self {
            transaction: Some(begin(pool, with).await?),
            runtime: Handle::current(),
        })
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match &mut self.transaction {
            Some(transaction) => transaction,
            None => unreachable!("what ends the transaction consumes it"),
        }
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let Some(mut transaction) = self.transaction.take() else {
            return Ok(());
        };
        // Had a statement failed and its error been ignored, Postgres would answer COMMIT with a
        // roll-back and call it a success. This says what happened.
        if !is_open(&mut transaction).await? {
            return Err(ended());
        }
        transaction.commit().await
    }

    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        let Some(mut transaction) = self.transaction.take() else {
            return Ok(());
        };
        // One in which a statement has failed answers nothing more, and can only be rolled back.
        let kept = matches!(is_open(&mut transaction).await, Ok(false));
        transaction.rollback().await?;
        match kept {
            false => Ok(()),
            true => Err(ended()),
        }
    }
}

/// Whether this is still the transaction that [`begin_guarded`] began: what it has set ends with it.
async fn is_open(transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let answer = sqlx::raw_sql("SELECT current_setting('es.transaction', true) = 'open'")
        .fetch_one(transaction)
        .await?;
    Ok(answer.try_get::<Option<bool>, _>(0)?.unwrap_or_default())
}

/// The transaction was ended by one of the program's statements.
#[derive(Debug, thiserror::Error)]
#[error("the transaction was ended by one of its statements")]
pub(super) struct Ended;

fn ended() -> sqlx::Error {
    sqlx::Error::Configuration(Ended.into())
}

/// Whether that is what went wrong.
pub(super) fn has_ended(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Configuration(cause) if cause.is::<Ended>())
}

/// The driver gives the connection back in a task, also where the transaction is dropped on a thread
/// that has no runtime.
impl Drop for Open {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        drop(self.transaction.take());
    }
}

/// The first statements of a transaction in which code of the program runs. Should the process stop
/// answering, the server frees the rows by itself.
pub(super) fn begin_guarded(schema: &str) -> String {
    format!(
        "{BEGIN}; SET LOCAL idle_in_transaction_session_timeout = '30s'; \
         SET LOCAL search_path TO {schema}, public; SET LOCAL es.transaction = 'open'"
    )
}

/// A transaction on a [`PgStore`] for events and tables of the program together: an outbox, say. Dropping
/// it rolls back.
///
/// Readers of the log wait for it once it has appended, and so do others who append to the same stream (also
/// this program, through the store): keep it short, and append last. Should the
/// process stop answering in the middle, the server ends it after 30 s
/// (`idle_in_transaction_session_timeout`).
///
/// ```no_run
/// use es_core::{ExpectedVersion, NewEvent, StreamId};
/// use es_sqlx::PgStore;
///
/// # async fn pay(store: PgStore, order: StreamId, paid: NewEvent) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = store.begin().await?;
/// sqlx::query("INSERT INTO outbox (letter) VALUES ('receipt')")
///     .execute(transaction.connection())
///     .await?;
/// transaction.append(&order, ExpectedVersion::StreamExists, &[paid]).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
pub struct PgTransaction {
    open: Open,
    store: PgStore,
    /// The last position it has drawn.
    position: Position,
    /// Whether an append has begun and not ended.
    torn: bool,
}

impl PgTransaction {
    /// The connection inside the transaction.
    pub fn connection(&mut self) -> &mut PgConnection {
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
        es_core::check_append(stream, events)?;
        let append = Append::new(stream.clone(), expected, events.to_vec());
        self.append_checked(&[append]).await.map(first)
    }

    /// All of `appends` or none of them, as
    /// [`EventStore::append_all`](es_core::EventStore::append_all) does, when the transaction commits.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub async fn append_all(&mut self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        es_core::check_appends(appends)?;
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        self.append_checked(appends).await
    }

    pub(super) async fn append_checked(
        &mut self,
        appends: &[Append],
    ) -> Result<Vec<Appended>, AppendError> {
        if self.torn {
            return Err(told(appends, torn()));
        }
        let store = Arc::clone(&self.store.0);
        self.torn = true;
        let result = savepoints(&store, self.connection(), appends).await;
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
    /// What the driver says. If the connection broke during the commit, nobody knows whether it came
    /// through; appends can be repeated with the same event ids, and will tell.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        if self.torn {
            return Err(torn());
        }
        self.open.commit().await?;
        self.store.0.push(self.position);
        Ok(())
    }

    /// Throws everything away.
    ///
    /// # Errors
    ///
    /// What the driver says; the server rolls back in any case.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.open.rollback().await
    }
}

impl fmt::Debug for PgTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PgTransaction").field(&self.store).finish()
    }
}

impl PgStore {
    /// Begins a transaction on a connection for read models.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub async fn begin(&self) -> Result<PgTransaction, sqlx::Error> {
        let begin = begin_guarded(&self.0.schema);
        Ok(PgTransaction {
            open: Open::begin(&self.0.models, begin).await?,
            store: self.clone(),
            position: Position::START,
            torn: false,
        })
    }

    /// Adds `events` to the end of `stream` when the transaction commits that is open on `connection`,
    /// which may be any connection to the same database, at the isolation level READ COMMITTED. With
    /// [`PgStore::begin`] those who wait in this process are woken by the commit; here they find the events
    /// by looking. If the future is dropped, roll the transaction back: what an inline projection had still
    /// to write would be missing.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. After all but `Backend` the transaction is as it was before. Where no
    /// transaction is open nothing is recorded.
    pub async fn append_in(
        &self,
        connection: &mut PgConnection,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        es_core::check_append(stream, events)?;
        let append = Append::new(stream.clone(), expected, events.to_vec());
        let appends = [append];
        refuse_the_past(connection, &appends).await?;
        savepoints(&self.0, connection, &appends).await.map(first)
    }
}

/// What an append that was dropped half-way has left behind is not known.
fn torn() -> sqlx::Error {
    let problem = "an append in this transaction failed or was dropped; roll it back";
    sqlx::Error::Configuration(problem.into())
}

/// A transaction of a higher level looks at the past: it would not see that a projection must run inside
/// the append by now, nor who has won a race.
async fn refuse_the_past(
    connection: &mut PgConnection,
    appends: &[Append],
) -> Result<(), AppendError> {
    let level: String = sqlx::query_scalar("SELECT current_setting('transaction_isolation')")
        .fetch_one(connection)
        .await
        .map_err(|error| told(appends, error))?;
    if level == "read committed" {
        return Ok(());
    }
    Err(AppendError::Invalid {
        stream: appends[0].stream.clone(),
        reason: format!(
            "the transaction's isolation level is {level}; begin it with \
             `BEGIN ISOLATION LEVEL READ COMMITTED`, or with `PgStore::begin`"
        ),
    })
}

/// How often a deadlock between inline projections is answered by starting over.
const DEADLOCKS_MAX: u32 = 5;

impl PgStore {
    /// In a transaction of its own, which is rolled back if the caller goes away before the commit.
    pub(super) async fn append_with_projections(
        &self,
        appends: &[Append],
    ) -> Result<Vec<Appended>, AppendError> {
        let mut deadlocks = 0;
        loop {
            let error = match self.append_once(appends).await {
                Err(
                    error @ AppendError::Projection {
                        transient: true, ..
                    },
                ) => error,
                result => return result,
            };
            deadlocks += 1;
            if deadlocks > DEADLOCKS_MAX {
                return Err(error);
            }
        }
    }

    async fn append_once(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        let mut transaction = self.begin().await.map_err(|error| told(appends, error))?;
        let appended = transaction.append_checked(appends).await?;
        transaction
            .commit()
            .await
            .map_err(|error| told(appends, error))?;
        Ok(appended)
    }
}

/// There is an answer for each append.
pub(super) fn first(appended: Vec<Appended>) -> Appended {
    appended[0]
}

const RELEASE: &str = "RELEASE SAVEPOINT es_append";
const UNDO: &str = "ROLLBACK TO SAVEPOINT es_append; RELEASE SAVEPOINT es_append";

/// What fails inside the savepoint leaves the caller's transaction usable.
async fn savepoints(
    store: &Inner,
    connection: &mut PgConnection,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let mut races = 0;
    loop {
        let error = match attempt(store, connection, appends, races > 0).await {
            Ok(result) => {
                let end = if result.is_ok() { RELEASE } else { UNDO };
                return match connection.execute(end).await {
                    Ok(_) => result,
                    Err(error) => Err(told(appends, error)),
                };
            }
            Err(error) => error,
        };
        // Outside of a transaction there is nothing to go back to.
        let is_back = connection.execute(UNDO).await.is_ok();
        if !(is_back && lost_race(&error) && races < RACES_MAX) {
            return Err(told(appends, error));
        }
        races += 1;
    }
}

/// The outer error is the statement's own, the inner one a refusal.
async fn attempt(
    store: &Inner,
    connection: &mut PgConnection,
    appends: &[Append],
    look: bool,
) -> Result<Result<Vec<Appended>, AppendError>, sqlx::Error> {
    // How long to wait is the caller's business.
    let how = Ask {
        look,
        patience: None,
        ..Ask::TOGETHER
    };
    let PgRecorder { sql, declared, .. } = &store.recorder;
    connection.execute("SAVEPOINT es_append").await?;
    let verdicts = ask(&mut *connection, sql, appends, declared, how).await?;
    let is_new = verdicts
        .iter()
        .any(|verdict| matches!(verdict, Verdict::Recorded(_)));
    let appended = match all(verdicts, appends) {
        Ok(appended) if is_new => appended,
        result => return Ok(result),
    };
    Ok(inline::project(store, connection, appends, &appended)
        .await
        .map(|()| appended))
}

/// The first append speaks for all.
fn told(appends: &[Append], error: sqlx::Error) -> AppendError {
    failed(appends, error).swap_remove(0)
}
