//! The SQL of the read models, the same on both databases: ids are text.

use std::future::Future;

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};
use uuid::Uuid;

/// What a read model knows of one aggregate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Of the last event.
    pub(crate) version: i64,
    /// How many events.
    pub(crate) count: i64,
    /// Of all events in their order.
    pub(crate) hash: i64,
}

impl Tally {
    pub(crate) fn add(&mut self, version: i64, event_id: Uuid) {
        self.version = version;
        self.count += 1;
        let (high, low) = event_id.as_u64_pair();
        let next = (high ^ low).cast_signed().wrapping_add(version);
        self.hash = self.hash.wrapping_mul(1_000_003).wrapping_add(next);
    }
}

/// A connection on which read models are written. The names of tables are this program's own.
pub(crate) trait Tables: Send {
    fn run(&mut self, sql: String) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn tally(
        &mut self,
        table: &str,
        aggregate_id: Uuid,
    ) -> impl Future<Output = Result<Option<Tally>, sqlx::Error>> + Send;

    /// Writes `now` if the table still has `before`. Returns whether it had.
    fn put(
        &mut self,
        table: &str,
        aggregate_id: Uuid,
        before: Tally,
        now: Tally,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    fn remove(
        &mut self,
        table: &str,
        aggregate_id: Uuid,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn tell(
        &mut self,
        outbox: &str,
        event_id: Uuid,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn tallies(
        &mut self,
        table: &str,
    ) -> impl Future<Output = Result<Vec<(String, Tally)>, sqlx::Error>> + Send;

    fn told(
        &mut self,
        outbox: &str,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;

    fn number(&mut self, sql: String) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
}

macro_rules! tables {
    ($connection:ty) => {
        impl Tables for $connection {
            async fn run(&mut self, sql: String) -> Result<(), sqlx::Error> {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(self).await?;
                Ok(())
            }

            async fn tally(
                &mut self,
                table: &str,
                aggregate_id: Uuid,
            ) -> Result<Option<Tally>, sqlx::Error> {
                let sql = format!(
                    "SELECT version, count, hash FROM {table} WHERE aggregate_id = $1"
                );
                let row: Option<(i64, i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
                    .bind(aggregate_id.to_string())
                    .fetch_optional(self)
                    .await?;
                Ok(row.map(|(version, count, hash)| Tally { version, count, hash }))
            }

            async fn put(
                &mut self,
                table: &str,
                aggregate_id: Uuid,
                before: Tally,
                now: Tally,
            ) -> Result<bool, sqlx::Error> {
                let sql = format!(
                    "INSERT INTO {table} (aggregate_id, version, count, hash)
                     VALUES ($1, $2, $3, $4) ON CONFLICT (aggregate_id) DO UPDATE
                     SET version = excluded.version, count = excluded.count, hash = excluded.hash
                     WHERE {table}.version = $5 AND {table}.hash = $6"
                );
                let put = sqlx::query(AssertSqlSafe(sql))
                    .bind(aggregate_id.to_string())
                    .bind(now.version)
                    .bind(now.count)
                    .bind(now.hash)
                    .bind(before.version)
                    .bind(before.hash)
                    .execute(self)
                    .await?;
                Ok(put.rows_affected() == 1)
            }

            async fn remove(&mut self, table: &str, aggregate_id: Uuid) -> Result<(), sqlx::Error> {
                let sql = format!("DELETE FROM {table} WHERE aggregate_id = $1");
                let id = aggregate_id.to_string();
                sqlx::query(AssertSqlSafe(sql)).bind(id).execute(self).await?;
                Ok(())
            }

            async fn tell(&mut self, outbox: &str, event_id: Uuid) -> Result<(), sqlx::Error> {
                let sql = format!("INSERT INTO {outbox} (event_id) VALUES ($1)");
                let id = event_id.to_string();
                sqlx::query(AssertSqlSafe(sql)).bind(id).execute(self).await?;
                Ok(())
            }

            async fn tallies(&mut self, table: &str) -> Result<Vec<(String, Tally)>, sqlx::Error> {
                let sql = format!("SELECT aggregate_id, version, count, hash FROM {table}");
                let rows: Vec<(String, i64, i64, i64)> =
                    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(self).await?;
                let tally = |(id, version, count, hash)| (id, Tally { version, count, hash });
                Ok(rows.into_iter().map(tally).collect())
            }

            async fn told(&mut self, outbox: &str) -> Result<Vec<String>, sqlx::Error> {
                let sql = format!("SELECT event_id FROM {outbox}");
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(self).await
            }

            async fn number(&mut self, sql: String) -> Result<i64, sqlx::Error> {
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(self).await
            }
        }
    };
}

tables!(SqliteConnection);
tables!(PgConnection);
