//! Addresses that lead nowhere, and passwords that stay where they are.

use std::time::{Duration, Instant};

use es_core::Chain;
use es_sqlx::{OpenError, PgStore, postgres::PgOptions};

use crate::postgres_server::{fresh_schema, url};

fn all_of(error: &OpenError) -> String {
    format!("{} {error:?}", Chain(error))
}

#[tokio::test]
async fn what_is_no_address_is_refused_without_repeating_it() {
    for address in [
        "",
        "me:hunter2@host/game",
        "mysql://me:hunter2@host/game",
        "postgres://me:hunter2@host:port/game",
        "postgres://me:hunter2@host/game?sslmode=hunter2",
    ] {
        let error = PgStore::connect(address).await.unwrap_err();
        let text = all_of(&error);
        assert!(
            matches!(error, OpenError::InvalidAddress { .. }),
            "{address}: {text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("postgres://user:password@host"), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_a_schema_is_refused() {
    for schema in ["", "1st", "Game", "a b", "x\"; DROP SCHEMA public; --"] {
        let error = PgOptions::new(url())
            .schema(schema)
            .connect()
            .await
            .unwrap_err();
        assert!(
            matches!(error, OpenError::InvalidAddress { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_unreachable_server_is_told_soon_and_without_the_password() {
    let began = Instant::now();
    let error = PgStore::connect("postgres://me:hunter2@127.0.0.1:1/game")
        .await
        .unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(error.is_retryable());
    let text = all_of(&error);
    assert!(text.contains("127.0.0.1:1/game"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn an_unknown_database_is_unreachable_for_good() {
    let (server, _) = url().rsplit_once('/').map(own).unwrap();
    let error = PgStore::connect(format!("{server}/no_such_database_here"))
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(!error.is_retryable());
}

fn own((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

#[tokio::test]
async fn debug_shows_no_password() {
    let options = PgOptions::new("postgres://me:hunter2@127.0.0.1:1/game");
    assert!(!format!("{options:?}").contains("hunter2"));

    let with_password = url().replacen("://es@", "://es:hunter2@", 1);
    let store = PgOptions::new(with_password)
        .schema(fresh_schema())
        .connect()
        .await
        .unwrap();
    assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");
}
