//! What the tests do behind the store's back: raw sessions, raw rows, and functions that stand before
//! those of the system.

use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::{
    oracle::{Tallies, Tally},
    postgres_server::{fresh_schema, url},
};

/// A session that finds the tables of a schema.
pub(crate) async fn session(schema: &str) -> PgConnection {
    let mut session = PgConnection::connect(&url()).await.unwrap();
    run(&mut session, format!("SET search_path TO {schema}")).await;
    session
}

pub(crate) async fn run(session: &mut PgConnection, sql: impl Into<String>) {
    session.execute(AssertSqlSafe(sql.into())).await.unwrap();
}

/// Inserts the next event of an aggregate, in whatever transaction the session is in.
pub(crate) async fn draw(session: &mut PgConnection, aggregate: Uuid, version: i32) -> u64 {
    let position: i64 = sqlx::query_scalar(
        "INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
         VALUES ($1, $2, 'lamp', 'switched', $3, '{}') RETURNING position",
    )
    .bind(Uuid::now_v7())
    .bind(aggregate)
    .bind(version)
    .fetch_one(session)
    .await
    .unwrap();
    u64::try_from(position).unwrap()
}

/// What the table says, for comparison with a read model.
pub(crate) async fn fold(store: &PgStore) -> Tallies {
    let sql = format!(
        "SELECT aggregate_id, max(event_version)::bigint, count(*) FROM {}.events GROUP BY 1",
        store.schema()
    );
    let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_all(store.pool())
        .await
        .unwrap();
    rows.into_iter()
        .map(|(aggregate, version, count)| (aggregate, Tally { version, count }))
        .collect()
}

/// A store whose statements find the functions and views of its own schema before those of the
/// system: `script` lays out what they find.
pub(crate) async fn store_with_traps(script: &str) -> PgStore {
    let schema = fresh_schema();
    let plain = PgOptions::new(url())
        .schema(&schema)
        .connect()
        .await
        .unwrap();
    plain.migrate().await.unwrap();
    plain.close().await;
    run(&mut session(&schema).await, script).await;
    let path = format!("SET search_path TO {schema}, pg_catalog");
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .after_connect(move |session, _| {
            let path = path.clone();
            Box::pin(async move { session.execute(AssertSqlSafe(path)).await.map(drop) })
        })
        .connect(&url())
        .await
        .unwrap();
    PgOptions::from_pool(pool)
        .schema(&schema)
        .connect()
        .await
        .unwrap()
}

/// What an administrator can do who means it.
pub(crate) const UNPROTECTED: &str = "ALTER TABLE events DISABLE TRIGGER USER";
