//! Who is where: the read model of the replays, with three handlers that do the same.

use std::collections::BTreeMap;

use es_core::{BoxError, Project, Projection, Recorded};
use es_sqlx::{
    read_model,
    rows::{HasTable, Rows, RunSql},
};
use sqlx::{PgConnection, QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use crate::player::{PlayerCreated, PlayerMoved};

/// Loads the rows of a batch together and saves them together.
#[derive(Debug, Projection)]
#[projection(name = "room_occupancy", events(PlayerCreated, PlayerMoved))]
pub(crate) struct RoomOccupancy;

/// Folds a batch and sends one statement that adds to what is there, as the floors do.
#[derive(Debug, Projection)]
#[projection(
    name = "room_occupancy_in_one_statement",
    events(PlayerCreated, PlayerMoved)
)]
pub(crate) struct RoomOccupancyInOne;

/// Sends one statement for each event.
#[derive(Debug, Projection)]
#[projection(name = "room_occupancy_by_event", events(PlayerCreated, PlayerMoved))]
pub(crate) struct RoomOccupancyByEvent;

read_model! {
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Occupant in "room_occupancy" {
        #[key]
        player_id: Uuid,
        name: String,
        room_id: Uuid,
        moves: i32,
    }
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS room_occupancy (
    player_id UUID PRIMARY KEY, name TEXT NOT NULL, room_id UUID NOT NULL, moves INT NOT NULL)";
macro_rules! insert {
    () => {
        "INSERT INTO room_occupancy (player_id, name, room_id, moves) "
    };
}
macro_rules! on_conflict {
    () => {
        " ON CONFLICT (player_id) DO UPDATE
          SET room_id = excluded.room_id, moves = room_occupancy.moves + excluded.moves"
    };
}
const INSERT: &str = insert!();
const ON_CONFLICT: &str = on_conflict!();
const UPSERT: &str = concat!(
    insert!(),
    "SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int[])",
    on_conflict!()
);
const ENTER: &str =
    "INSERT INTO room_occupancy (player_id, name, room_id, moves) VALUES ($1, $2, $3, 0)";
const MOVE: &str = "UPDATE room_occupancy SET room_id = $1, moves = moves + 1 WHERE player_id = $2";

impl<C: HasTable<Occupant>> Project<C> for RoomOccupancy {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        Ok(db.run(CREATE).await?)
    }

    async fn project(
        &self,
        db: &mut C,
        events: &[Recorded<RoomOccupancyEvent>],
    ) -> Result<(), BoxError> {
        let players = events.iter().map(|event| event.record.aggregate_id);
        let mut occupants = Rows::<Occupant>::load(db, players).await?;
        for Recorded { event, record } in events {
            match event {
                RoomOccupancyEvent::PlayerCreated(created) => occupants.insert(Occupant {
                    player_id: record.aggregate_id,
                    name: created.name.clone(),
                    room_id: created.room_id,
                    moves: 0,
                })?,
                RoomOccupancyEvent::PlayerMoved(moved) => {
                    let occupant = occupants.update(&record.aggregate_id)?;
                    occupant.room_id = moved.to_room_id;
                    occupant.moves += 1;
                }
            }
        }
        Ok(occupants.save(db).await?)
    }
}

macro_rules! by_event {
    ($connection:ty) => {
        impl Project<$connection> for RoomOccupancyByEvent {
            async fn set_up(&self, db: &mut $connection) -> Result<(), BoxError> {
                Ok(db.run(CREATE).await?)
            }

            async fn project(
                &self,
                db: &mut $connection,
                events: &[Recorded<RoomOccupancyByEventEvent>],
            ) -> Result<(), BoxError> {
                for Recorded { event, record } in events {
                    let statement = match event {
                        RoomOccupancyByEventEvent::PlayerCreated(created) => sqlx::query(ENTER)
                            .bind(record.aggregate_id)
                            .bind(&created.name)
                            .bind(created.room_id),
                        RoomOccupancyByEventEvent::PlayerMoved(moved) => sqlx::query(MOVE)
                            .bind(moved.to_room_id)
                            .bind(record.aggregate_id),
                    };
                    if statement.execute(&mut *db).await?.rows_affected() != 1 {
                        return Err(format!("player {} is nowhere", record.aggregate_id).into());
                    }
                }
                Ok(())
            }
        }
    };
}

by_event!(PgConnection);
by_event!(SqliteConnection);

impl Project<PgConnection> for RoomOccupancyInOne {
    async fn set_up(&self, db: &mut PgConnection) -> Result<(), BoxError> {
        Ok(db.run(CREATE).await?)
    }

    async fn project(
        &self,
        db: &mut PgConnection,
        events: &[Recorded<RoomOccupancyInOneEvent>],
    ) -> Result<(), BoxError> {
        let changes = fold(events);
        let values = changes.values();
        let names: Vec<_> = values.clone().map(|change| change.name).collect();
        let rooms: Vec<_> = values.clone().map(|change| change.room_id).collect();
        let moves: Vec<_> = values.map(|change| change.moves).collect();
        sqlx::query(UPSERT)
            .bind(changes.into_keys().collect::<Vec<_>>())
            .bind(names)
            .bind(rooms)
            .bind(moves)
            .execute(db)
            .await?;
        Ok(())
    }
}

impl Project<SqliteConnection> for RoomOccupancyInOne {
    async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
        Ok(db.run(CREATE).await?)
    }

    async fn project(
        &self,
        db: &mut SqliteConnection,
        events: &[Recorded<RoomOccupancyInOneEvent>],
    ) -> Result<(), BoxError> {
        let mut upsert = QueryBuilder::<Sqlite>::new(INSERT);
        upsert.push_values(fold(events), |mut row, (player, change)| {
            row.push_bind(player)
                .push_bind(change.name)
                .push_bind(change.room_id)
                .push_bind(change.moves);
        });
        // Each number of rows is a statement of its own: kept, a hundred of them take as many MiB.
        let upsert = upsert.push(ON_CONFLICT).build().persistent(false);
        upsert.execute(db).await?;
        Ok(())
    }
}

/// What a batch does to one player.
#[derive(Default)]
struct Change<'a> {
    /// Empty if the player was created before.
    name: &'a str,
    room_id: Uuid,
    moves: i32,
}

fn fold(events: &[Recorded<RoomOccupancyInOneEvent>]) -> BTreeMap<Uuid, Change<'_>> {
    let mut changes = BTreeMap::<_, Change<'_>>::new();
    for Recorded { event, record } in events {
        let change = changes.entry(record.aggregate_id).or_default();
        match event {
            RoomOccupancyInOneEvent::PlayerCreated(created) => {
                change.name = &created.name;
                change.room_id = created.room_id;
            }
            RoomOccupancyInOneEvent::PlayerMoved(moved) => {
                change.room_id = moved.to_room_id;
                change.moves += 1;
            }
        }
    }
    changes
}
