//! Servers that are restarted or crash.

use std::time::Duration;

use es_core::{
    Appended, EventStore, ExpectedVersion, Filter, NewEvent, Position, StreamId, Version,
};
use es_sqlx::PgStore;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    cluster::Cluster,
    oracle::{finish, follow, lamp, several},
    tricks::{draw, fold, run},
};

async fn store(cluster: &Cluster) -> PgStore {
    let store = PgStore::connect(cluster.url()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// A prepared transaction outlives the server and goes by another name afterwards. A reader that has
/// seen the hole before and one that has not both wait for it; then it is committed, and another is
/// rolled back. Seen to fail when "-1/…" does not hold the samples that were taken before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_transaction_over_a_restart() {
    let cluster = Cluster::start();
    let before = store(&cluster).await;
    let mut session = PgConnection::connect(&cluster.url()).await.unwrap();
    for (name, position) in [("kept", 1), ("dropped", 2)] {
        run(&mut session, "BEGIN").await;
        assert_eq!(draw(&mut session, Uuid::now_v7(), 1).await, position);
        run(&mut session, format!("PREPARE TRANSACTION '{name}'")).await;
    }
    assert_eq!(draw(&mut session, Uuid::now_v7(), 1).await, 3);
    assert_eq!(before.settled().await.unwrap(), Position::START);
    // The connections of a store do not end by themselves, and a fast stop ends them.
    cluster.stop("fast");
    cluster.start_again();

    let after = PgStore::connect(cluster.url()).await.unwrap();
    let mut session = PgConnection::connect(&cluster.url()).await.unwrap();
    for store in [&before, &after] {
        for _ in 0..3 {
            assert_eq!(settled(store).await, 0, "both may still be committed");
        }
    }
    run(&mut session, "COMMIT PREPARED 'kept'").await;
    for store in [&before, &after] {
        assert_eq!(settled(store).await, 1, "2 may still be committed");
    }
    run(&mut session, "ROLLBACK PREPARED 'dropped'").await;
    for store in [&before, &after] {
        let page = store.read_log(&Filter::All, Position::START, 10).await;
        let page = page.unwrap();
        let positions: Vec<_> = page.events.iter().map(|e| e.position.get()).collect();
        assert_eq!(positions, [1, 3]);
    }
}

/// A connection from before the restart may have to fail first.
async fn settled(store: &PgStore) -> u64 {
    for _ in 0..20 {
        match store.settled().await {
            Ok(settled) => return settled.get(),
            Err(error) if error.is_retryable() => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the store does not recover");
}

/// The server crashes under appends at random moments. What was acknowledged is there, and repeated it
/// is where it was. What was not may be there: repeated, it is there once. Seen to fail when ids
/// that are there are not recognised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_idempotent_over_a_crash() {
    let cluster = Cluster::start();
    let store = store(&cluster).await;
    for _ in 0..3 {
        let writers = (0..4).map(|_| tokio::spawn(write_until_failure(store.clone())));
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(150)).await;
        cluster.stop("immediate");
        cluster.start_again();
        settled(&store).await;
        for writer in writers {
            let (stream, acknowledged, unknown) = writer.await.unwrap();
            let mut wanted = Vec::new();
            let mut version = Version::EMPTY;
            for (events, first) in acknowledged {
                let expected = ExpectedVersion::Exact(version);
                let again = store.append(&stream, expected, &events).await.unwrap();
                assert_eq!(again, first);
                version = again.version;
                wanted.extend(events);
            }
            let there = store.read_stream(&stream, version, 10).await.unwrap();
            let expected = ExpectedVersion::Exact(version);
            let answer = store.append(&stream, expected, &unknown).await.unwrap();
            if let Some(last) = there.last() {
                assert_eq!((there.len(), answer.position), (3, last.position));
            }
            wanted.extend(unknown);
            let stored = store.read_stream(&stream, Version::EMPTY, 1_000_000).await;
            let stored = stored.unwrap().into_iter().map(|event| event.event_id);
            assert!(stored.eq(wanted.iter().map(|event| event.event_id)));
        }
    }
    finish(&store).await;
    let model = follow(&store, 500, |_| ()).await;
    assert_eq!(model.tallies, fold(&store).await);
}

/// The stream, the appends that were acknowledged, and the one of which nothing is known.
async fn write_until_failure(
    store: PgStore,
) -> (StreamId, Vec<(Vec<NewEvent>, Appended)>, Vec<NewEvent>) {
    let (stream, mut version, mut acknowledged) = (lamp(), Version::EMPTY, Vec::new());
    loop {
        let events = several(3);
        let expected = ExpectedVersion::Exact(version);
        match store.append(&stream, expected, &events).await {
            Ok(appended) => {
                version = appended.version;
                acknowledged.push((events, appended));
            }
            Err(error) if error.is_retryable() => return (stream, acknowledged, events),
            Err(error) => panic!("{error:?}"),
        }
    }
}
