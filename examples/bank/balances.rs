//! A read model that is never behind: it is written inside each append.

use es_core::{BoxError, Project, Projection, Recorded, StreamErased};
use sqlx::{Executor, SqliteConnection, SqlitePool};

use crate::account::{AccountOpened, MoneyDeposited, MoneyWithdrawn};

#[derive(Projection)]
#[projection(
    name = "balances",
    version = 1,
    events(AccountOpened, MoneyDeposited, MoneyWithdrawn, StreamErased)
)]
pub(crate) struct Balances;

const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS balances (account BLOB PRIMARY KEY, owner TEXT, cents INTEGER)";
const ADD: &str = "UPDATE balances SET cents = cents + ?2 WHERE account = ?1";

impl Project<SqliteConnection> for Balances {
    async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
        db.execute(CREATE).await?;
        Ok(())
    }

    async fn project(
        &self,
        db: &mut SqliteConnection,
        events: &[Recorded<BalancesEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            let account = record.aggregate_id;
            let query = match event {
                BalancesEvent::AccountOpened(opened) => {
                    sqlx::query("INSERT INTO balances VALUES (?1, ?2, 0)")
                        .bind(account)
                        .bind(&opened.owner)
                }
                BalancesEvent::MoneyDeposited(deposited) => sqlx::query(ADD)
                    .bind(account)
                    .bind(i64::try_from(deposited.cents)?),
                BalancesEvent::MoneyWithdrawn(withdrawn) => sqlx::query(ADD)
                    .bind(account)
                    .bind(-i64::try_from(withdrawn.cents)?),
                // Nothing of them may stay here.
                BalancesEvent::StreamErased(_) => {
                    sqlx::query("DELETE FROM balances WHERE account = ?1").bind(account)
                }
            };
            query.execute(&mut *db).await?;
        }
        Ok(())
    }
}

/// Everybody and what they have, by name.
pub(crate) async fn all(pool: &SqlitePool) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as("SELECT owner, cents FROM balances ORDER BY owner")
        .fetch_all(pool)
        .await
}
