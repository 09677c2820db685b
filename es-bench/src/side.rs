//! What both the framework and the floors must be able to do.

use async_trait::async_trait;
use es_core::BoxError;
use uuid::Uuid;

use crate::player::{Player, PlayerCreated, PlayerMoved};

pub(crate) type Result<T> = std::result::Result<T, BoxError>;

/// One contender, with a log of its own.
///
/// Both sides pay for the boxed futures of this trait: one allocation per call.
#[async_trait]
pub(crate) trait Side: Send + Sync {
    fn name(&self) -> &'static str;

    /// Records a history of one `created` and then `moves`, in one go. Not measured.
    async fn seed(&self, id: Uuid, created: PlayerCreated, moves: Vec<PlayerMoved>) -> Result<()>;

    /// Adds events to a stream that has `version` events.
    async fn append(&self, id: Uuid, version: u32, events: &[PlayerMoved]) -> Result<()>;

    /// Loads, decides to move to `room`, appends that; again after losing a race.
    async fn command(&self, id: Uuid, room: Uuid) -> Result<()>;

    /// Rehydrates a player from all of its events.
    async fn load(&self, id: Uuid) -> Result<Player>;

    /// How many commands were given up after lost races, and then begun again by the bench.
    fn given_up(&self) -> u64 {
        0
    }
}
