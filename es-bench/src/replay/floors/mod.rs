//! Replays written by hand: pages by position, folded in memory, and a checkpoint in the same transaction.

pub(crate) mod postgres;
pub(crate) mod sqlite_rusqlite;
pub(crate) mod sqlite_sqlx;

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    player::{PlayerCreated, PlayerMoved},
    side::Result,
};

/// One contender.
#[async_trait]
pub(crate) trait Floor: Send + Sync {
    fn name(&self) -> &'static str;

    /// Empties the read model and sets the checkpoint back. Not measured.
    async fn reset(&self) -> Result<()>;

    /// Everything, from the first event.
    async fn replay(&self) -> Result<()>;
}

/// The read model of the floors.
pub(crate) const TABLE: &str = "floor_rooms";

const PAGE: i64 = 1_000;

const RESET: &str = "DROP TABLE IF EXISTS floor_rooms; DROP TABLE IF EXISTS floor_checkpoint;
    CREATE TABLE floor_rooms (player_id UUID PRIMARY KEY, name TEXT NOT NULL,
        room_id UUID NOT NULL, moves INT NOT NULL);
    CREATE TABLE floor_checkpoint (position BIGINT NOT NULL);
    INSERT INTO floor_checkpoint VALUES (0)";
const CHECKPOINT: &str = "SELECT position FROM floor_checkpoint";
const ADVANCE: &str = "UPDATE floor_checkpoint SET position = $1";
/// A row of the name '' is one of a player who was created in an earlier page.
const ON_CONFLICT: &str = " ON CONFLICT (player_id) DO UPDATE
    SET room_id = excluded.room_id, moves = floor_rooms.moves + excluded.moves";
const ENTER: &str =
    "INSERT INTO floor_rooms (player_id, name, room_id, moves) VALUES ($1, $2, $3, 0)";
const MOVE: &str = "UPDATE floor_rooms SET room_id = $1, moves = moves + 1 WHERE player_id = $2";

/// An event of the read model's.
enum Happened {
    Created(PlayerCreated),
    Moved(PlayerMoved),
}

impl Happened {
    fn decode(event_type: &str, event_data: &str) -> Result<Self> {
        match event_type {
            "player_created" => Ok(Self::Created(serde_json::from_str(event_data)?)),
            "player_moved" => Ok(Self::Moved(serde_json::from_str(event_data)?)),
            _ => Err(format!("{event_type} cannot happen here").into()),
        }
    }
}

/// What a page does to the read model.
#[derive(Default)]
struct Page {
    changes: BTreeMap<Uuid, Change>,
    /// The position of its last event; `None` if there was none.
    end: Option<i64>,
}

/// What a page does to one player.
#[derive(Default)]
struct Change {
    name: String,
    room_id: Uuid,
    moves: i32,
}

impl Page {
    fn add(
        &mut self,
        position: i64,
        player: Uuid,
        event_type: &str,
        event_data: &str,
    ) -> Result<()> {
        let change = self.changes.entry(player).or_default();
        match Happened::decode(event_type, event_data)? {
            Happened::Created(created) => {
                change.name = created.name;
                change.room_id = created.room_id;
            }
            Happened::Moved(moved) => {
                change.room_id = moved.to_room_id;
                change.moves += 1;
            }
        }
        self.end = Some(position);
        Ok(())
    }
}
