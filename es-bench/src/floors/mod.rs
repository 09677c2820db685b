//! The floors: the least SQL that gives the same guarantees, written by hand for this one aggregate.

pub(crate) mod postgres;
pub(crate) mod sqlite_grouped;
pub(crate) mod sqlite_rusqlite;
pub(crate) mod sqlite_sqlx;

use chrono::{SecondsFormat, Utc};
use es_core::{Apply, Start};
use uuid::Uuid;

use crate::{
    player::{Player, PlayerCreated, PlayerMoved},
    side::Result,
};

/// The tables are those of the framework, so that both sides keep the same indexes.
const POSTGRES_TABLES: &str = include_str!("../../../es-sqlx/migrations/postgres/0001_events.sql");
const SQLITE_TABLES: &str = include_str!("../../../es-sqlx/migrations/sqlite/0001_events.sql");

/// An event as it is stored.
pub(crate) struct Encoded {
    pub(crate) event_id: Uuid,
    pub(crate) event_type: &'static str,
    pub(crate) event_data: String,
}

impl Encoded {
    pub(crate) fn created(event: &PlayerCreated) -> Result<Self> {
        Ok(Self {
            event_id: Uuid::now_v7(),
            event_type: "player_created",
            event_data: serde_json::to_string(event)?,
        })
    }

    pub(crate) fn moved(event: &PlayerMoved) -> Result<Self> {
        Ok(Self {
            event_id: Uuid::now_v7(),
            event_type: "player_moved",
            event_data: serde_json::to_string(event)?,
        })
    }

    fn history(created: &PlayerCreated, moves: &[PlayerMoved]) -> Result<Vec<Self>> {
        std::iter::once(Self::created(created))
            .chain(moves.iter().map(Self::moved))
            .collect()
    }
}

/// A history being folded.
#[derive(Default)]
struct Fold {
    player: Option<Player>,
    version: u32,
}

impl Fold {
    fn apply(&mut self, event_type: &str, event_data: &str) -> Result<()> {
        match (event_type, &mut self.player) {
            ("player_created", None) => {
                let event: PlayerCreated = serde_json::from_str(event_data)?;
                self.player = Some(Player::start(&event));
            }
            ("player_moved", Some(player)) => {
                let event: PlayerMoved = serde_json::from_str(event_data)?;
                player.apply(&event);
            }
            _ => return Err(format!("{event_type} cannot happen here").into()),
        }
        self.version += 1;
        Ok(())
    }

    fn finish(self) -> Result<Player> {
        self.player.ok_or_else(|| "there is no such player".into())
    }

    /// What the command records, and after which version.
    fn decide(&self, room: Uuid) -> Result<(Encoded, u32)> {
        let player = self.player.as_ref().ok_or("there is no such player")?;
        Ok((Encoded::moved(&player.move_to(room)?)?, self.version))
    }
}

/// SQLite keeps times as text.
pub(crate) fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}
