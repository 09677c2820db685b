//! Rows of read models, the same on each database.
#![cfg(any(feature = "postgres", feature = "sqlite"))]

#[path = "rows/changes.rs"]
mod changes;
#[path = "rows/mistakes.rs"]
mod mistakes;
#[path = "rows/types.rs"]
mod types;

use es_sqlx::rows::RunSql;
use sqlx::Connection;
#[cfg(feature = "postgres")]
use sqlx::PgConnection;
#[cfg(feature = "sqlite")]
use sqlx::SqliteConnection;

es_sqlx::read_model! {
    /// A player and what they have.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Player in "players" {
        /// Who.
        #[key]
        pub(crate) id: i64,
        pub(crate) name: String,
        pub(crate) coins: i32,
    }
}

const PLAYERS: &str = "CREATE TEMP TABLE players (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL, coins INT NOT NULL, note TEXT NOT NULL DEFAULT 'new')";

fn ann(coins: i32) -> Player {
    Player {
        id: 1,
        name: "Ann".to_owned(),
        coins,
    }
}

fn bob(coins: i32) -> Player {
    Player {
        id: 2,
        name: "Bob".to_owned(),
        coins,
    }
}

/// Runs each check on each database, in a transaction that is rolled back.
macro_rules! on_both {
    ($($check:ident),+ $(,)?) => {
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&mut crate::postgres().await).await;
            })+
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&mut crate::sqlite().await).await;
            })+
        }
    };
}
use on_both;

#[cfg(feature = "postgres")]
async fn postgres() -> PgConnection {
    let url = std::env::var("ES_TEST_POSTGRES_URL")
        .expect("needs a Postgres: run scripts/test, or set ES_TEST_POSTGRES_URL");
    let mut db = PgConnection::connect(&url).await.unwrap();
    db.run("BEGIN").await.unwrap();
    db.run(PLAYERS).await.unwrap();
    db
}

#[cfg(feature = "sqlite")]
async fn sqlite() -> SqliteConnection {
    let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    db.run("BEGIN").await.unwrap();
    db.run(PLAYERS).await.unwrap();
    db
}
