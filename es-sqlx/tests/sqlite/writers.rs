//! Many writers, in one process and in several, and writers that give up half-way.

use std::{collections::HashSet, process::Stdio, time::Duration};

use es_core::{AppendError, EventStore, ExpectedVersion, Filter, Position, StreamId, Version};
use es_sqlx::{SqliteStore, sqlite::SqliteOptions};
use uuid::Uuid;

use crate::{add, folder, lamp, open, read, set_up, several, sql, stranger, switched};

const EACH: usize = 200;

/// Adds [`EACH`] events one by one, each at the version it has just seen.
async fn race(store: &SqliteStore, stream: &StreamId) {
    let mut version = Version::EMPTY;
    for _ in 0..EACH {
        let event = [switched()];
        loop {
            let expected = ExpectedVersion::Exact(version);
            match store.append(stream, expected, &event).await {
                Ok(appended) => break version = appended.version,
                Err(AppendError::Conflict { actual, .. }) => version = actual,
                Err(error) if error.is_retryable() => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

async fn assert_whole(store: &SqliteStore, stream: &StreamId, count: usize) {
    let events = read(store, stream).await;
    let versions: Vec<_> = events
        .iter()
        .map(|event| event.event_version.get() as usize)
        .collect();
    assert_eq!(versions, (1..=count).collect::<Vec<_>>());
    let ids: HashSet<_> = events.iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), count);
    assert!(events.is_sorted_by_key(|event| (event.position, event.event_version)));
    assert!(events.is_sorted_by_key(|event| event.created_at));
    let page = store
        .read_log(&Filter::All, Position::START, 10_000)
        .await
        .unwrap();
    assert_eq!(page.events, events);
    assert_eq!(page.covered, events.last().unwrap().position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_file_lose_nothing() {
    let (_folder, file) = folder();
    let (one, two, stream) = (open(&file).await, open(&file).await, lamp());
    tokio::join!(race(&one, &stream), race(&two, &stream));
    assert_whole(&one, &stream, 2 * EACH).await;
}

#[tokio::test]
async fn two_processes_on_one_file_lose_nothing() {
    let (_folder, file) = folder();
    let stream = lamp();
    let child = || {
        tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writers::child_process", "--ignored"])
            .env("ES_TEST_FILE", &file)
            .env("ES_TEST_STREAM", stream.aggregate_id.to_string())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .status()
    };
    let (one, two) = tokio::join!(child(), child());
    assert!(one.unwrap().success() && two.unwrap().success());
    assert_whole(&open(&file).await, &stream, 2 * EACH).await;
}

#[tokio::test]
#[ignore = "the other process of `two_processes_on_one_file_lose_nothing`"]
async fn child_process() {
    let Ok(file) = std::env::var("ES_TEST_FILE") else {
        return;
    };
    let id: Uuid = std::env::var("ES_TEST_STREAM").unwrap().parse().unwrap();
    race(
        &SqliteStore::open(file).await.unwrap(),
        &StreamId::new("lamp", id),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_append_leaves_all_or_nothing() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let mut outcomes = HashSet::new();
    for microseconds in (0..3000).step_by(30) {
        let (stream, events) = (lamp(), several(5));
        let append = store.append(&stream, ExpectedVersion::NoStream, &events);
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), append).await;

        // The same append again succeeds, whether or not the first one went through.
        let again = store
            .append(&stream, ExpectedVersion::NoStream, &events)
            .await
            .unwrap();
        assert_eq!(again.version, Version::new(5));
        let found = read(&store, &stream).await;
        outcomes.insert(found.len());
        assert!(
            found
                .iter()
                .map(|e| e.event_id)
                .eq(events.iter().map(|e| e.event_id))
        );
    }
    assert_eq!(outcomes, HashSet::from([5]));
    assert_eq!(store.settled().await.unwrap(), Position::new(500));
}

#[tokio::test]
async fn a_batch_larger_than_one_statement_is_one_append() {
    let store = SqliteStore::in_memory().await.unwrap();
    let (stream, events) = (lamp(), several(7_001));
    let first = store
        .append(&stream, ExpectedVersion::NoStream, &events)
        .await
        .unwrap();
    assert_eq!((first.version.get(), first.position.get()), (7_001, 7_001));
    let again = store
        .append(&stream, ExpectedVersion::NoStream, &events)
        .await
        .unwrap();
    assert_eq!(again, first);
    assert!(
        read(&store, &stream)
            .await
            .iter()
            .map(|e| e.event_id)
            .eq(events.iter().map(|e| e.event_id))
    );
}

#[tokio::test]
async fn a_writer_elsewhere_that_holds_on_too_long_is_a_transient_failure() {
    let (_folder, file) = folder();
    let options = SqliteOptions::new(file.to_str().unwrap());
    let store = options
        .busy_timeout(Duration::from_millis(50))
        .open()
        .await
        .unwrap();
    let mut other = stranger(&file).await;
    sql(&mut other, "BEGIN IMMEDIATE").await.unwrap();

    let (stream, events) = (lamp(), several(2));
    let error = store
        .append(&stream, ExpectedVersion::Any, &events)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::Backend {
                transient: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("could not append 2 event(s) to stream `{stream}`")
    );

    sql(&mut other, "ROLLBACK").await.unwrap();
    store
        .append(&stream, ExpectedVersion::Any, &events)
        .await
        .unwrap();
}

/// SQLite ends the transaction itself when the disk is full; the driver has to notice.
#[tokio::test]
async fn a_store_recovers_from_a_full_disk() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    add(&store, &stream, 1).await;
    // A quota of pages is kept per connection: set it on the writer.
    let projection = es_core::ProjectionId::new("quota", 1);
    let mut batch = set_up(&store, &projection).await;
    sql(
        es_core::Batch::connection(&mut batch),
        "PRAGMA max_page_count = 1",
    )
    .await
    .unwrap();
    es_core::Batch::commit(batch).await.unwrap();

    let mut big = switched();
    big.event_data = es_core::Json::encode(&"x".repeat(1 << 20)).unwrap();
    let error = store
        .append(&stream, ExpectedVersion::Any, &[big])
        .await
        .unwrap_err();
    assert!(
        es_core::Chain(&error).to_string().contains("full"),
        "{error:?}"
    );

    add(&store, &stream, 1).await;
    assert_whole(&store, &stream, 2).await;
}

/// `kill -9` at any moment: whole appends, no holes, and the next process goes on.
#[tokio::test]
async fn a_killed_process_leaves_whole_appends() {
    let (_folder, file) = folder();
    let stream = lamp();
    open(&file).await.close().await;
    let mut before = 0;
    for milliseconds in [60, 90, 130, 170] {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writers::endless_child_process", "--ignored"])
            .env("ES_TEST_FILE", &file)
            .env("ES_TEST_STREAM", stream.aggregate_id.to_string())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        child.kill().await.unwrap();

        let store = open(&file).await;
        add(&store, &stream, 5).await;
        let count = read(&store, &stream).await.len();
        assert!(count % 5 == 0 && count > before, "{count} after {before}");
        assert_whole(&store, &stream, count).await;
        before = count;
        store.close().await;
    }
    assert!(before > 4 * 5, "the children have appended nothing");
}

#[tokio::test]
#[ignore = "the process that `a_killed_process_leaves_whole_appends` kills"]
async fn endless_child_process() {
    let Ok(file) = std::env::var("ES_TEST_FILE") else {
        return;
    };
    let id: Uuid = std::env::var("ES_TEST_STREAM").unwrap().parse().unwrap();
    let (store, stream) = (
        SqliteStore::open(file).await.unwrap(),
        StreamId::new("lamp", id),
    );
    loop {
        add(&store, &stream, 5).await;
        if read(&store, &stream).await.len() > 5_000 {
            return;
        }
    }
}

#[tokio::test]
async fn created_at_does_not_fall_when_the_clock_does() {
    let (_folder, file) = folder();
    let (store, stream) = (open(&file).await, lamp());
    let mut db = stranger(&file).await;
    sql(
        &mut db,
        "UPDATE log_head SET last_created_at = '2999-01-01T00:00:00.000001Z'",
    )
    .await
    .unwrap();
    add(&store, &stream, 2).await;
    for event in read(&store, &stream).await {
        assert_eq!(
            event.created_at.to_rfc3339(),
            "2999-01-01T00:00:00.000001+00:00"
        );
    }
}
