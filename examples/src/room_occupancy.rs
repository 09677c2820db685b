//! Who is where: a read model in the database of the events.

use std::future::Future;

use es_core::{BoxError, Project, Projection, Recorded};
use es_sqlx::{PgStore, SqliteStore};
use sqlx::{PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::player::{PlayerCreated, PlayerMoved};

/// Keeps one row for each player: their name and the room they are in.
#[derive(Debug, Projection)]
#[projection(
    name = "room_occupancy",
    version = 1,
    events(PlayerCreated, PlayerMoved)
)]
pub struct RoomOccupancy;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS room_occupancy (
    player_id UUID PRIMARY KEY, name TEXT NOT NULL, room_id UUID NOT NULL, moves INT NOT NULL)";
const ENTER: &str =
    "INSERT INTO room_occupancy (player_id, name, room_id, moves) VALUES ($1, $2, $3, 0)";
// Refuses a move from where the player is not: a lost or doubled event could not go unnoticed.
const MOVE: &str = "UPDATE room_occupancy SET room_id = $1, moves = moves + 1
    WHERE player_id = $2 AND room_id = $3";
const WHO_IS_WHERE: &str = "SELECT player_id, name, room_id, CAST(moves AS BIGINT) FROM room_occupancy ORDER BY name, player_id";

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

/// Both databases understand the same SQL here, so one text serves both.
macro_rules! on {
    ($store:ty, $connection:ty) => {
        impl Project<$connection> for RoomOccupancy {
            async fn set_up(&self, db: &mut $connection) -> Result<(), BoxError> {
                sqlx::query(CREATE).execute(db).await?;
                Ok(())
            }

            async fn project(
                &self,
                db: &mut $connection,
                events: &[Recorded<RoomOccupancyEvent>],
            ) -> Result<(), BoxError> {
                for Recorded { event, record } in events {
                    let player = record.aggregate_id;
                    let done = match event {
                        RoomOccupancyEvent::PlayerCreated(created) => {
                            sqlx::query(ENTER)
                                .bind(player)
                                .bind(&created.name)
                                .bind(created.room_id)
                                .execute(&mut *db)
                                .await?
                        }
                        RoomOccupancyEvent::PlayerMoved(moved) => {
                            sqlx::query(MOVE)
                                .bind(moved.to_room_id)
                                .bind(player)
                                .bind(moved.from_room_id)
                                .execute(&mut *db)
                                .await?
                        }
                    };
                    if done.rows_affected() != 1 {
                        return Err(format!("player {player} is not where they left").into());
                    }
                }
                Ok(())
            }
        }

        impl WhoIsWhere for $store {
            async fn who_is_where(&self) -> Result<Vec<Occupant>, sqlx::Error> {
                sqlx::query_as(WHO_IS_WHERE).fetch_all(self.pool()).await
            }
        }
    };
}

on!(SqliteStore, SqliteConnection);
on!(PgStore, PgConnection);
