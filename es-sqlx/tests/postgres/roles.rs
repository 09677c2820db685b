//! The roles of `roles/postgres.sql` can do what they are for, and nothing else.

use es_core::{
    Batch, DeadLetter, EventStore, ExpectedVersion, Failure, FailureKind, Filter, Json,
    LetterState, LogPage, NewEvent, Position, Progress, ProjectionId, ProjectionStore, Shard,
    Snapshot, SnapshotStore, Standing, StreamErased, StreamId, Version,
};
use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{AssertSqlSafe, Executor, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::{
    node,
    postgres_server::{fresh_store, url},
};

const ROLES: [&str; 4] = ["reader", "writer", "projector", "eraser"];

/// A store as its owner sees it, and as each role does.
struct World {
    owner: PgStore,
    stores: Vec<PgStore>,
}

impl World {
    async fn new() -> Self {
        let owner = fresh_store().await;
        let schema = owner.schema().to_owned();
        let mut grants = include_str!("../../roles/postgres.sql").replace("{schema}", &schema);
        for role in ROLES {
            let name = format!("{schema}_{role}");
            grants = grants.replace(&format!("{{{role}}}"), &name);
            grants.insert_str(0, &format!("CREATE ROLE {name};\n"));
        }
        owner.pool().execute(AssertSqlSafe(grants)).await.unwrap();
        let mut stores = Vec::new();
        for role in ROLES {
            stores.push(open(&schema, role).await);
        }
        Self { owner, stores }
    }

    async fn done(self) {
        for store in &self.stores {
            store.close().await;
        }
        let schema = self.owner.schema();
        for role in ROLES {
            let name = format!("{schema}_{role}");
            let drop = format!("DROP OWNED BY {name} CASCADE; DROP ROLE {name}");
            self.owner
                .pool()
                .execute(AssertSqlSafe(drop))
                .await
                .unwrap();
        }
    }
}

/// A store on connections that have put on the role.
async fn open(schema: &str, role: &str) -> PgStore {
    let become_role = format!("SET ROLE {schema}_{role}");
    let pool = PgPoolOptions::new()
        .max_connections(3)
        .after_connect(move |connection, _| {
            let become_role = become_role.clone();
            Box::pin(async move {
                connection.execute(AssertSqlSafe(become_role)).await?;
                Ok(())
            })
        })
        .connect(&url())
        .await
        .unwrap();
    PgOptions::from_pool(pool)
        .schema(schema)
        .connect()
        .await
        .unwrap()
}

fn lamp() -> StreamId {
    StreamId::new("lamp", Uuid::now_v7())
}

fn event() -> NewEvent {
    NewEvent::new("switched", Json::parse("{}").unwrap())
}

fn snapshot(stream: &StreamId) -> Snapshot {
    Snapshot {
        snapshot_id: Uuid::now_v7(),
        aggregate_id: stream.aggregate_id,
        aggregate_type: stream.aggregate_type.clone(),
        version: Version::new(1),
        created_at: chrono::Utc::now(),
        state: Json::parse("{}").unwrap(),
        fingerprint: None,
    }
}

fn letter(page: &LogPage) -> DeadLetter {
    let projection = ProjectionId::new("lamps", 1);
    let failure = Failure::new(FailureKind::Handler, "no bulb");
    DeadLetter::new(projection, &page.events[0], LetterState::Parked, failure, 1)
}

async fn project(store: &PgStore) -> Result<(), es_core::CheckpointError> {
    let projection = ProjectionId::new("lamps", 1);
    let (mut set_up, there) = store.begin_change(&projection).await?;
    set_up
        .connection()
        .execute("CREATE TABLE IF NOT EXISTS lamps (id UUID)")
        .await
        .map_err(|source| es_core::CheckpointError::Backend {
            projection: projection.clone(),
            action: "set up",
            transient: false,
            source: source.into(),
        })?;
    let shards: Vec<_> = there.into_iter().map(|there| there.shard).collect();
    set_up.remove_standings(&shards).await?;
    let shard = Shard::new(projection, 0);
    let standing = Standing::new(shard.clone(), 1, &["switched"]);
    set_up.put_standings(&[standing]).await?;
    set_up.commit().await?;
    let node = node::start(store).await;
    let claim = store.acquire(&shard, &["switched"], node).await?;
    let to = Progress {
        position: Position::new(1),
        anchor: None,
    };
    let mut batch = store.begin_batch(&claim, &to).await?;
    let letter = letter(
        &store
            .read_log(&Filter::All, Position::START, 1)
            .await
            .unwrap(),
    );
    batch.put_letters(&[letter]).await?;
    batch.remove_letters(&claim.shard.projection, None).await?;
    batch.commit().await?;
    store.release(&claim).await?;
    store.leave(node).await.unwrap();
    Ok(())
}

/// What each role can do: read, append, save a snapshot, project, erase.
#[tokio::test]
async fn roles_hold_what_they_need_and_no_more() {
    let world = World::new().await;
    let wanted = [
        [true, false, false, false, false],
        [true, true, true, false, false],
        [true, false, false, true, false],
        [true, true, false, false, true],
    ];
    for ((store, wanted), role) in world.stores.iter().zip(wanted).zip(ROLES) {
        let stream = lamp();
        world
            .owner
            .append(&stream, ExpectedVersion::NoStream, &[event()])
            .await
            .unwrap();
        let log = store.read_log(&Filter::All, Position::START, 10).await;
        let append = store
            .append(&stream, ExpectedVersion::StreamExists, &[event()])
            .await;
        let found = [
            log.is_ok_and(|page| !page.events.is_empty()),
            append.is_ok(),
            store.save_snapshot(&snapshot(&stream)).await.is_ok(),
            project(store).await.is_ok(),
            store
                .erase(&stream, &StreamErased::new("asked", "officer"))
                .await
                .is_ok(),
        ];
        assert_eq!(
            found, wanted,
            "{role}: reads, appends, snapshots, projects, erases"
        );
        for change in [
            "UPDATE events SET event_type = 'x'",
            "DELETE FROM events",
            "DROP TABLE events",
        ] {
            let change = change.replace("events", &format!("{}.events", store.schema()));
            let changed = store.pool().execute(AssertSqlSafe(change)).await;
            assert!(changed.is_err(), "{role} changed events");
        }
    }
    world.done().await;
}
