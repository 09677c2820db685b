//! Connections that die around a commit.

use es_core::{
    Batch, EventStore, ExpectedVersion, Filter, Json, NewEvent, Position, Progress, ProjectionId,
    ProjectionStore, Version,
};
use es_sqlx::postgres::PgOptions;
use sqlx::Executor;
use uuid::Uuid;

use crate::{
    oracle::{Tallies, Tally, add, finish, follow, lamp},
    postgres_server::fresh_store,
    proxy::{Cut, Proxy},
    torture::node,
    tricks::fold,
};

const CUTS: [Cut; 3] = [Cut::BeforeRequest, Cut::AfterRequest, Cut::BeforeAnswer];

/// Who gets an error repeats with the same ids: the old position if the append had happened, and one
/// copy in any case. Seen to fail when ids that are there are not recognised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_cut_at_commit() {
    let (proxy, direct) = (Proxy::start(), fresh_store().await);
    let store = PgOptions::new(proxy.url()).schema(direct.schema());
    let store = store.connect().await.unwrap();
    for round in 0..30 {
        let cut = CUTS[round % 3];
        let stream = lamp();
        add(&store, &stream, 1).await;
        let event = || NewEvent::new("cut_here", Json::parse("{}").unwrap());
        let events = [event(), event()];
        let mut first = None;
        // By turns the writer knows the version and does not care.
        let expected = match round % 2 {
            0 => ExpectedVersion::Exact(Version::new(1)),
            _ => ExpectedVersion::Any,
        };
        // A store may repeat the append by itself: it is cut again.
        proxy.arm(cut, b"cut_here", 1 + u32::from(round % 4 == 0));
        let appended = loop {
            let answer = store.append(&stream, expected, &events).await;
            let there = direct.read_stream(&stream, Version::new(1), 10).await;
            let there = there.unwrap();
            match (cut, answer) {
                (_, Ok(appended)) => break appended,
                (_, Err(error)) if !error.is_retryable() => panic!("{error:?}"),
                (Cut::BeforeRequest, _) => assert_eq!(there, []),
                (Cut::AfterRequest, _) => assert!(matches!(there.len(), 0 | 2)),
                (Cut::BeforeAnswer, _) => assert_eq!(there.len(), 2),
            }
            first = first.or(there.last().map(|event| event.position));
        };
        assert_eq!(proxy.left(), 0);
        assert_eq!(appended.version, Version::new(3));
        assert_eq!(first.unwrap_or(appended.position), appended.position);
        let stored = direct.read_stream(&stream, Version::new(1), 10).await;
        let stored = stored.unwrap();
        assert_eq!((stored.len(), stored[1].position), (2, appended.position));
    }
    finish(&direct).await;
    let model = follow(&store, 10, |_| ()).await;
    assert_eq!(model.tallies, fold(&direct).await);
    assert_eq!(model.tallies.len(), 31);
    assert_eq!(model.tallies.values().map(|t| t.count).sum::<i64>(), 91);
}

/// A batch of a read model: the stored checkpoint tells whether it counts. Seen to fail when the batch
/// does not move the checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_cut_at_commit_of_a_batch() {
    let (proxy, direct) = (Proxy::start(), fresh_store().await);
    let store = PgOptions::new(proxy.url()).schema(direct.schema());
    let store = store.connect().await.unwrap();
    let lamps = ProjectionId::new("lamps", 1);
    let shard = node::register(&direct, &lamps, &["switched"]).await;
    let owner = node::start(&direct).await;
    let (mut set_up, _) = direct.begin_change(&lamps).await.unwrap();
    let table = "CREATE TABLE lamps (id uuid PRIMARY KEY, version bigint, count bigint)";
    set_up.connection().execute(table).await.unwrap();
    set_up.commit().await.unwrap();
    let streams = [lamp(), lamp(), lamp()];

    for round in 0..15 {
        let cut = CUTS[round % 3];
        for stream in &streams {
            add(&direct, stream, 2).await;
        }
        let mut attempts = 0;
        loop {
            let claim = match direct.acquire(&shard, &["switched"], owner).await {
                Ok(claim) => claim,
                // The server has not yet noticed that the batch before is gone.
                Err(error) if error.is_retryable() => continue,
                Err(error) => panic!("{error:?}"),
            };
            let page = direct.read_log(&Filter::All, claim.position, 100).await;
            let page = page.unwrap();
            let Some(last) = page.events.last() else {
                break;
            };
            let to = Progress {
                position: page.covered,
                anchor: Some((last.position, last.event_id)),
            };
            let mut batch = store.begin_batch(&claim, &to).await.unwrap();
            for event in &page.events {
                // The oracle in SQL: only the next version is taken.
                let applied = sqlx::query(
                    "INSERT INTO lamps AS l VALUES ($1, 1, 1) ON CONFLICT (id) DO UPDATE
                     SET version = $2, count = l.count + 1 WHERE l.version = $2 - 1",
                )
                .bind(event.aggregate_id)
                .bind(i64::from(event.event_version.get()))
                .execute(batch.connection())
                .await
                .unwrap();
                assert_eq!(applied.rows_affected(), 1, "twice or out of order");
            }
            attempts += 1;
            if attempts > 1 {
                batch.commit().await.unwrap();
                continue;
            }
            proxy.arm(cut, b"COMMIT\0", 1);
            let error = batch.commit().await.unwrap_err();
            assert!(error.is_retryable() && proxy.left() == 0, "{error:?}");
        }
        match cut {
            Cut::BeforeRequest => assert_eq!(attempts, 2),
            Cut::AfterRequest => assert!(attempts <= 2),
            Cut::BeforeAnswer => assert_eq!(attempts, 1, "it had been committed"),
        }
    }
    let stands = direct.checkpoint(&lamps).await.unwrap().unwrap();
    assert_eq!(stands, Position::new(90));
    let model: Vec<(Uuid, i64, i64)> = sqlx::query_as("SELECT * FROM lamps")
        .fetch_all(direct.pool())
        .await
        .unwrap();
    let model: Tallies = model
        .into_iter()
        .map(|(id, version, count)| (id, Tally { version, count }))
        .collect();
    assert_eq!(model, fold(&direct).await);
}
