//! Beginning a transaction so that it can be given up at any time.

use std::io;

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

/// Whatever the database's default is: after waiting for a lock, a statement must see what its holder
/// has committed.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Begins in a task of its own. In sqlx 0.9 a future of `begin` that is dropped before the answer
/// has come gives its connection back inside the transaction; what the next user of the connection
/// wrote would be acknowledged and then lost. The task ends what it began, and the transaction that
/// nobody wants any more is rolled back.
pub(super) async fn begin(
    pool: &PgPool,
    begin: String,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(AssertSqlSafe(begin)).await });
    match begun.await {
        Ok(begun) => begun,
        Err(stopped) => Err(io::Error::other(stopped).into()),
    }
}
