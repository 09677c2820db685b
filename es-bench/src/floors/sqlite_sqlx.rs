//! SQLite through sqlx: the same statements, and batches as rows of one INSERT.

use std::path::Path;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{
    QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{
    Encoded, Fold, SQLITE_TABLES, now,
    sqlite_rusqlite::{ADVANCE, APPEND, LOAD},
};
use crate::{
    player::{Player, PlayerCreated, PlayerMoved},
    side::{Result, Side},
};

/// Seven parameters each, and SQLite takes 32,766.
const ROWS_MAX: usize = 1_000;

/// One connection: tasks queue for it here.
pub(crate) struct Sqlx(SqlitePool);

impl Sqlx {
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::raw_sql(SQLITE_TABLES).execute(&pool).await?;
        Ok(Self(pool))
    }

    async fn insert(&self, id: Uuid, version: u32, events: &[Encoded]) -> Result<()> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        insert(&mut transaction, id, version, events).await?;
        Ok(transaction.commit().await?)
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    id: Uuid,
    version: u32,
    events: &[Encoded],
) -> Result<()> {
    let (before, created_at): (i64, String) = sqlx::query_as(ADVANCE)
        .bind(i64::try_from(events.len())?)
        .bind(now())
        .fetch_one(&mut *connection)
        .await?;
    if let [event] = events {
        sqlx::query(APPEND)
            .bind(event.event_id)
            .bind(id)
            .bind(event.event_type)
            .bind(version + 1)
            .bind(&event.event_data)
            .bind(created_at)
            .bind(before + 1)
            .execute(connection)
            .await?;
        return Ok(());
    }
    let mut places = (version + 1..).zip(before + 1..);
    for chunk in events.chunks(ROWS_MAX) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type,
             event_version, event_data, created_at, position) ",
        );
        let rows = chunk.iter().zip(&mut places);
        insert.push_values(rows, |mut row, (event, (version, position))| {
            row.push_bind(event.event_id)
                .push_bind(id)
                .push("'player'")
                .push_bind(event.event_type)
                .push_bind(version)
                .push_bind(event.event_data.as_str())
                .push_bind(created_at.as_str())
                .push_bind(position);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn fold(connection: &mut SqliteConnection, id: Uuid) -> Result<Fold> {
    let mut fold = Fold::default();
    let mut rows = sqlx::query(LOAD).bind(id).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        fold.apply(row.try_get(0)?, row.try_get(1)?)?;
    }
    Ok(fold)
}

#[async_trait]
impl Side for Sqlx {
    fn name(&self) -> &'static str {
        "sqlx"
    }

    async fn seed(&self, id: Uuid, created: PlayerCreated, moves: Vec<PlayerMoved>) -> Result<()> {
        let events = Encoded::history(&created, &moves)?;
        self.insert(id, 0, &events).await
    }

    async fn append(&self, id: Uuid, version: u32, events: &[PlayerMoved]) -> Result<()> {
        let events: Vec<_> = events.iter().map(Encoded::moved).collect::<Result<_>>()?;
        self.insert(id, version, &events).await
    }

    /// All in one transaction: there is nothing to lose a race to.
    async fn command(&self, id: Uuid, room: Uuid) -> Result<()> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        let (event, version) = fold(&mut transaction, id).await?.decide(room)?;
        insert(&mut transaction, id, version, &[event]).await?;
        Ok(transaction.commit().await?)
    }

    async fn load(&self, id: Uuid) -> Result<Player> {
        let mut connection = self.0.acquire().await?;
        fold(&mut connection, id).await?.finish()
    }
}
