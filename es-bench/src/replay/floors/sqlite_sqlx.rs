//! SQLite through sqlx: one connection, pages of rows, an upsert of many rows.

use std::path::Path;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{
    QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{ADVANCE, CHECKPOINT, ENTER, Floor, Happened, MOVE, ON_CONFLICT, PAGE, Page, RESET};
use crate::{replay::Handler, side::Result};

pub(super) const READ: &str = "SELECT position, aggregate_id, event_type, event_data FROM events
    WHERE position > $1 ORDER BY position LIMIT $2";

pub(crate) struct Sqlx {
    pool: SqlitePool,
    handler: Handler,
}

impl Sqlx {
    pub(crate) async fn open(file: &Path, handler: Handler) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self { pool, handler })
    }

    async fn fold(&self, after: i64) -> Result<Option<i64>> {
        let mut page = Page::default();
        let mut rows = sqlx::query(READ).bind(after).bind(PAGE).fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            page.add(
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
            )?;
        }
        drop(rows);
        let Some(end) = page.end else {
            return Ok(None);
        };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut upsert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO floor_rooms (player_id, name, room_id, moves) ",
        );
        upsert.push_values(page.changes, |mut row, (player, change)| {
            row.push_bind(player)
                .push_bind(change.name)
                .push_bind(change.room_id)
                .push_bind(change.moves);
        });
        upsert.push(ON_CONFLICT);
        // Each number of rows is a statement of its own: not worth keeping.
        let upsert = upsert.build().persistent(false);
        upsert.execute(&mut *transaction).await?;
        advance(&mut transaction, end).await?;
        transaction.commit().await?;
        Ok(Some(end))
    }

    async fn by_event(&self, after: i64) -> Result<Option<i64>> {
        let rows = sqlx::query(READ)
            .bind(after)
            .bind(PAGE)
            .fetch_all(&self.pool)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for row in &rows {
            let player: Uuid = row.try_get(1)?;
            let statement = match Happened::decode(row.try_get(2)?, row.try_get(3)?)? {
                Happened::Created(created) => sqlx::query(ENTER)
                    .bind(player)
                    .bind(created.name)
                    .bind(created.room_id),
                Happened::Moved(moved) => sqlx::query(MOVE).bind(moved.to_room_id).bind(player),
            };
            statement.execute(&mut *transaction).await?;
        }
        let end = last.try_get(0)?;
        advance(&mut transaction, end).await?;
        transaction.commit().await?;
        Ok(Some(end))
    }
}

#[async_trait]
impl Floor for Sqlx {
    fn name(&self) -> &'static str {
        match self.handler {
            Handler::Rows | Handler::InOne => "sqlx, pages of 1,000",
            Handler::ByEvent => "sqlx, a statement for each event",
        }
    }

    async fn reset(&self) -> Result<()> {
        sqlx::raw_sql(RESET).execute(&self.pool).await?;
        Ok(())
    }

    async fn replay(&self) -> Result<()> {
        let mut at = sqlx::query_scalar(CHECKPOINT).fetch_one(&self.pool).await?;
        loop {
            let end = match self.handler {
                Handler::Rows | Handler::InOne => self.fold(at).await?,
                Handler::ByEvent => self.by_event(at).await?,
            };
            match end {
                Some(end) => at = end,
                None => return Ok(()),
            }
        }
    }
}

async fn advance(connection: &mut SqliteConnection, to: i64) -> Result<()> {
    sqlx::query(ADVANCE).bind(to).execute(connection).await?;
    Ok(())
}
