//! How to open a store, and its connections.

use std::{fmt, time::Duration};

use es_core::{Inline, Project};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Inner, PgStore, address, append::PATIENCE, inline::Projections, schema};
use crate::{OpenError, error::is_transient};

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is tried before it is used; in a busy program that costs
/// nothing, and after a restart of the server nobody is handed a dead one.
const TRIED_AFTER: Duration = Duration::from_secs(1);

/// How to open a [`PgStore`].
///
/// ```no_run
/// use es_sqlx::postgres::PgOptions;
///
/// # async fn open() -> Result<(), es_sqlx::OpenError> {
/// let store = PgOptions::new("postgres://me@localhost/game").schema("game").connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PgOptions {
    connections_to: Target,
    schema: String,
    connections: u32,
    notify: bool,
    inline: Vec<Inline<PgConnection>>,
}

#[derive(Clone)]
enum Target {
    Url(String),
    Pool(PgPool),
}

impl PgOptions {
    /// `postgres://user:password@host:5432/database`
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::of(Target::Url(url.into()))
    }

    /// On connections that the program has already. Their settings are left alone; inside a projection
    /// and a [`PgTransaction`](super::PgTransaction) the `search_path` begins with the schema.
    ///
    /// Events then share the connections with the rest of the program. In sqlx 0.9 a future of
    /// `begin()` that is dropped before it is done (a request that is called off) leaves its connection
    /// inside the transaction, and an append that gets this connection is lost with it. Where that can
    /// happen, give the store a pool of its own. A pool that tests its connections before each use
    /// (`test_before_acquire`, on by default) adds a round trip to every append.
    ///
    /// An append that meets somebody's open transaction waits on such a connection for as long as its own
    /// `lock_timeout` says; on connections of its own the store gives it back in between.
    #[must_use]
    pub fn from_pool(pool: PgPool) -> Self {
        Self::of(Target::Pool(pool))
    }

    fn of(connections_to: Target) -> Self {
        Self {
            connections_to,
            schema: "public".to_owned(),
            connections: 10,
            notify: true,
            inline: Vec::new(),
        }
    }

    /// The schema that holds the tables. `public` unless set.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// How many connections there may be for events, and as many again for read models; each is opened
    /// when it is needed first. 10 unless set; at least 2. A pool of the program keeps its own number.
    ///
    /// Appends need few: those that wait at the same time share a statement, on two connections. The
    /// rest is for loading.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(2);
        self
    }

    /// Whether processes tell each other of new events with `NOTIFY`, at most 50 times a second, on up
    /// to two more connections. They do unless this is switched off; then, or where the messages do
    /// not arrive, events of other processes are found by looking, within 100 ms. Switch it off behind
    /// [pgbouncer](super#behind-pgbouncer).
    #[must_use]
    pub fn notify(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }

    /// Runs `projection` inside each append that has events it wants: its read model is never behind
    /// the log, and an append that it refuses is not recorded. [`PgStore::migrate`] sets it up, and
    /// brings it up to date with a log that has events, while writers wait.
    ///
    /// Every process that appends must declare it: from then on the appends of one that does not are
    /// refused, also of one that runs already. Appends that run projections are not grouped with others.
    #[must_use]
    pub fn inline(mut self, projection: impl Project<PgConnection>) -> Self {
        self.inline.push(Inline::new(projection));
        self
    }

    /// Connects and looks at what is there. Nothing is written: call [`PgStore::migrate`] to create
    /// the tables. On the store's own connections the `search_path` begins with the schema, so that
    /// read models live beside the events.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn connect(self) -> Result<PgStore, OpenError> {
        let schema = address::schema(&self.schema)?;
        let inline = Projections::new(self.inline);
        match self.connections_to {
            Target::Url(url) => {
                let (options, address) = address::parse(&url)?;
                let mut first = connect(&options, &address).await?;
                let pool = |set_up| pool(self.connections, set_up, options.clone());
                // Whatever the database's defaults are. Who must wait for a lock gives the connection
                // back in between.
                let events = pool(format!(
                    "SET lock_timeout = '{PATIENCE}'; SET SESSION CHARACTERISTICS AS TRANSACTION \
                     ISOLATION LEVEL READ COMMITTED"
                ));
                let models = pool(format!("SET search_path TO {schema}, public"));
                let inner = Inner::new(address, events, models, schema, self.notify, inline);
                schema::look(&inner, &mut first).await?;
                // It has done its work; whether the server hears the farewell does not matter.
                let _ = first.close().await;
                Ok(PgStore::of(inner))
            }
            Target::Pool(pool) => {
                let address = address::shown(&pool.connect_options());
                let mut first = match pool.acquire().await {
                    Ok(connection) => connection,
                    Err(source) => {
                        return Err(unreachable(address, is_transient(&source), source.into()));
                    }
                };
                let inner = Inner::new(address, pool.clone(), pool, schema, self.notify, inline);
                schema::look(&inner, &mut first).await?;
                Ok(PgStore::of(inner))
            }
        }
    }
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("notify", &self.notify)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}

/// Connects when a connection is needed.
fn pool(connections: u32, set_up: String, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move {
                if known.idle_for > TRIED_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| {
            let set_up = set_up.clone();
            Box::pin(async move {
                connection.execute(AssertSqlSafe(set_up)).await?;
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
    Err(unreachable(address.to_owned(), transient, source))
}

fn unreachable(address: String, transient: bool, source: es_core::BoxError) -> OpenError {
    OpenError::Unreachable {
        backend: "Postgres",
        address,
        transient,
        source,
    }
}
