//! What is refused, and in which words.

use std::error::Error;

use es_core::BoxError;
use es_sqlx::rows::{HasTable, Rows, RowsError};

use crate::{Player, ann, bob, on_both};

on_both! {
    what_is_there_is_not_inserted,
    what_is_not_there_is_not_updated,
    nothing_is_said_about_rows_that_were_not_loaded,
    a_row_keeps_its_key,
    the_database_s_own_error_is_the_source,
    a_column_that_is_missing_is_an_error,
}

async fn what_is_there_is_not_inserted<C: HasTable<Player>>(db: &mut C) {
    let mut players = Rows::<Player>::load(db, [1]).await.unwrap();
    players.insert(ann(1)).unwrap();

    let error = players.insert(ann(2)).unwrap_err();

    assert!(matches!(error, RowsError::Exists { .. }));
    assert_eq!(
        BoxError::from(error).to_string(),
        "table `players` has a row 1 already; `put` would replace it"
    );
    assert_eq!(players.get(&1).unwrap(), Some(&ann(1)));
}

async fn what_is_not_there_is_not_updated<C: HasTable<Player>>(db: &mut C) {
    let mut players = Rows::<Player>::load(db, [1]).await.unwrap();

    let error = players.update(&1).unwrap_err();

    assert!(matches!(error, RowsError::Missing { .. }));
    assert_eq!(error.to_string(), "table `players` has no row 1");
    assert_eq!(players.get_mut(&1).unwrap(), None);
}

/// Seen to fail when a key that nobody loaded is taken for one that has no row.
async fn nothing_is_said_about_rows_that_were_not_loaded<C: HasTable<Player>>(db: &mut C) {
    let mut players = Rows::<Player>::load(db, [2]).await.unwrap();

    let errors = [
        players.get(&1).unwrap_err(),
        players.get_mut(&1).unwrap_err(),
        players.update(&1).unwrap_err(),
        players.insert(ann(1)).unwrap_err(),
        players.or_insert(ann(1)).unwrap_err(),
        players.remove(&1).unwrap_err(),
    ];

    for error in errors {
        assert!(matches!(error, RowsError::NotLoaded { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "row 1 of table `players` was not loaded; name its key when loading"
        );
    }
}

/// Seen to fail when rows are written without a look at their keys.
async fn a_row_keeps_its_key<C: HasTable<Player>>(db: &mut C) {
    let mut players = Rows::<Player>::load(db, [1, 2]).await.unwrap();
    players.insert(bob(1)).unwrap();
    players.insert(ann(1)).unwrap();
    players.update(&1).unwrap().id = 3;

    let error = players.save(db).await.unwrap_err();

    assert!(matches!(error, RowsError::KeyChanged { .. }));
    assert_eq!(
        error.to_string(),
        "row 1 of table `players` was given another key; remove it and insert a new one"
    );
    let players = Rows::<Player>::load(db, [1, 2, 3]).await.unwrap();
    for key in [1, 2, 3] {
        assert_eq!(players.get(&key).unwrap(), None, "nothing was written");
    }
}

async fn the_database_s_own_error_is_the_source<C: HasTable<Player>>(db: &mut C) {
    db.run("DROP TABLE players").await.unwrap();

    let error = Rows::<Player>::load(db, [1]).await.unwrap_err();

    assert_eq!(error.to_string(), "could not load rows of table `players`");
    let source = error.source().and_then(|source| source.downcast_ref());
    assert!(matches!(source, Some(sqlx::Error::Database(_))));
}

/// Seen to fail on SQLite when the columns of the SELECT do not name their table: SQLite then reads
/// `"name"` as a text.
async fn a_column_that_is_missing_is_an_error<C: HasTable<Player>>(db: &mut C) {
    db.run("DROP TABLE players; CREATE TEMP TABLE players (id BIGINT PRIMARY KEY, coins INT)")
        .await
        .unwrap();
    db.run("INSERT INTO players VALUES (1, 1)").await.unwrap();

    let error = Rows::<Player>::load(db, [1]).await.unwrap_err();

    assert!(matches!(error, RowsError::Database { .. }), "{error}");
}

#[cfg(feature = "sqlite")]
es_sqlx::read_model! {
    #[derive(Debug, Clone, PartialEq)]
    struct Word in "words" {
        #[key]
        word: String,
        times: i32,
    }
}

/// Only SQLite has such a column without an extension.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn keys_that_are_the_same_only_to_the_database_are_refused() {
    use es_sqlx::rows::RunSql;

    let mut db = crate::sqlite().await;
    db.run("CREATE TABLE words (word TEXT COLLATE NOCASE PRIMARY KEY, times INT)")
        .await
        .unwrap();
    db.run("INSERT INTO words VALUES ('who', 1)").await.unwrap();

    let error = Rows::<Word>::load(&mut db, ["WHO".to_owned()])
        .await
        .unwrap_err();

    assert!(matches!(error, RowsError::NotAsked { .. }), "{error}");
}
