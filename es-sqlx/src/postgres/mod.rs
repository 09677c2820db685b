//! The Postgres store: many writers, many processes.

mod address;
mod append;
mod checkpoint;
mod horizon;
mod read;
mod refused;
mod row;
mod schema;
mod snapshot;
mod transaction;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use es_core::{
    AppendError, Appended, Capabilities, EventStore, ExpectedVersion, Filter, LogPage, NewEvent,
    Position, ReadError, RecordedEvent, Scan, StreamId, Version,
};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::watch;

pub use self::checkpoint::PgBatch;
use self::horizon::Horizon;
use crate::{OpenError, error::is_transient};

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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
    horizon: Horizon,
    head: watch::Sender<Position>,
}

/// The texts of the statements that run often, with the schema in them.
struct Statements {
    append: Arc<str>,
    horizon: Arc<str>,
    read_stream: Arc<str>,
}

/// How to open a [`PgStore`].
#[derive(Clone)]
pub struct PgOptions {
    url: String,
    schema: String,
    connections: u32,
}

impl PgOptions {
    /// `postgres://user:password@host:5432/database`
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "public".to_owned(),
            connections: 10,
        }
    }

    /// The schema that holds the tables. `public` unless set.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// How many connections there may be for events, and as many again for read models; each is opened
    /// when it is needed first. 10 unless set; at least 2.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(2);
        self
    }

    /// Connects and looks at what is there. Nothing is written: call [`PgStore::migrate`] to create
    /// the tables. On its connections the `search_path` begins with the schema, so that read models
    /// live beside the events.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn connect(self) -> Result<PgStore, OpenError> {
        let schema = address::schema(&self.schema)?;
        let (options, address) = address::parse(&self.url)?;
        let mut first = connect(&options, &address).await?;
        let pool = || pool(self.connections, &schema, options.clone());
        let store = PgStore::build(pool(), pool(), schema.clone(), address);
        schema::look(&store.0, &mut first).await?;
        // It has done its work; whether the server hears the farewell does not matter.
        let _ = first.close().await;
        Ok(store)
    }
}

/// Connects when a connection is needed.
fn pool(connections: u32, schema: &str, options: PgConnectOptions) -> PgPool {
    let path = format!("SET search_path TO {schema}, public");
    PgPoolOptions::new()
        .max_connections(connections)
        .after_connect(move |connection, _| {
            let path = path.clone();
            Box::pin(async move {
                connection.execute(AssertSqlSafe(path)).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options)
}

/// One connection by itself: a pool would go on trying for half a minute where nobody listens.
async fn connect(options: &PgConnectOptions, address: &str) -> Result<PgConnection, OpenError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options));
    let (transient, source) = match connecting.await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => (is_transient(&error), error.into()),
        Err(elapsed) => (true, elapsed.into()),
    };
    Err(OpenError::Unreachable {
        backend: "Postgres",
        address: address.to_owned(),
        transient,
        source,
    })
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl PgStore {
    /// Connects to the schema `public`; see [`PgOptions::connect`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, OpenError> {
        PgOptions::new(url).connect().await
    }

    /// A store on connections that the program has already. Their settings are left alone; inside a
    /// projection the `search_path` begins with the schema.
    ///
    /// Events then share the connections with the rest of the program. In sqlx 0.9 a future of
    /// `begin()` that is dropped before it is done (a request that is called off) leaves its connection
    /// inside the transaction, and an append that gets this connection is lost with it. Where that can
    /// happen, give the store a pool of its own.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn from_pool(pool: PgPool, schema: &str) -> Result<Self, OpenError> {
        let address = address::shown(&pool.connect_options());
        let store = Self::build(pool.clone(), pool, address::schema(schema)?, address);
        let mut connection =
            store
                .pool()
                .acquire()
                .await
                .map_err(|source| OpenError::Unreachable {
                    backend: "Postgres",
                    address: store.0.address.clone(),
                    transient: is_transient(&source),
                    source: source.into(),
                })?;
        schema::look(&store.0, &mut connection).await?;
        Ok(store)
    }

    fn build(events: PgPool, models: PgPool, schema: String, address: String) -> Self {
        Self(Arc::new(Inner {
            address,
            sql: Statements {
                append: append::sql(&schema).into(),
                horizon: horizon::sql(&schema).into(),
                read_stream: read::stream_sql(&schema).into(),
            },
            events,
            models,
            schema,
            horizon: Horizon::default(),
            head: watch::Sender::new(Position::START),
        }))
    }

    /// Creates the schema and its tables, or brings them up to date. Harmless at any time and from
    /// many processes at once.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn migrate(&self) -> Result<(), OpenError> {
        schema::migrate(&self.0).await
    }

    /// Connections for reading your read models. Writing to them belongs in a projection. Except after
    /// [`PgStore::from_pool`], events have others.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.0.models
    }

    /// The schema that holds the tables.
    #[must_use]
    pub fn schema(&self) -> &str {
        self.0.name()
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
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
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        es_core::check_append(stream, events)?;
        let appended = append::run(&self.0, stream, expected, events).await?;
        self.0.head.send_if_modified(|known| {
            let newer = appended.position > *known;
            *known = appended.position.max(*known);
            newer
        });
        tracing::debug!(%stream, version = %appended.version, position = %appended.position, "appended");
        Ok(appended)
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

    /// Wakes at once for appends through this store; looks every 4 to 50 ms while a slow writer holds
    /// the horizon back, and else every 10 to 100 ms for the appends of other processes.
    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
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
    /// Looks after the call: an append that was acknowledged before is seen, if nobody slower is
    /// still at work below it.
    async fn settle(&self) -> Result<Position, ReadError> {
        row::position(self.horizon.look(&self.events, &self.sql.horizon).await?)
    }

    /// The schema's name as it is.
    fn name(&self) -> &str {
        self.schema.trim_matches('"')
    }
}
