//! The Postgres store: many writers, many processes.
//!
//! # Appends
//!
//! An append is one statement and one round trip. Those of one process that wait at the same time share
//! a statement (group commit): at most 64 appends or 512 events, each to another stream. One that is
//! alone does not wait for company. What is refused, or has to wait for a transaction of somebody else,
//! fails or delays only itself. At most 1,024 appends of a process are under way; more wait before they
//! are taken.
//!
//! # Transactions of the program
//!
//! [`PgStore::begin`] and [`PgStore::append_in`] put events and the program's own tables into one
//! transaction. [`PgOptions::inline`] runs projections inside every append.
//!
//! # Projections
//!
//! A node that runs projections announces itself over the connections for events, so that it is taken for
//! alive however long its batches are and however many are open; after [`PgOptions::from_pool`] leave it a
//! connection. Whoever sleeps is fenced by the row of the checkpoint, not by the time.
//!
//! # Roles
//!
//! The role that calls [`PgStore::migrate`] owns the tables. Others need no more than this (the file
//! `roles/postgres.sql` of this crate; a reader's role is enough for loading, reading and waiting):
//!
//! ```sql
#![doc = include_str!("../../roles/postgres.sql")]
//! ```
//!
//! # Behind pgbouncer
//!
//! With `pool_mode = session` nothing is special. With `pool_mode = transaction`:
//!
//! - pgbouncer 1.21 or newer, with `max_prepared_statements` above 0 (the default since 1.24). Without it
//!   statements fail, or one client runs another's.
//! - [`PgOptions::from_pool`], with a pool of the program: connections that the store opens itself get
//!   settings (`search_path`, `lock_timeout`, the isolation level), and pgbouncer shares those with
//!   everybody who uses the same database and role. On a pool of the program nothing is set but inside
//!   transactions; read models in projections and in [`PgStore::begin`] find their schema there, and what
//!   you read through [`PgStore::pool`] should name it.
//! - [`PgOptions::notify`]`(false)`. A `LISTEN` would stay on a connection that others use, and the driver
//!   takes the messages for errors. Events of other processes are then found by looking, within 100 ms;
//!   `notify` is the one feature that needs a direct connection.
//! - `ignore_startup_parameters = extra_float_digits`, unless the pool's `PgConnectOptions` have
//!   `extra_float_digits(None)`.
//! - More server connections (`default_pool_size`) than transactions that are open at once.
//!
//! After you have changed a read model's table, `RECONNECT` on pgbouncer's console: plans outlive your
//! program there. `scripts/pgbouncer` runs the contract tests through one.

mod address;
mod append;
mod blocker;
mod erase;
mod horizon;
mod inline;
mod notify;
mod options;
mod projections;
mod read;
mod record;
mod refused;
mod row;
mod schema;
mod single;
mod snapshot;
mod transaction;
mod visit;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Capabilities, EraseError, EventStore, ExpectedVersion, Filter,
    LogPage, NewEvent, Position, ReadError, RecordedEvent, Scan, StreamErased, StreamId, Version,
};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::watch;

use self::{horizon::Horizon, inline::Projections, notify::Notify, record::PgRecorder};
pub use self::{options::PgOptions, projections::PgBatch, transaction::PgTransaction};
use crate::{OpenError, head, queue::Queue};

/// How often to look at first, and at last, while a hole is waited for.
const POLL_WAITING: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(50)];
/// How often to look at first, and at last, when nothing happens.
const POLL_IDLE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// An event store in a schema of a Postgres database, version 14 or newer. Cheap to clone; all clones
/// are one store.
///
/// ```no_run
/// use es_sqlx::PgStore;
///
/// # async fn open() -> Result<(), es_sqlx::OpenError> {
/// let store = PgStore::connect("postgres://me@localhost/game").await?;
/// store.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PgStore(Arc<Inner>);

struct Inner {
    address: String,
    /// For events. Nobody else's transaction is ever open on these connections.
    events: PgPool,
    /// For read models: what a projection or a query does there cannot hold up an append.
    models: PgPool,
    /// The schema's name, quoted.
    schema: String,
    sql: Statements,
    recorder: PgRecorder,
    queue: Queue<PgRecorder>,
    inline: Projections,
    horizon: Arc<Horizon>,
    /// The last position this process has heard of.
    head: watch::Sender<Position>,
    notify: Notify,
}

/// The texts of the statements that run often, with the schema in them.
struct Statements {
    horizon: Arc<str>,
    read_stream: Arc<str>,
    page: Arc<str>,
    page_of_types: Arc<str>,
    page_of_rare_types: Arc<str>,
    visit: visit::Texts,
}

impl PgStore {
    /// Connects to the schema `public`; see [`PgOptions`] for anything else.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, OpenError> {
        PgOptions::new(url).connect().await
    }

    fn of(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Creates the schema and its tables, or brings them up to date, and sets up
    /// [inline projections](PgOptions::inline). Harmless at any time and from many processes at once.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn migrate(&self) -> Result<(), OpenError> {
        schema::migrate(&self.0).await?;
        inline::register(&self.0).await
    }

    /// Ends the [inline projections](PgOptions::inline) of this name. Stores that still declare one go
    /// on without it; declared anew when a store is migrated, it catches up.
    ///
    /// Answers whether there was one.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub async fn retire_inline(&self, name: &str) -> Result<bool, sqlx::Error> {
        inline::retire(&self.0, name).await
    }

    /// Connections for reading your read models. Writing to them belongs in a projection. Except after
    /// [`PgOptions::from_pool`], events have others.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.0.models
    }

    /// The schema that holds the tables.
    #[must_use]
    pub fn schema(&self) -> &str {
        self.0.name()
    }

    /// Closes all connections, after what is under way: appends that wait are recorded, later ones
    /// are refused.
    pub async fn close(&self) {
        self.0.queue.close().await;
        self.0.notify.close().await;
        self.0.models.close().await;
        self.0.events.close().await;
    }
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore")
            .field("address", &self.0.address)
            .field("schema", &self.0.schema)
            .finish()
    }
}

#[async_trait]
impl EventStore for PgStore {
    /// Appends of this process that wait at the same time share a statement; one that is alone does
    /// not wait.
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        es_core::check_append(stream, events)?;
        let append = Append::new(stream.clone(), expected, events.to_vec());
        let appended = if self.0.inline.want(&append) {
            transaction::first(self.append_with_projections(&[append]).await?)
        } else {
            let stopped = record::stopped(&append);
            self.0.queue.append(append).await.unwrap_or(Err(stopped))?
        };
        self.0.push(appended.position);
        tracing::debug!(%stream, version = %appended.version, position = %appended.position, "appended");
        Ok(appended)
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        es_core::check_appends(appends)?;
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let appended = match appends.iter().any(|append| self.0.inline.want(append)) {
            true => self.append_with_projections(appends).await?,
            false => self.0.recorder.together(appends).await?,
        };
        let last = appended.iter().map(|appended| appended.position).max();
        self.0.push(last.unwrap_or_default());
        Ok(appended)
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        erase::run(self, stream, tombstone).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        read::stream(&self.0, stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        read::log(&self.0, filter, after, limit).await
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        read::scan(&self.0, scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        self.0.settle().await
    }

    /// Whoever may not see the sessions of other roles (`pg_monitor` may) is told the age of a blocker only
    /// as far as this process has waited for it.
    async fn horizon(&self) -> Result<es_core::Horizon, ReadError> {
        blocker::horizon(&self.0).await
    }

    /// Wakes at once for appends through this store, and soon for those of other processes where they
    /// [notify](PgOptions::notify). Looks every 4 to 50 ms while a slow writer holds the horizon back,
    /// and else every 10 to 100 ms.
    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        self.0.notify.listen(&self.0.head);
        let mut head = self.0.head.subscribe();
        let [mut idle, idle_max] = POLL_IDLE;
        let [mut waiting, waiting_max] = POLL_WAITING;
        loop {
            head.mark_unchanged();
            if self.settled().await? > after {
                return Ok(());
            }
            if self.0.horizon.is_waiting().await {
                // No message tells when a writer has ended, and each look costs a scan of the locks.
                tokio::time::sleep(waiting).await;
                waiting = (waiting * 5 / 4).min(waiting_max);
                continue;
            }
            // Either way the loop looks again.
            let _ = tokio::time::timeout(idle, head.changed()).await;
            idle = (idle * 2).min(idle_max);
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(true, true, true)
    }
}

impl Inner {
    fn new(
        address: String,
        events: PgPool,
        models: PgPool,
        schema: String,
        notify: bool,
        inline: Projections,
    ) -> Self {
        let sql = Statements {
            horizon: horizon::sql(&schema).into(),
            read_stream: read::stream_sql(&schema).into(),
            page: read::page_sql(&schema).into(),
            page_of_types: read::page_of_types_sql(&schema).into(),
            page_of_rare_types: read::page_of_rare_types_sql(&schema).into(),
            visit: visit::Texts::new(&schema),
        };
        let recorder = PgRecorder {
            pool: events.clone(),
            sql: append::sql(&schema).into(),
            single: Arc::new(single::Texts::new(&schema)),
            declared: Arc::clone(&inline.names),
        };
        Self {
            notify: Notify::new(notify.then_some(&events), schema.trim_matches('"')),
            queue: Queue::new(recorder.clone(), record::LIMITS),
            address,
            events,
            models,
            schema,
            sql,
            recorder,
            inline,
            horizon: Arc::default(),
            head: watch::Sender::new(Position::START),
        }
    }

    /// Wakes those who wait here and in other processes.
    fn push(&self, position: Position) {
        head::raise(&self.head, position);
        self.notify.announce(position);
    }

    /// Looks after the call: an append that was acknowledged before is seen, if nobody slower is
    /// still at work below it.
    async fn settle(&self) -> Result<Position, ReadError> {
        row::position(self.horizon.look(&self.events, &self.sql.horizon).await?)
    }

    /// A statement with the schema in it.
    fn text(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(sql.replace("{schema}", &self.schema))
    }

    /// The schema's name as it is.
    fn name(&self) -> &str {
        self.schema.trim_matches('"')
    }
}
