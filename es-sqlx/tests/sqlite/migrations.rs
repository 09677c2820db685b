//! Files of older programs.

use es_core::{EventStore, Lifecycle, Position, ProjectionId, ProjectionStore};

use crate::{add, folder, lamp, open, sql, stranger};

/// Back to what the second migration left behind, with projections as programs of that time had them.
const OLD: &str = "
    DROP TABLE projection_nodes;
    DROP TABLE projection_dead_letters;
    ALTER TABLE projection_shards DROP COLUMN repeatable;
    ALTER TABLE projection_shards DROP COLUMN resume_to;
    ALTER TABLE projection_shards DROP COLUMN active;
    ALTER TABLE projection_shards DROP COLUMN promote;
    ALTER TABLE projection_shards DROP COLUMN applied;
    ALTER TABLE projection_shards DROP COLUMN silent;
    ALTER TABLE projection_shards ADD COLUMN lease_until INTEGER NOT NULL DEFAULT 0;
    DELETE FROM es_migrations WHERE version > 2;
    INSERT INTO projection_shards (name, version, event_types, position, epoch, owner, lease_until, status)
    VALUES ('lamps', 1, '[\"dimmed\",\"switched\"]', 2, 7, x'00112233445566778899aabbccddeeff',
                9000000000000, 'running'),
           ('lamps', 2, '[\"switched\"]', 1, 3, NULL, 0, 'running'),
           ('rooms', 1, '[\"switched\"]', 1, 1, NULL, 0, 'inline'),
           ('rooms', 2, '[\"switched\"]', 2, 1, NULL, 0, 'retired'),
           ('stairs', 1, '[\"switched\"]', 2, 1, NULL, 0, 'retired')";

#[tokio::test]
async fn projections_of_an_older_file_stand_where_they_stood() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    add(&store, &lamp(), 3).await;
    store.close().await;
    sql(&mut stranger(&file).await, OLD).await.unwrap();

    let store = open(&file).await;
    let found: Vec<_> = store
        .standings(None)
        .await
        .unwrap()
        .into_iter()
        .map(|found| {
            assert!(found.owner.is_none() && found.promote && !found.repeatable);
            assert_eq!((found.shard.index, found.shards), (0, 1));
            assert_eq!(found.before, Lifecycle::Running);
            let id = found.shard.projection.to_string();
            let position = found.position.get();
            (id, found.lifecycle, position, found.epoch, found.active)
        })
        .collect();
    let row = |id: &str, lifecycle, position, epoch, active| {
        (id.to_owned(), lifecycle, position, epoch, active)
    };
    assert_eq!(
        found,
        [
            row("lamps v1", Lifecycle::Running, 2, 8, false),
            row("lamps v2", Lifecycle::Running, 1, 4, true),
            row("rooms v1", Lifecycle::Inline, 3, 2, true),
            row("rooms v2", Lifecycle::Retired, 2, 2, false),
            row("stairs v1", Lifecycle::Retired, 2, 2, false),
        ]
    );
    let lamps = store.standings(Some("lamps")).await.unwrap();
    assert_eq!(lamps[0].event_types, ["dimmed", "switched"]);
    let checkpoint = store.checkpoint(&ProjectionId::new("lamps", 1)).await;
    assert_eq!(checkpoint.unwrap(), Some(Position::new(2)));
    assert_eq!(store.settled().await.unwrap(), Position::new(3));
}
