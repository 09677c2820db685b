//! Who is where: a read model in the database of the events.

use std::future::Future;

use es_core::{BoxError, Project, Projection, Recorded};
use es_sqlx::rows::{HasTable, Rows};
use es_sqlx::{PgStore, SqliteStore};
use uuid::Uuid;

use crate::player::{PlayerCreated, PlayerMoved};

/// Keeps one row for each player: their name and the room they are in.
#[derive(Debug, Projection)]
#[projection(name = "room_occupancy", events(PlayerCreated, PlayerMoved))]
pub struct RoomOccupancy;

es_sqlx::read_model! {
    /// A row of the table.
    #[derive(Debug, Clone, PartialEq)]
    struct Place in "room_occupancy" {
        #[key]
        player_id: Uuid,
        name: String,
        room_id: Uuid,
        moves: i32,
    }
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS room_occupancy (
    player_id UUID PRIMARY KEY, name TEXT NOT NULL, room_id UUID NOT NULL, moves INT NOT NULL)";
const WHO_IS_WHERE: &str = "SELECT player_id, name, room_id, CAST(moves AS BIGINT) FROM room_occupancy ORDER BY name, player_id";

impl<C: HasTable<Place>> Project<C> for RoomOccupancy {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        Ok(db.run(CREATE).await?)
    }

    async fn project(
        &self,
        db: &mut C,
        events: &[Recorded<RoomOccupancyEvent>],
    ) -> Result<(), BoxError> {
        let players = events.iter().map(|event| event.record.aggregate_id);
        let mut places = Rows::<Place>::load(db, players).await?;
        for Recorded { event, record } in events {
            match event {
                RoomOccupancyEvent::PlayerCreated(created) => places.insert(Place {
                    player_id: record.aggregate_id,
                    name: created.name.clone(),
                    room_id: created.room_id,
                    moves: 0,
                })?,
                RoomOccupancyEvent::PlayerMoved(moved) => {
                    let place = places.update(&record.aggregate_id)?;
                    // A lost or doubled event could not go unnoticed.
                    if place.room_id != moved.from_room_id {
                        let player = place.player_id;
                        return Err(format!("player {player} is not where they left").into());
                    }
                    place.room_id = moved.to_room_id;
                    place.moves += 1;
                }
            }
        }
        Ok(places.save(db).await?)
    }
}

/// A row of the read model: player, name, room, and how often they moved.
pub type Occupant = (Uuid, String, Uuid, i64);

/// A store in which the read model can be queried.
pub trait WhoIsWhere {
    /// Every player, by name.
    ///
    /// # Errors
    ///
    /// What the database says.
    fn who_is_where(&self) -> impl Future<Output = Result<Vec<Occupant>, sqlx::Error>> + Send;
}

impl WhoIsWhere for SqliteStore {
    async fn who_is_where(&self) -> Result<Vec<Occupant>, sqlx::Error> {
        sqlx::query_as(WHO_IS_WHERE).fetch_all(self.pool()).await
    }
}

impl WhoIsWhere for PgStore {
    async fn who_is_where(&self) -> Result<Vec<Occupant>, sqlx::Error> {
        sqlx::query_as(WHO_IS_WHERE).fetch_all(self.pool()).await
    }
}
