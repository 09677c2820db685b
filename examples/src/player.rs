//! Players: the aggregate of the adventure.

use chrono::{DateTime, Utc};
use es_core::{Aggregate, Apply, Event, Handle, Start};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A player came into the world.
#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct PlayerCreated {
    /// How they are called.
    pub name: String,
    /// Where they begin.
    pub room_id: Uuid,
}

/// A player went from one room to another.
#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct PlayerMoved {
    /// The room they left.
    pub from_room_id: Uuid,
    /// The room they entered.
    pub to_room_id: Uuid,
    /// When they went.
    pub move_timestamp: DateTime<Utc>,
}

/// A player took something.
#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct ItemPickedUp {
    /// What they took.
    pub item: String,
}

/// A player was hurt.
#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct DamageTaken {
    /// How much health it cost.
    pub points: u32,
}

/// Someone who walks through the castle.
#[derive(Aggregate, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[aggregate(starts(PlayerCreated), events(PlayerMoved, ItemPickedUp, DamageTaken))]
pub struct Player {
    /// How they are called.
    pub name: String,
    /// 100 at first; at 0 they are dead.
    pub health: u32,
    /// How experienced they are.
    pub level: u32,
    /// Where they are.
    pub current_room_id: Uuid,
    /// What they carry.
    pub inventory: Vec<String>,
}

impl Start<PlayerCreated> for Player {
    fn start(event: &PlayerCreated) -> Self {
        Self {
            name: event.name.clone(),
            health: 100,
            level: 1,
            current_room_id: event.room_id,
            inventory: Vec::new(),
        }
    }
}

impl Apply<PlayerMoved> for Player {
    fn apply(&mut self, event: &PlayerMoved) {
        self.current_room_id = event.to_room_id;
    }
}

impl Apply<ItemPickedUp> for Player {
    fn apply(&mut self, event: &ItemPickedUp) {
        self.inventory.push(event.item.clone());
    }
}

impl Apply<DamageTaken> for Player {
    fn apply(&mut self, event: &DamageTaken) {
        self.health = self.health.saturating_sub(event.points);
    }
}

/// Why a player cannot do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlayerError {
    /// They are where they want to go.
    AlreadyThere,
    /// They are dead.
    Dead,
}

impl std::fmt::Display for PlayerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AlreadyThere => "the player is already there",
            Self::Dead => "the player is dead",
        })
    }
}

impl std::error::Error for PlayerError {}

impl Player {
    /// Decides to go to a room.
    ///
    /// # Errors
    ///
    /// If the player is there already, or dead.
    pub fn move_to(&self, room: Uuid, at: DateTime<Utc>) -> Result<PlayerMoved, PlayerError> {
        self.alive()?;
        if self.current_room_id == room {
            return Err(PlayerError::AlreadyThere);
        }
        Ok(PlayerMoved {
            from_room_id: self.current_room_id,
            to_room_id: room,
            move_timestamp: at,
        })
    }

    /// Decides to take something.
    ///
    /// # Errors
    ///
    /// If the player is dead.
    pub fn pick_up(&self, item: &str) -> Result<ItemPickedUp, PlayerError> {
        self.alive()?;
        Ok(ItemPickedUp {
            item: item.to_owned(),
        })
    }

    fn alive(&self) -> Result<(), PlayerError> {
        if self.health == 0 {
            return Err(PlayerError::Dead);
        }
        Ok(())
    }
}

/// The command to strike a player.
#[derive(Debug, Clone)]
pub struct Strike {
    /// How hard.
    pub points: u32,
}

impl Handle<Strike> for Player {
    type Events = DamageTaken;
    type Error = PlayerError;

    fn handle(&self, command: &Strike) -> Result<DamageTaken, PlayerError> {
        self.alive()?;
        Ok(DamageTaken {
            points: command.points.min(self.health),
        })
    }
}

#[cfg(test)]
mod tests {
    use es_core::scenario;

    use super::*;
    use crate::rooms;

    fn aragorn() -> PlayerCreated {
        PlayerCreated {
            name: "Aragorn".into(),
            room_id: rooms::HALL,
        }
    }

    #[test]
    fn a_player_leaves_the_room_they_are_in() {
        let noon = DateTime::UNIX_EPOCH;
        scenario::started_by::<Player, _>(aragorn())
            .when(|player| player.move_to(rooms::CELLAR, noon))
            .then(PlayerMoved {
                from_room_id: rooms::HALL,
                to_room_id: rooms::CELLAR,
                move_timestamp: noon,
            });
    }

    #[test]
    fn a_player_cannot_enter_the_room_they_are_in() {
        scenario::started_by::<Player, _>(aragorn())
            .when(|player| player.move_to(rooms::HALL, DateTime::UNIX_EPOCH))
            .then_err(PlayerError::AlreadyThere);
    }

    #[test]
    fn a_blow_never_takes_more_than_there_is() {
        scenario::started_by::<Player, _>(aragorn())
            .given(DamageTaken { points: 90 })
            .when(|player| player.handle(&Strike { points: 50 }))
            .then_state(|player| assert_eq!(player.health, 0));
    }
}
