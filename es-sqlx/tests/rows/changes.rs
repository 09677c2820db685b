//! What is written, and what is left alone.

use es_sqlx::rows::{HasTable, ReadModel, Rows};

use crate::{Player, ann, bob, on_both};

on_both! {
    changed_rows_are_written_and_found_again,
    rows_that_are_as_before_are_not_written,
    a_batch_that_undoes_itself_writes_nothing,
    removed_rows_are_gone,
    put_needs_no_loading,
    later_loads_leave_changes_alone,
    columns_that_are_not_mentioned_stay,
    a_key_of_two_columns_is_one_key,
    a_table_of_keys_alone_is_a_set,
    many_rows_are_written_and_removed,
}

async fn changed_rows_are_written_and_found_again<C: HasTable<Player>>(db: &mut C) {
    // Keys come once for each event.
    let mut players = Rows::<Player>::load(db, [1, 1, 2, 1]).await.unwrap();
    players.insert(ann(1)).unwrap();
    players.update(&1).unwrap().coins += 1;
    players.or_insert(bob(0)).unwrap().coins += 5;
    players.save(db).await.unwrap();

    let mut players = Rows::<Player>::load(db, [1, 2, 3]).await.unwrap();
    players.update(&1).unwrap().coins += 1;
    players.or_insert(bob(0)).unwrap().coins += 5;
    players.save(db).await.unwrap();

    assert_eq!(stored(db, [1, 2, 3]).await, [ann(3), bob(10)]);
}

/// Seen to fail when every row that was touched is written, or every row that was loaded.
async fn rows_that_are_as_before_are_not_written<C: HasTable<Player>>(db: &mut C) {
    put(db, [ann(1), bob(1)]).await;

    let mut players = Rows::<Player>::load(db, [1, 2]).await.unwrap();
    players.update(&1).unwrap().coins = 1;
    assert_eq!(players.get(&2).unwrap(), Some(&bob(1)));
    db.run("UPDATE players SET coins = 7").await.unwrap();
    players.save(db).await.unwrap();

    assert_eq!(stored(db, [1, 2]).await, [ann(7), bob(7)]);
}

async fn a_batch_that_undoes_itself_writes_nothing<C: HasTable<Player>>(db: &mut C) {
    put(db, [ann(1)]).await;

    let mut players = Rows::<Player>::load(db, [1, 2]).await.unwrap();
    players.insert(bob(1)).unwrap();
    assert!(players.remove(&2).unwrap());
    assert!(players.remove(&1).unwrap());
    players.insert(ann(1)).unwrap();
    db.run("UPDATE players SET coins = 7").await.unwrap();
    players.save(db).await.unwrap();

    assert_eq!(stored(db, [1, 2]).await, [ann(7)]);
}

async fn removed_rows_are_gone<C: HasTable<Player>>(db: &mut C) {
    put(db, [ann(1), bob(1)]).await;

    let mut players = Rows::<Player>::load(db, [1, 3]).await.unwrap();
    assert!(players.remove(&1).unwrap());
    assert!(!players.remove(&1).unwrap());
    assert!(!players.remove(&3).unwrap());
    assert_eq!(players.get(&1).unwrap(), None);
    players.save(db).await.unwrap();

    assert_eq!(stored(db, [1, 2, 3]).await, [bob(1)]);
}

async fn put_needs_no_loading<C: HasTable<Player>>(db: &mut C) {
    put(db, [ann(1), bob(1)]).await;

    let mut players = Rows::<Player>::load(db, []).await.unwrap();
    players.put(ann(2));
    players.put(ann(3));
    players.put(bob(2));
    assert!(players.remove(&2).unwrap());
    players.save(db).await.unwrap();

    assert_eq!(stored(db, [1, 2]).await, [ann(3)]);
}

/// Seen to fail when what is loaded already is loaded again.
async fn later_loads_leave_changes_alone<C: HasTable<Player>>(db: &mut C) {
    put(db, [ann(1), bob(1)]).await;

    let mut players = Rows::<Player>::load(db, [1]).await.unwrap();
    players.update(&1).unwrap().coins = 2;
    players.load_more(db, [2, 1]).await.unwrap();
    assert_eq!(players.get(&1).unwrap(), Some(&ann(2)));
    players.update(&2).unwrap().coins = 3;
    players.save(db).await.unwrap();

    assert_eq!(stored(db, [1, 2]).await, [ann(2), bob(3)]);
}

async fn columns_that_are_not_mentioned_stay<C: HasTable<Player> + HasTable<Note>>(db: &mut C) {
    put(db, [ann(1), bob(1)]).await;
    db.run("UPDATE players SET note = 'rich' WHERE id = 1")
        .await
        .unwrap();

    put(db, [ann(2), bob(2)]).await;

    let notes = [(1, "rich"), (2, "new")].map(|(id, note)| Note {
        id,
        note: note.to_owned(),
    });
    assert_eq!(stored::<Note, C>(db, [1, 2]).await, notes);
}

async fn a_key_of_two_columns_is_one_key<C: HasTable<Visits>>(db: &mut C) {
    db.run(
        "CREATE TEMP TABLE visits (player INT, room INT, times INT, PRIMARY KEY (player, room))",
    )
    .await
    .unwrap();
    let visits = |player, room, times| Visits {
        times,
        room,
        player,
    };
    put(
        db,
        [
            visits(1, 1, 1),
            visits(1, 2, 2),
            visits(2, 1, 3),
            visits(2, 2, 4),
        ],
    )
    .await;

    // Two of the four, which share no column's value.
    let mut rows = Rows::<Visits>::load(db, [(1, 2), (2, 1)]).await.unwrap();
    rows.update(&(1, 2)).unwrap().times = 9;
    rows.remove(&(2, 1)).unwrap();
    rows.save(db).await.unwrap();

    let all = [(2, 2), (1, 1), (1, 2), (2, 1)];
    assert_eq!(
        stored(db, all).await,
        [visits(1, 1, 1), visits(1, 2, 9), visits(2, 2, 4)]
    );
}

async fn a_table_of_keys_alone_is_a_set<C: HasTable<Tag>>(db: &mut C) {
    db.run("CREATE TEMP TABLE tags (tag TEXT PRIMARY KEY)")
        .await
        .unwrap();
    let tag = |tag: &str| Tag {
        tag: tag.to_owned(),
    };

    put(db, [tag("a")]).await;
    put(db, [tag("a"), tag("b")]).await;

    assert_eq!(
        stored(db, ["a", "b"].map(str::to_owned)).await,
        [tag("a"), tag("b")]
    );
}

/// Seen to fail on SQLite when all rows go into one statement.
async fn many_rows_are_written_and_removed<C: HasTable<Player>>(db: &mut C) {
    let player = |id, coins| Player {
        id,
        coins,
        ..ann(0)
    };
    let all = 1..=12_345;
    put(db, all.clone().map(|id| player(id, 1))).await;

    let mut players = Rows::<Player>::load(db, all.clone()).await.unwrap();
    for id in all.clone() {
        if id % 3 == 0 {
            players.remove(&id).unwrap();
        } else {
            players.update(&id).unwrap().coins += 1;
        }
    }
    players.save(db).await.unwrap();

    let left: Vec<_> = all.clone().filter(|id| id % 3 != 0).collect();
    let left: Vec<_> = left.into_iter().map(|id| player(id, 2)).collect();
    assert_eq!(stored(db, all).await, left);
}

es_sqlx::read_model! {
    #[derive(Debug, Clone, PartialEq)]
    struct Note in "players" {
        #[key]
        id: i64,
        note: String,
    }
}

es_sqlx::read_model! {
    #[derive(Debug, Clone, PartialEq)]
    struct Visits in "visits" {
        times: i32,
        #[key]
        player: i32,
        #[key]
        room: i32
    }
}

es_sqlx::read_model! {
    #[derive(Debug, Clone, PartialEq)]
    struct Tag in "tags" {
        #[key]
        tag: String,
    }
}

async fn put<R: ReadModel, C: HasTable<R>>(db: &mut C, rows: impl IntoIterator<Item = R>) {
    let mut all = Rows::<R>::load(db, []).await.unwrap();
    for row in rows {
        all.put(row);
    }
    all.save(db).await.unwrap();
}

/// The rows of these keys that there are, in order.
async fn stored<R: ReadModel, C: HasTable<R>>(
    db: &mut C,
    keys: impl IntoIterator<Item = R::Key>,
) -> Vec<R> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort();
    let rows = Rows::<R>::load(db, keys.clone()).await.unwrap();
    let found = keys.iter().filter_map(|key| rows.get(key).unwrap());
    found.cloned().collect()
}
