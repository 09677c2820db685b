//! Postgres through sqlx: one statement per append.

use std::str::FromStr;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Executor, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::{Encoded, Fold, POSTGRES_TABLES};
use crate::{
    player::{Player, PlayerCreated, PlayerMoved},
    side::{Result, Side},
};

/// As many as the workloads' 16 tasks can use.
const CONNECTIONS: u32 = 16;

/// The unique keys check the expected version and the event id.
const APPEND_ONE: &str = "INSERT INTO events
    (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
    VALUES ($1, $2, 'player', $3, $4, $5::json) RETURNING position";
const APPEND_MANY: &str = "INSERT INTO events
    (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
    SELECT u.id, $2, 'player', u.type, $4 + u.n, u.data::json
      FROM unnest($1::uuid[], $3::text[], $5::text[]) WITH ORDINALITY AS u(id, type, data, n)
     ORDER BY u.n RETURNING position";
const LOAD: &str = "SELECT event_type, event_data::text FROM events
    WHERE aggregate_id = $1 ORDER BY event_version";

pub(crate) struct Postgres(PgPool);

impl Postgres {
    /// Creates the tables in a schema that is empty.
    pub(crate) async fn open(url: &str, schema: &'static str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.options([("search_path", schema)]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        pool.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
            .await?;
        let tables = POSTGRES_TABLES.replace("{schema}", schema);
        sqlx::raw_sql(AssertSqlSafe(tables)).execute(&pool).await?;
        Ok(Self(pool))
    }

    async fn insert(
        &self,
        id: Uuid,
        version: u32,
        events: &[Encoded],
    ) -> std::result::Result<(), sqlx::Error> {
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        if let [event] = events {
            sqlx::query(APPEND_ONE)
                .bind(event.event_id)
                .bind(id)
                .bind(event.event_type)
                .bind(version + 1)
                .bind(&event.event_data)
                .fetch_one(&self.0)
                .await?;
            return Ok(());
        }
        sqlx::query(APPEND_MANY)
            .bind(
                events
                    .iter()
                    .map(|event| event.event_id)
                    .collect::<Vec<_>>(),
            )
            .bind(id)
            .bind(
                events
                    .iter()
                    .map(|event| event.event_type)
                    .collect::<Vec<_>>(),
            )
            .bind(version)
            .bind(
                events
                    .iter()
                    .map(|event| event.event_data.as_str())
                    .collect::<Vec<_>>(),
            )
            .fetch_all(&self.0)
            .await?;
        Ok(())
    }

    async fn fold(&self, id: Uuid) -> Result<Fold> {
        let mut fold = Fold::default();
        let mut rows = sqlx::query(LOAD).bind(id).fetch(&self.0);
        while let Some(row) = rows.try_next().await? {
            fold.apply(row.try_get(0)?, row.try_get(1)?)?;
        }
        Ok(fold)
    }
}

#[async_trait]
impl Side for Postgres {
    fn name(&self) -> &'static str {
        "sqlx"
    }

    async fn seed(&self, id: Uuid, created: PlayerCreated, moves: Vec<PlayerMoved>) -> Result<()> {
        let events = Encoded::history(&created, &moves)?;
        Ok(self.insert(id, 0, &events).await?)
    }

    async fn append(&self, id: Uuid, version: u32, events: &[PlayerMoved]) -> Result<()> {
        let events: Vec<_> = events.iter().map(Encoded::moved).collect::<Result<_>>()?;
        Ok(self.insert(id, version, &events).await?)
    }

    async fn command(&self, id: Uuid, room: Uuid) -> Result<()> {
        loop {
            let (event, version) = self.fold(id).await?.decide(room)?;
            match self.insert(id, version, &[event]).await {
                Err(error) if is_conflict(&error) => {}
                result => return Ok(result?),
            }
        }
    }

    async fn load(&self, id: Uuid) -> Result<Player> {
        self.fold(id).await?.finish()
    }
}

fn is_conflict(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}
