//! Postgres through sqlx.

use std::sync::LazyLock;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{
    PgConnection, PgPool, Postgres, Row,
    postgres::{PgArguments, PgPoolOptions},
    query::Query,
};
use uuid::Uuid;

use super::{ADVANCE, CHECKPOINT, ENTER, Floor, Happened, MOVE, ON_CONFLICT, PAGE, Page, RESET};
use crate::{place, replay::Handler, side::Result};

const READ: &str = "SELECT position, aggregate_id, event_type, event_data::text FROM events
    WHERE position > $1 ORDER BY position LIMIT $2";
const LARGE_PAGE: i64 = 5_000;

static UPSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO floor_rooms (player_id, name, room_id, moves)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int[]) {ON_CONFLICT}"
    )
});
static UPSERT_AND_ADVANCE: LazyLock<String> = LazyLock::new(|| {
    let advance = ADVANCE.replace("$1", "$5");
    format!("WITH advanced AS ({advance}) {}", *UPSERT)
});

async fn pool(schema: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(2)
        .test_before_acquire(false)
        .connect_with(place::in_schema(schema)?)
        .await?)
}

/// What one would write first: a page, a transaction, the next page.
pub(crate) struct Loop {
    pool: PgPool,
    handler: Handler,
}

impl Loop {
    pub(crate) async fn open(schema: &str, handler: Handler) -> Result<Self> {
        let pool = pool(schema).await?;
        Ok(Self { pool, handler })
    }

    async fn fold(&self, after: i64) -> Result<Option<i64>> {
        let page = read(&self.pool, after, PAGE).await?;
        let Some(end) = page.end else {
            return Ok(None);
        };
        let mut transaction = self.pool.begin().await?;
        upsert(&UPSERT, page).execute(&mut *transaction).await?;
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
        let mut transaction = self.pool.begin().await?;
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
impl Floor for Loop {
    fn name(&self) -> &'static str {
        match self.handler {
            Handler::Rows | Handler::InOne => "sqlx, pages of 1,000",
            Handler::ByEvent => "sqlx, a statement for each event",
        }
    }

    async fn reset(&self) -> Result<()> {
        reset(&self.pool).await
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

/// The best we know: large pages, each one statement, and the next one is read and folded meanwhile.
pub(crate) struct Ahead(PgPool);

impl Ahead {
    pub(crate) async fn open(schema: &str) -> Result<Self> {
        Ok(Self(pool(schema).await?))
    }

    fn begin(&self, after: i64) -> tokio::task::JoinHandle<Result<Page>> {
        let pool = self.0.clone();
        tokio::spawn(async move { read(&pool, after, LARGE_PAGE).await })
    }
}

#[async_trait]
impl Floor for Ahead {
    fn name(&self) -> &'static str {
        "sqlx, pages of 5,000 read ahead"
    }

    async fn reset(&self) -> Result<()> {
        reset(&self.0).await
    }

    async fn replay(&self) -> Result<()> {
        let at = sqlx::query_scalar(CHECKPOINT).fetch_one(&self.0).await?;
        let mut next = self.begin(at);
        loop {
            let page = next.await??;
            let Some(end) = page.end else {
                return Ok(());
            };
            next = self.begin(end);
            upsert(&UPSERT_AND_ADVANCE, page)
                .bind(end)
                .execute(&self.0)
                .await?;
        }
    }
}

async fn reset(pool: &PgPool) -> Result<()> {
    sqlx::raw_sql(RESET).execute(pool).await?;
    Ok(())
}

async fn read(pool: &PgPool, after: i64, limit: i64) -> Result<Page> {
    let mut page = Page::default();
    let mut rows = sqlx::query(READ).bind(after).bind(limit).fetch(pool);
    while let Some(row) = rows.try_next().await? {
        page.add(
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
        )?;
    }
    Ok(page)
}

fn upsert(statement: &'static str, page: Page) -> Query<'static, Postgres, PgArguments> {
    let players = page.changes.keys().copied().collect::<Vec<_>>();
    let (mut names, mut rooms, mut moves) = (Vec::new(), Vec::new(), Vec::new());
    for change in page.changes.into_values() {
        names.push(change.name);
        rooms.push(change.room_id);
        moves.push(change.moves);
    }
    sqlx::query(statement)
        .bind(players)
        .bind(names)
        .bind(rooms)
        .bind(moves)
}

async fn advance(connection: &mut PgConnection, to: i64) -> Result<()> {
    sqlx::query(ADVANCE).bind(to).execute(connection).await?;
    Ok(())
}
