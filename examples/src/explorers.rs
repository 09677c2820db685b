//! How far each player has come: a read model whose rows belong to one player each, so that it may be
//! divided into shards.

use es_core::{BoxError, Project, Projection, Recorded};
use es_sqlx::{
    read_model,
    rows::{HasTable, Rows},
};
use uuid::Uuid;

use crate::player::{ItemPickedUp, PlayerCreated, PlayerMoved};

/// Keeps one row for each player: how many steps they took and how many things they carry.
#[derive(Debug, Projection)]
#[projection(
    name = "explorers",
    version = 1,
    events(PlayerCreated, PlayerMoved, ItemPickedUp)
)]
pub struct Explorers;

read_model! {
    /// A row of the read model.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Explorer in "explorers" {
        /// Whose.
        #[key]
        pub player_id: Uuid,
        /// How often they moved.
        pub steps: i64,
        /// How many things they picked up.
        pub things: i64,
    }
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS explorers (
    player_id UUID PRIMARY KEY, steps BIGINT NOT NULL, things BIGINT NOT NULL)";

/// For whichever database.
impl<C: HasTable<Explorer>> Project<C> for Explorers {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        Ok(db.run(CREATE).await?)
    }

    async fn project(
        &self,
        db: &mut C,
        events: &[Recorded<ExplorersEvent>],
    ) -> Result<(), BoxError> {
        let players = events.iter().map(|event| event.record.aggregate_id);
        let mut explorers = Rows::<Explorer>::load(db, players).await?;
        for Recorded { event, record } in events {
            let player_id = record.aggregate_id;
            if let ExplorersEvent::PlayerCreated(_) = event {
                explorers.insert(Explorer {
                    player_id,
                    steps: 0,
                    things: 0,
                })?;
                continue;
            }
            let row = explorers.update(&player_id)?;
            match event {
                ExplorersEvent::PlayerCreated(_) => {}
                ExplorersEvent::PlayerMoved(_) => row.steps += 1,
                ExplorersEvent::ItemPickedUp(_) => row.things += 1,
            }
        }
        Ok(explorers.save(db).await?)
    }
}
