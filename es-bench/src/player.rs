//! What is recorded: players who walk through a castle.

use chrono::{DateTime, Utc};
use es_core::{Aggregate, Apply, Event, Start};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The first event of every history.
#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub(crate) struct PlayerCreated {
    pub(crate) name: String,
    pub(crate) room_id: Uuid,
}

/// Every other event: about 150 bytes of JSON.
#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub(crate) struct PlayerMoved {
    pub(crate) from_room_id: Uuid,
    pub(crate) to_room_id: Uuid,
    pub(crate) move_timestamp: DateTime<Utc>,
}

/// The state; its size does not grow with its history.
#[derive(Aggregate, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[aggregate(starts(PlayerCreated), events(PlayerMoved))]
pub(crate) struct Player {
    pub(crate) name: String,
    pub(crate) health: u32,
    pub(crate) current_room_id: Uuid,
    /// How many events it has seen, less the first: shows that none is missing.
    pub(crate) moves: u32,
}

impl Start<PlayerCreated> for Player {
    fn start(event: &PlayerCreated) -> Self {
        Self {
            name: event.name.clone(),
            health: 100,
            current_room_id: event.room_id,
            moves: 0,
        }
    }
}

impl Apply<PlayerMoved> for Player {
    fn apply(&mut self, event: &PlayerMoved) {
        self.current_room_id = event.to_room_id;
        self.moves += 1;
    }
}

impl Player {
    /// The decision of every command.
    pub(crate) fn move_to(&self, room: Uuid) -> Result<PlayerMoved, &'static str> {
        if self.health == 0 {
            return Err("the player is dead");
        }
        Ok(PlayerMoved {
            from_room_id: self.current_room_id,
            to_room_id: room,
            move_timestamp: Utc::now(),
        })
    }
}

pub(crate) fn created(rng: &mut Rng) -> PlayerCreated {
    PlayerCreated {
        name: "Aragorn".to_owned(),
        room_id: room(rng),
    }
}

pub(crate) fn moved(rng: &mut Rng) -> PlayerMoved {
    PlayerMoved {
        from_room_id: room(rng),
        to_room_id: room(rng),
        move_timestamp: Utc::now(),
    }
}

pub(crate) fn room(rng: &mut Rng) -> Uuid {
    Uuid::from_u128(rng.u128(..))
}
