//! Who runs what: nobody waits for a batch that is open, and the database's clock decides who is alive.

use std::{error::Error, fmt, time::Duration};

use es_core::{
    Batch, CheckpointError, Claim, DeadLetter, EventStore, ExpectedVersion, Failure, FailureKind,
    Filter, Json, LetterState, Letters, Lifecycle, NewEvent, Node, Position, Progress,
    ProjectionId, ProjectionStore, Shard, Standing, StreamId,
};
use es_sqlx::{
    PgStore,
    postgres::{PgBatch, PgOptions},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::{
    node,
    postgres_server::{fresh_schema, fresh_store, url},
};

/// Far longer than anything here takes that does not wait.
const SOON: Duration = Duration::from_secs(3);

fn named(name: &str) -> ProjectionId {
    ProjectionId::new(name, 1)
}

async fn acquire(store: &PgStore, shard: &Shard, node: Uuid) -> Result<Claim, CheckpointError> {
    let acquiring = store.acquire(shard, &["switched"], node);
    timeout(SOON, acquiring).await.expect("it does not wait")
}

async fn begin(store: &PgStore, claim: &Claim) -> Result<PgBatch, CheckpointError> {
    let stay = Progress {
        position: claim.position,
        anchor: None,
    };
    store.begin_batch(claim, &stay).await
}

async fn append(store: &PgStore) -> Position {
    let stream = StreamId::new("lamp", Uuid::now_v7());
    let event = [NewEvent::new("switched", Json::parse("{}").unwrap())];
    let appended = store.append(&stream, ExpectedVersion::NoStream, &event);
    appended.await.unwrap().position
}

/// All connections for read models are in use, and all rows are locked. Seen to fail when a beat goes over
/// the connections for read models.
#[tokio::test]
async fn a_beat_does_not_wait_for_open_batches() {
    let options = PgOptions::new(url()).schema(fresh_schema());
    let store = options.max_connections(2).connect().await.unwrap();
    store.migrate().await.unwrap();
    let id = node::start(&store).await;
    let mut batches = Vec::new();
    for name in ["lamps", "bulbs"] {
        let shard = node::register(&store, &named(name), &["switched"]).await;
        let claim = acquire(&store, &shard, id).await.unwrap();
        batches.push(begin(&store, &claim).await.unwrap());
    }
    let me = Node {
        id,
        name: "me".to_owned(),
        runs: vec![named("lamps"), named("bulbs")],
    };

    let beat = store.beat(&me, Duration::from_secs(60));
    let fleet = timeout(SOON, beat)
        .await
        .expect("it does not wait")
        .unwrap();

    let [(found, left)] = fleet.nodes.as_slice() else {
        panic!("{fleet:?}");
    };
    assert_eq!(*found, me);
    assert!(*left > Duration::from_secs(50) && *left <= Duration::from_secs(60));
    let owners: Vec<_> = fleet.standings.iter().map(|found| found.owner).collect();
    assert_eq!(owners, [Some(id), Some(id)]);
}

/// The node is gone, but its transaction is open. Seen to fail without SKIP LOCKED: the other one waits.
#[tokio::test]
async fn a_shard_with_an_open_batch_is_held_until_its_connection_is_gone() {
    let store = fresh_store().await;
    let shard = node::register(&store, &named("lamps"), &["switched"]).await;
    let (gone, other) = (node::start(&store).await, node::start(&store).await);
    let claim = acquire(&store, &shard, gone).await.unwrap();
    let mut batch = begin(&store, &claim).await.unwrap();
    store.leave(gone).await.unwrap();
    let standings = store.standings(None).await.unwrap();
    assert_eq!(standings[0].owner, None, "its node is not alive");

    let held = acquire(&store, &shard, other).await;
    assert!(
        matches!(held, Err(CheckpointError::Held { owner, .. }) if owner == gone),
        "{held:?}"
    );

    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(batch.connection())
        .await
        .unwrap();
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(pid)
        .execute(store.pool())
        .await
        .unwrap();
    let taking = async {
        loop {
            match acquire(&store, &shard, other).await {
                Ok(claim) => return claim,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let taken = timeout(SOON, taking).await.expect("the row is free");
    assert_eq!(taken.epoch, claim.epoch + 1);
    assert!(batch.commit().await.is_err());
}

/// The caller who gave up has not given the row back yet: its next try finds where the checkpoint is by
/// then. Seen to fail when the row of one's own batch is passed by as well.
#[tokio::test]
async fn a_node_waits_for_its_own_batch() {
    let store = fresh_store().await;
    let shard = node::register(&store, &named("lamps"), &["switched"]).await;
    let position = append(&store).await;
    let id = node::start(&store).await;
    let claim = acquire(&store, &shard, id).await.unwrap();
    let to = Progress {
        position,
        anchor: None,
    };
    let batch = store.begin_batch(&claim, &to).await.unwrap();

    let committing = async {
        sleep(Duration::from_millis(30)).await;
        batch.commit().await
    };
    let taking = async {
        loop {
            match acquire(&store, &shard, id).await {
                // It has little patience.
                Err(CheckpointError::Backend {
                    transient: true, ..
                }) => {}
                result => return result,
            }
        }
    };
    let (committed, again) = tokio::join!(committing, taking);

    committed.unwrap();
    let again = again.unwrap();
    assert_eq!((again.position, again.epoch), (position, claim.epoch + 1));
}

/// Seen to fail when the owner's node is not asked for.
#[tokio::test]
async fn a_node_that_stops_beating_loses_its_shards() {
    let store = fresh_store().await;
    let shard = node::register(&store, &named("lamps"), &["switched"]).await;
    let asleep = Node {
        id: Uuid::now_v7(),
        name: "asleep".to_owned(),
        runs: Vec::new(),
    };
    let ttl = Duration::from_millis(500);
    let begun = Instant::now();
    store.beat(&asleep, ttl).await.unwrap();
    let old = acquire(&store, &shard, asleep.id).await.unwrap();
    let other = node::start(&store).await;
    let mut was_held = false;

    let taking = async {
        loop {
            match acquire(&store, &shard, other).await {
                Ok(claim) => return claim,
                Err(CheckpointError::Held { owner, .. }) => assert_eq!(owner, asleep.id),
                Err(error) => panic!("{error:?}"),
            }
            was_held = true;
            sleep(Duration::from_millis(10)).await;
        }
    };
    let new = timeout(SOON, taking).await.expect("the node is not alive");

    assert!(was_held);
    assert!(begun.elapsed() >= ttl, "{:?}", begun.elapsed());
    assert_eq!(new.epoch, old.epoch + 1);
    let fenced = begin(&store, &old).await;
    assert!(
        matches!(fenced, Err(CheckpointError::Fenced { .. })),
        "{fenced:?}"
    );
    let late = acquire(&store, &shard, asleep.id).await;
    assert!(
        matches!(late, Err(CheckpointError::NotAlive { .. })),
        "{late:?}"
    );
    // It wakes up, and finds the other one at work.
    store.beat(&asleep, ttl).await.unwrap();
    let late = acquire(&store, &shard, asleep.id).await;
    assert!(
        matches!(late, Err(CheckpointError::Held { owner, .. }) if owner == other),
        "{late:?}"
    );
}

/// There is no row yet that could be locked. Seen to fail without the lock on the name: both find nothing.
#[tokio::test]
async fn a_new_name_is_created_by_one_at_a_time() {
    let store = fresh_store().await;
    let (mut first, there) = store.begin_change(&named("lamps")).await.unwrap();
    assert_eq!(there, []);
    let second = {
        let store = store.clone();
        tokio::spawn(async move { store.begin_change(&named("lamps")).await })
    };
    // Another name is nobody's business.
    let (another, _) = timeout(SOON, store.begin_change(&named("bulbs")))
        .await
        .expect("it does not wait")
        .unwrap();
    another.rollback().await.unwrap();
    assert!(!second.is_finished());

    let standing = Standing::new(Shard::new(named("lamps"), 0), 1, &["switched"]);
    first.put_standings(&[standing]).await.unwrap();
    first.commit().await.unwrap();

    let (_, there) = second.await.unwrap().unwrap();
    assert_eq!(there.len(), 1, "{there:?}");
}

/// Seen to fail when the newest version of a name becomes active though it is retired.
#[tokio::test]
async fn an_older_database_keeps_its_checkpoints() {
    let schema = fresh_schema();
    let mut db = PgConnection::connect(&url()).await.unwrap();
    let script = [
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.es_migrations (version INT PRIMARY KEY,
             name TEXT NOT NULL DEFAULT '', applied_at TIMESTAMPTZ NOT NULL DEFAULT now());
         INSERT INTO {schema}.es_migrations (version) VALUES (1), (2);",
        include_str!("../../migrations/postgres/0001_events.sql"),
        include_str!("../../migrations/postgres/0002_erasure.sql"),
        "INSERT INTO {schema}.projection_shards (name, version, event_types, position,
             anchor_position, anchor_event_id, epoch, owner, lease_until, status) VALUES
         ('bulbs', 1, '{a}', 10, 9, '00000000-0000-0000-0000-000000000009', 3,
             gen_random_uuid(), 'infinity', 'running'),
         ('bulbs', 2, '{a,b}', 20, NULL, NULL, 1, NULL, 'epoch', 'running'),
         ('lamps', 1, '{a}', 30, NULL, NULL, 0, NULL, 'epoch', 'inline'),
         ('lamps', 2, '{a}', 40, NULL, NULL, 0, NULL, 'epoch', 'retired');",
    ]
    .concat()
    .replace("{schema}", &schema);
    db.execute(AssertSqlSafe(script)).await.unwrap();

    let store = PgOptions::new(url()).schema(&schema).connect();
    let store = store.await.unwrap();
    store.migrate().await.unwrap();

    let standings = store.standings(None).await.unwrap();
    let found: Vec<_> = standings
        .iter()
        .map(|found| {
            let ProjectionId { name, version } = &found.shard.projection;
            let (position, lifecycle) = (found.position.get(), found.lifecycle);
            (name.as_str(), *version, position, lifecycle, found.active)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("bulbs", 1, 10, Lifecycle::Running, false),
            ("bulbs", 2, 20, Lifecycle::Running, true),
            // It stands where the log ends.
            ("lamps", 1, 0, Lifecycle::Inline, true),
            ("lamps", 2, 40, Lifecycle::Retired, false),
        ]
    );
    let [first, second, ..] = standings.as_slice() else {
        panic!("{standings:?}");
    };
    assert_eq!(first.anchor, Some((Position::new(9), Uuid::from_u128(9))));
    assert_eq!((first.owner, first.epoch), (None, 4));
    assert_eq!(second.event_types, ["a", "b"]);
    assert_eq!((second.before, second.promote), (Lifecycle::Running, true));
}

/// Letters of several projections share a position. Seen to fail when a page ends after `limit` in any case.
#[tokio::test]
async fn no_letter_is_lost_between_pages() {
    let store = fresh_store().await;
    append(&store).await;
    append(&store).await;
    let page = store.read_log(&Filter::All, Position::START, 10).await;
    let events = page.unwrap().events;
    for name in ["lamps", "bulbs"] {
        // Not every text is good enough for JSONB.
        let failure = Failure::new(FailureKind::Handler, "no \0 bulb");
        let letters: Vec<_> = events
            .iter()
            .map(|event| {
                let parked = LetterState::Parked;
                DeadLetter::new(named(name), event, parked, failure.clone(), 1)
            })
            .collect();
        let (mut change, _) = store.begin_change(&named(name)).await.unwrap();
        change.put_letters(&letters).await.unwrap();
        change.commit().await.unwrap();
    }
    let mut letters = Letters::default();
    let mut found = Vec::new();

    loop {
        let page = store.dead_letters(&letters, 1).await.unwrap();
        let Some(last) = page.last() else { break };
        letters = letters.after(last.position);
        found.extend(page.into_iter().map(|letter| {
            assert_eq!(letter.failure.message, "no \0 bulb");
            (letter.position.get(), letter.projection.name)
        }));
    }

    let expected = [(1, "bulbs"), (1, "lamps"), (2, "bulbs"), (2, "lamps")];
    assert_eq!(found, expected.map(|(at, name)| (at, name.to_owned())));
}

/// What a handler may make of the driver's error.
#[derive(Debug)]
struct Wrapped(sqlx::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lamp could not be counted")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Two handlers lock each other's rows. Seen to fail when only the error itself is looked at, not its
/// causes.
#[tokio::test]
async fn a_deadlock_between_handlers_is_transient() {
    let store = fresh_store().await;
    let id = node::start(&store).await;
    let table =
        "CREATE TABLE counts (id INT PRIMARY KEY, n INT); INSERT INTO counts VALUES (1, 0), (2, 0)";
    store.pool().execute(table).await.unwrap();
    let mut batches = Vec::new();
    for (name, own) in [("lamps", 1), ("bulbs", 2)] {
        let shard = node::register(&store, &named(name), &["switched"]).await;
        let claim = acquire(&store, &shard, id).await.unwrap();
        let mut batch = begin(&store, &claim).await.unwrap();
        count(&mut batch, own).await.unwrap();
        batches.push(batch);
    }
    let (bulbs, lamps) = (&mut batches.pop().unwrap(), &mut batches.pop().unwrap());

    // The one that goes on is held up by the victim until that ends.
    let error = tokio::select! {
        Err(error) = count(lamps, 2) => error,
        Err(error) = count(bulbs, 1) => error,
    };

    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("40P01"));
    assert!(store.is_transient(&Wrapped(error)));
    let nonsense = store.pool().execute("SELECT FROM nowhere").await;
    assert!(!store.is_transient(&Wrapped(nonsense.unwrap_err())));
}

async fn count(batch: &mut PgBatch, id: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE counts SET n = n + 1 WHERE id = $1")
        .bind(id)
        .execute(batch.connection())
        .await
        .map(|_| ())
}
