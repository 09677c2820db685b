//! Where a log with projections is, so that another process finds it.

use std::{path::PathBuf, str::FromStr};

use es_sqlx::{
    PgStore, SqliteStore,
    postgres::PgOptions,
    sqlite::{SqliteOptions, Synchronous},
};
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;

use crate::{
    backend::{self, Backend, SCHEMA_OURS},
    side::Result,
};

/// What a replay of ours leaves behind.
const RESET: &str = "DROP TABLE IF EXISTS room_occupancy;
    DELETE FROM projection_shards; DELETE FROM projection_nodes";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// On the server of the bench.
    Postgres {
        schema: String,
    },
    Sqlite {
        file: PathBuf,
    },
}

/// A place that is gone when this is dropped.
pub(crate) struct Fresh {
    pub(crate) place: Place,
    _folder: Option<TempDir>,
}

impl Backend {
    /// An empty log.
    pub(crate) async fn fresh(self) -> Result<Fresh> {
        let (place, folder) = match self {
            Self::Postgres => {
                backend::clean_postgres().await?;
                let schema = SCHEMA_OURS.to_owned();
                (Place::Postgres { schema }, None)
            }
            Self::Sqlite => {
                let folder = TempDir::new()?;
                let file = folder.path().join("ours.db");
                (Place::Sqlite { file }, Some(folder))
            }
        };
        place.migrate().await?;
        Ok(Fresh {
            place,
            _folder: folder,
        })
    }
}

pub(crate) enum Opened {
    Postgres(PgStore),
    Sqlite(SqliteStore),
}

impl Place {
    pub(crate) async fn open(&self) -> Result<Opened> {
        Ok(match self {
            Self::Postgres { schema } => {
                let options = PgOptions::new(backend::postgres_url()?).schema(schema);
                Opened::Postgres(options.connect().await?)
            }
            Self::Sqlite { file } => {
                let options = SqliteOptions::new(file.to_string_lossy());
                let options = options.synchronous(Synchronous::Normal);
                Opened::Sqlite(options.open().await?)
            }
        })
    }

    async fn migrate(&self) -> Result<()> {
        match self.open().await? {
            Opened::Postgres(store) => {
                store.migrate().await?;
                store.close().await;
            }
            Opened::Sqlite(store) => store.close().await,
        }
        Ok(())
    }

    /// Forgets that anything was ever projected.
    pub(crate) async fn reset(&self) -> Result<()> {
        match self {
            Self::Postgres { schema } => {
                let mut connection = PgConnection::connect_with(&in_schema(schema)?).await?;
                sqlx::raw_sql(RESET).execute(&mut connection).await?;
                Ok(connection.close().await?)
            }
            Self::Sqlite { file } => Ok(Connection::open(file)?.execute_batch(RESET)?),
        }
    }

    /// How many players `table` has, and how often they moved together.
    pub(crate) async fn players_and_moves(&self, table: &str) -> Result<(i64, i64)> {
        let moves = "CAST(coalesce(sum(moves), 0) AS BIGINT)";
        self.two_numbers(format!("SELECT count(*), {moves} FROM {table}"))
            .await
    }

    /// The row that a query has.
    pub(crate) async fn two_numbers(&self, query: String) -> Result<(i64, i64)> {
        match self {
            Self::Postgres { schema } => {
                let mut connection = PgConnection::connect_with(&in_schema(schema)?).await?;
                let query = sqlx::query_as(AssertSqlSafe(query));
                let found = query.fetch_one(&mut connection).await?;
                connection.close().await?;
                Ok(found)
            }
            Self::Sqlite { file } => {
                let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
                Ok(Connection::open(file)?.query_row(&query, [], row)?)
            }
        }
    }
}

/// How to connect to the bench's server without a store.
pub(crate) fn in_schema(schema: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(&backend::postgres_url()?)?;
    Ok(options.options([("search_path", schema)]))
}
