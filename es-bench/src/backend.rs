//! The databases, and who competes on them.

use std::sync::Arc;

use clap::ValueEnum;
use es_sqlx::{
    PgStore,
    postgres::PgOptions,
    sqlite::{SqliteOptions, Synchronous},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::{
    floors::{
        postgres::Postgres, sqlite_grouped::Grouped, sqlite_rusqlite::Rusqlite, sqlite_sqlx::Sqlx,
    },
    ours::Ours,
    side::{Result, Side},
};

pub(crate) const SCHEMA_OURS: &str = "es_bench_ours";
const SCHEMA_FLOOR: &str = "es_bench_floor";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Postgres,
    Sqlite,
}

/// The contenders on fresh logs.
pub(crate) struct Sides {
    /// Ours first, then the floor that ratios are about, then floors for information.
    pub(crate) all: Vec<Arc<dyn Side>>,
    // Dropped after the sides: it holds their files.
    folder: Option<TempDir>,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Sqlite => "SQLite",
        }
    }

    pub(crate) async fn open(self, snapshot_every: u32) -> Result<Sides> {
        match self {
            Self::Postgres => open_postgres(snapshot_every).await,
            Self::Sqlite => open_sqlite(snapshot_every).await,
        }
    }
}

async fn open_postgres(snapshot_every: u32) -> Result<Sides> {
    clean_postgres().await?;
    let url = postgres_url()?;
    let store = PgOptions::new(&url).schema(SCHEMA_OURS).connect().await?;
    store.migrate().await?;
    Ok(Sides {
        all: vec![
            Arc::new(Ours::new(store, snapshot_every)),
            Arc::new(Postgres::open(&url, SCHEMA_FLOOR).await?),
        ],
        folder: None,
    })
}

/// One that tells others, one that listens to it, and one that keeps silent.
pub(crate) async fn open_push() -> Result<[PgStore; 3]> {
    clean_postgres().await?;
    let url = postgres_url()?;
    let mut stores = Vec::new();
    for (schema, notify) in [
        (SCHEMA_OURS, true),
        (SCHEMA_OURS, true),
        (SCHEMA_FLOOR, false),
    ] {
        let options = PgOptions::new(&url).schema(schema).notify(notify);
        let store = options.connect().await?;
        store.migrate().await?;
        stores.push(store);
    }
    stores.try_into().map_err(|_| "three stores".into())
}

async fn open_sqlite(snapshot_every: u32) -> Result<Sides> {
    let folder = TempDir::new()?;
    let file = |name| folder.path().join(name);
    let store = SqliteOptions::new(file("ours.db").to_string_lossy())
        .synchronous(Synchronous::Normal)
        .open()
        .await?;
    Ok(Sides {
        all: vec![
            Arc::new(Ours::new(store, snapshot_every)),
            Arc::new(Rusqlite::open(&file("rusqlite.db"))?),
            Arc::new(Sqlx::open(&file("sqlx.db")).await?),
        ],
        folder: Some(folder),
    })
}

impl Sides {
    /// Lets grouped appends compete too, on SQLite.
    pub(crate) fn with_grouped(mut self) -> Result<Self> {
        if let Some(folder) = &self.folder {
            self.all
                .push(Arc::new(Grouped::open(&folder.path().join("grouped.db"))?));
        }
        Ok(self)
    }

    pub(crate) fn ours(&self) -> &Arc<dyn Side> {
        &self.all[0]
    }

    pub(crate) fn floor(&self) -> &Arc<dyn Side> {
        &self.all[1]
    }
}

pub(crate) fn postgres_url() -> Result<String> {
    std::env::var("ES_TEST_POSTGRES_URL").map_err(|_| {
        "run scripts/bench, or set ES_TEST_POSTGRES_URL, or ask for --backend sqlite".into()
    })
}

/// Removes what a bench leaves in the database.
pub(crate) async fn clean_postgres() -> Result<()> {
    let mut connection = PgConnection::connect(&postgres_url()?).await?;
    for schema in [SCHEMA_OURS, SCHEMA_FLOOR] {
        connection
            .execute(AssertSqlSafe(format!(
                "DROP SCHEMA IF EXISTS {schema} CASCADE"
            )))
            .await?;
    }
    Ok(connection.close().await?)
}
