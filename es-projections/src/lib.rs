//! Runs projections: catch up, follow, and keep each read model exactly in step with the log.
//!
//! Each batch of events and its checkpoint are written in one transaction, so every event takes
//! effect exactly once, whatever is killed and however many daemons run.
//!
//! ```
//! # use std::{collections::HashMap, error::Error};
//! use es_core::{
//!     BoxError, Event, EventStore, ExpectedVersion, MemoryModels, MemoryStore, NewEvent, Project,
//!     Projection, Recorded, StreamId,
//! };
//! use es_projections::Daemon;
//! use serde::{Deserialize, Serialize};
//! use uuid::Uuid;
//!
//! #[derive(Event, Serialize, Deserialize)]
//! struct PlayerMoved { to_room: String }
//!
//! #[derive(Projection)]
//! #[projection(name = "room_visits", version = 1, events(PlayerMoved))]
//! struct RoomVisits;
//!
//! impl Project<MemoryModels> for RoomVisits {
//!     async fn project(
//!         &self,
//!         models: &mut MemoryModels,
//!         events: &[Recorded<RoomVisitsEvent>],
//!     ) -> Result<(), BoxError> {
//!         let visits = models.model_mut::<HashMap<String, u32>>();
//!         for Recorded { event: RoomVisitsEvent::PlayerMoved(moved), .. } in events {
//!             *visits.entry(moved.to_room.clone()).or_default() += 1;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! let store = MemoryStore::new();
//! let daemon = Daemon::new(store.clone()).run(RoomVisits).start().await?;
//!
//! let player = StreamId::new("player", Uuid::now_v7());
//! let moved = NewEvent::encode(&PlayerMoved { to_room: "cellar".into() })?;
//! let appended = store.append(&player, ExpectedVersion::Any, &[moved]).await?;
//!
//! daemon.wait_until("room_visits", appended.position).await?; // read your own writes
//! assert_eq!(store.model::<HashMap<String, u32>>().await["cellar"], 1);
//! daemon.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # When something fails
//!
//! - **The store does not answer**: the projection tries for ever, with growing pauses, each time
//!   from the stored checkpoint. A commit whose acknowledgement was lost is not applied twice.
//! - **Another daemon has the lease**: the projection waits and takes over when it ends.
//! - **The handler fails**: its batch is rolled back and tried again; if that does not help, what
//!   stands before the bad event is committed and the projection stops there. Others go on. A new
//!   daemon starts at that event again, so repair the handler and restart.
//! - **The handler panics, an event cannot be read, the checkpoint belongs to another log**: the same,
//!   at once.
//!
//! [`Status`] tells which of these it is, and [`Failure`] where and why.

mod backoff;
mod batch;
mod daemon;
mod error;
mod lease;
mod policy;
mod runner;
mod settings;
mod status;
mod turn;
mod wait;

pub use self::{
    daemon::{Daemon, DaemonHandle},
    error::{Failure, FailureKind, ShutdownError, StartError, WaitError},
    settings::Settings,
    status::{State, Status},
    wait::Monitor,
};
