//! Projections inside the append: never behind, never half there, never left out.

use es_core::{
    Append, AppendError, Batch, BoxError, Chain, CheckpointError, Event, EventStore,
    ExpectedVersion, Lifecycle, Marks, NewEvent, Position, Project, Projection, ProjectionId,
    ProjectionStore, Recorded, Shard, Standing, StreamErased, StreamId,
};
use es_sqlx::{OpenError, PgStore, postgres::PgOptions};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::{
    node,
    postgres_server::{fresh_schema, url},
};

#[derive(Event, Serialize, Deserialize, Debug)]
struct Deposited {
    cents: i64,
}

#[derive(Projection)]
#[projection(name = "balances", version = 1, events(Deposited, StreamErased))]
struct Balances;

#[derive(Projection)]
#[projection(
    name = "balances",
    version = 2,
    events(Deposited, StreamErased),
    enum(Second)
)]
struct BalancesAgain;

#[derive(Projection)]
#[projection(name = "balances", version = 1, events(Deposited), enum(Less))]
struct BalancesOfLess;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS balances (
    account UUID PRIMARY KEY, cents BIGINT NOT NULL CHECK (cents < 1000), position BIGINT NOT NULL)";
const ADD: &str = "INSERT INTO balances VALUES ($1, $2, $3)
    ON CONFLICT (account) DO UPDATE SET cents = balances.cents + $2, position = $3";

impl Project<PgConnection> for Balances {
    async fn set_up(&self, db: &mut PgConnection) -> Result<(), BoxError> {
        db.execute(CREATE).await?;
        Ok(())
    }

    async fn project(
        &self,
        db: &mut PgConnection,
        events: &[Recorded<BalancesEvent>],
    ) -> Result<(), BoxError> {
        for Recorded { event, record } in events {
            match event {
                BalancesEvent::Deposited(deposited) => {
                    sqlx::query(ADD)
                        .bind(record.aggregate_id)
                        .bind(deposited.cents)
                        .bind(i64::try_from(record.position.get())?)
                        .execute(&mut *db)
                        .await?
                }
                BalancesEvent::StreamErased(_) => {
                    sqlx::query("DELETE FROM balances WHERE account = $1")
                        .bind(record.aggregate_id)
                        .execute(&mut *db)
                        .await?
                }
            };
        }
        Ok(())
    }
}

impl Project<PgConnection> for BalancesAgain {
    async fn project(&self, _: &mut PgConnection, _: &[Recorded<Second>]) -> Result<(), BoxError> {
        Ok(())
    }
}

impl Project<PgConnection> for BalancesOfLess {
    async fn project(&self, _: &mut PgConnection, _: &[Recorded<Less>]) -> Result<(), BoxError> {
        Ok(())
    }
}

fn account() -> StreamId {
    StreamId::new("account", Uuid::now_v7())
}

fn deposit(cents: i64) -> NewEvent {
    NewEvent::encode(&Deposited { cents }).unwrap()
}

fn options(schema: &str) -> PgOptions {
    PgOptions::new(url()).schema(schema)
}

async fn declared(schema: &str) -> PgStore {
    let store = options(schema).inline(Balances).connect().await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn balance(store: &PgStore, account: &StreamId) -> Option<(i64, i64)> {
    sqlx::query_as("SELECT cents, position FROM balances WHERE account = $1")
        .bind(account.aggregate_id)
        .fetch_optional(store.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_read_model_is_there_when_the_append_is() {
    let store = declared(&fresh_schema()).await;
    let (one, two) = (account(), account());

    let appended = store
        .append(&one, ExpectedVersion::NoStream, &[deposit(5), deposit(7)])
        .await
        .unwrap();
    let position = i64::try_from(appended.position.get()).unwrap();
    assert_eq!(balance(&store, &one).await, Some((12, position)));

    let both = [&one, &two]
        .map(|stream| Append::new(stream.clone(), ExpectedVersion::Any, vec![deposit(1)]));
    store.append_all(&both).await.unwrap();
    assert_eq!(balance(&store, &one).await.unwrap().0, 13);
    assert_eq!(balance(&store, &two).await.unwrap().0, 1);

    let mut transaction = store.begin().await.unwrap();
    transaction
        .append(&two, ExpectedVersion::StreamExists, &[deposit(2)])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(balance(&store, &two).await.unwrap().0, 3);

    store
        .erase(&two, &StreamErased::new("asked", "clerk"))
        .await
        .unwrap();
    assert_eq!(balance(&store, &two).await, None);
}

/// The same append again (its answer was lost) is not projected again. Seen to fail without asking whether
/// the append is new.
#[tokio::test]
async fn a_repeated_append_takes_effect_once() {
    let store = declared(&fresh_schema()).await;
    let stream = account();
    let events = [deposit(5)];
    for _ in 0..2 {
        store
            .append(&stream, ExpectedVersion::NoStream, &events)
            .await
            .unwrap();
    }
    assert_eq!(balance(&store, &stream).await.unwrap().0, 5);
}

#[tokio::test]
async fn an_append_that_the_projection_refuses_is_not_recorded() {
    let store = declared(&fresh_schema()).await;
    let stream = account();
    let error = store
        .append(&stream, ExpectedVersion::NoStream, &[deposit(5_000)])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, AppendError::Projection { projection, transient: false, .. } if projection.name == "balances"),
        "{error:?}"
    );
    assert_eq!(balance(&store, &stream).await, None);
    assert_eq!(store.settled().await.unwrap().get(), 0);
    store
        .append(&stream, ExpectedVersion::NoStream, &[deposit(5)])
        .await
        .unwrap();
}

/// Accounts are locked in different orders: deadlocks are begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_lose_nothing() {
    let store = declared(&fresh_schema()).await;
    let accounts: Vec<_> = (0..3).map(|_| account()).collect();
    let write = async |forward: bool| {
        for _ in 0..20 {
            let mut order: Vec<_> = accounts.iter().collect();
            if !forward {
                order.reverse();
            }
            let appends: Vec<_> = order
                .into_iter()
                .map(|stream| Append::new(stream.clone(), ExpectedVersion::Any, vec![deposit(1)]))
                .collect();
            loop {
                match store.append_all(&appends).await {
                    Ok(_) => break,
                    Err(error) if error.is_retryable() => {}
                    Err(error) => panic!("{}", Chain(&error)),
                }
            }
        }
    };
    tokio::join!(write(true), write(false), write(true), write(false));
    for stream in &accounts {
        assert_eq!(balance(&store, stream).await.unwrap().0, 80);
    }
}

#[tokio::test]
async fn a_log_with_events_is_caught_up_with() {
    let schema = fresh_schema();
    let plain = options(&schema).connect().await.unwrap();
    plain.migrate().await.unwrap();
    let stream = account();
    let many: Vec<_> = (0..100).map(|_| deposit(1)).collect();
    plain
        .append(&stream, ExpectedVersion::NoStream, &many)
        .await
        .unwrap();

    let store = declared(&schema).await;
    assert_eq!(balance(&store, &stream).await.unwrap().0, 100);
    // Twice is once.
    store.migrate().await.unwrap();
    assert_eq!(balance(&store, &stream).await.unwrap().0, 100);
}

/// Whoever would leave the projection out is refused, until it is retired.
#[tokio::test]
async fn a_program_that_does_not_declare_it_cannot_append() {
    let schema = fresh_schema();
    let store = declared(&schema).await;
    store
        .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();
    let ignorant = options(&schema).connect().await.unwrap();

    let error = ignorant
        .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`balances v1`"), "{error}");

    store.retire_inline("balances").await.unwrap();
    ignorant
        .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();
    let stream = account();
    store
        .append(&stream, ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();
    assert_eq!(balance(&store, &stream).await, None, "it has been retired");
}

#[tokio::test]
async fn a_new_version_takes_the_place_of_the_old_one() {
    let schema = fresh_schema();
    let old = declared(&schema).await;
    old.append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();

    let new = options(&schema)
        .inline(BalancesAgain)
        .connect()
        .await
        .unwrap();
    let early = new
        .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap_err();
    assert!(early.to_string().contains("balances v1"), "{early}");
    new.migrate().await.unwrap();
    new.append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();

    let fenced = old
        .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap_err();
    assert!(fenced.to_string().contains("`balances v2`"), "{fenced}");
}

#[tokio::test]
async fn other_event_types_need_another_version() {
    let schema = fresh_schema();
    declared(&schema).await;
    let other = options(&schema)
        .inline(BalancesOfLess)
        .connect()
        .await
        .unwrap();
    let error = other.migrate().await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Inline { problem, .. } if problem.contains("raise its version")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_daemon_cannot_run_it_as_well() {
    let store = declared(&fresh_schema()).await;
    let projection = ProjectionId::of::<Balances>();
    let types = ["deposited", StreamErased::EVENT_TYPE];
    let shard = Shard::new(projection.clone(), 0);
    let node = node::start(&store).await;
    let error = store.acquire(&shard, &types, node).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Inline { .. }), "{error:?}");

    store
        .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();
    let settled = store.settled().await.unwrap();
    let (change, standings) = store.begin_change(&projection).await.unwrap();
    change.rollback().await.unwrap();
    assert_eq!(standings, store.standings(None).await.unwrap());
    assert_eq!(standings[0].position, settled);
    assert!(standings[0].active);
}

/// The program ran already when another one declared the projection. Seen to fail when a store asks only
/// once which projections there are.
#[tokio::test]
async fn a_program_that_runs_already_is_refused_too() {
    let schema = fresh_schema();
    let running = options(&schema).connect().await.unwrap();
    running.migrate().await.unwrap();
    let stream = account();
    running
        .append(&stream, ExpectedVersion::NoStream, &[deposit(1)])
        .await
        .unwrap();

    let store = declared(&schema).await;
    for _ in 0..2 {
        let left_out = running
            .append(&stream, ExpectedVersion::Any, &[deposit(1)])
            .await
            .unwrap_err();
        assert!(left_out.to_string().contains("`balances v1`"), "{left_out}");
    }
    assert_eq!(balance(&store, &stream).await.unwrap().0, 1);
}

/// Seen to fail when retiring does not write down how far the projection has come.
#[tokio::test]
async fn a_retired_projection_goes_on_where_it_stopped() {
    let schema = fresh_schema();
    let stream = account();
    let store = declared(&schema).await;
    let add = async |store: &PgStore| {
        store
            .append(&stream, ExpectedVersion::Any, &[deposit(1)])
            .await
            .unwrap()
    };
    add(&store).await;
    assert!(store.retire_inline("balances").await.unwrap());
    assert!(!store.retire_inline("balances").await.unwrap());
    let last = add(&store).await;
    assert_eq!(balance(&store, &stream).await.unwrap().0, 1);

    let again = declared(&schema).await;
    assert_eq!(balance(&again, &stream).await.unwrap().0, 2);

    // A daemon may go on with it as well.
    again.retire_inline("balances").await.unwrap();
    let projection = ProjectionId::of::<Balances>();
    let (mut change, mut standings) = again.begin_change(&projection).await.unwrap();
    assert_eq!(standings[0].lifecycle, Lifecycle::Retired);
    standings[0].lifecycle = Lifecycle::Running;
    change.put_standings(&standings).await.unwrap();
    change.commit().await.unwrap();
    let types = ["deposited", StreamErased::EVENT_TYPE];
    let node = node::start(&again).await;
    let shard = &standings[0].shard;
    let claim = again.acquire(shard, &types, node).await.unwrap();
    assert_eq!(claim.position, last.position);
}

/// A projection that a daemon ran, and that was divided otherwise before: what was applied beyond its
/// position is not applied again, and the older version is no longer the one that is served. Seen to fail
/// when `catch_up` does not ask the marks.
#[tokio::test]
async fn it_goes_on_where_a_daemon_stopped() {
    let schema = fresh_schema();
    let plain = options(&schema).connect().await.unwrap();
    plain.migrate().await.unwrap();
    let stream = account();
    plain
        .append(
            &stream,
            ExpectedVersion::NoStream,
            &[deposit(1), deposit(1), deposit(1)],
        )
        .await
        .unwrap();
    let projection = ProjectionId::of::<Balances>();
    let types = ["deposited", StreamErased::EVENT_TYPE];
    let stands = |version, shards| {
        let id = ProjectionId::new(&projection.name, version);
        let mut standing = Standing::new(Shard::new(id, 0), shards, &types);
        standing.position = Position::new(1);
        standing.applied = Marks::new([Position::new(2)]);
        standing
    };
    let put = async |standing: Standing| {
        let (mut change, _) = plain.begin_change(&projection).await.unwrap();
        change.put_standings(&[standing]).await.unwrap();
        change.commit().await.unwrap();
    };
    put(stands(2, 1)).await;
    put(stands(1, 2)).await;
    let store = options(&schema).inline(Balances).connect().await.unwrap();
    let divided = store.migrate().await.unwrap_err();
    assert!(divided.to_string().contains("2 shards"), "{divided}");

    put(stands(1, 1)).await;
    store.migrate().await.unwrap();

    assert_eq!(balance(&store, &stream).await, Some((1, 3)));
    let standings = store.standings(None).await.unwrap();
    let active: Vec<_> = standings.iter().map(|standing| standing.active).collect();
    assert_eq!(active, [true, false]);
    assert_eq!(standings[0].lifecycle, Lifecycle::Inline);
    assert_eq!(standings[0].applied, Marks::default());
}

/// Writers that do not know of it are at work while a projection is set up: no event is left out, whichever
/// side of it they come down on. Seen to fail when it is set up without stopping the writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_out_while_it_is_set_up() {
    let schema = fresh_schema();
    let ignorant = options(&schema).connect().await.unwrap();
    ignorant.migrate().await.unwrap();
    let write = async |store: PgStore| {
        let mut written = 0;
        // Until it is refused.
        while store
            .append(&account(), ExpectedVersion::NoStream, &[deposit(1)])
            .await
            .is_ok()
        {
            written += 1;
        }
        written
    };
    let writers: Vec<_> = (0..8).map(|_| write(ignorant.clone())).collect();
    let writing = futures::future::join_all(writers);
    let (written, store) = tokio::join!(writing, async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        declared(&schema).await
    });

    let written: i64 = written.iter().sum();
    let (projected, recorded): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT sum(cents)::bigint FROM balances), (SELECT count(*) FROM events)",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert!(written > 8, "{written}");
    assert_eq!((projected, recorded), (written, written));
}
