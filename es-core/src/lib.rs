//! Event sourcing for Rust: the words, the traits, the repository and an honest in-memory store.
//!
//! Model an aggregate with the derives, keep it in a store through a [`Repository`]:
//!
//! ```
//! use es_core::{Aggregate, Apply, Event, MemoryStore, Repository, Start};
//! use serde::{Deserialize, Serialize};
//! use uuid::Uuid;
//!
//! #[derive(Event, Serialize, Deserialize)]
//! struct PlayerCreated { name: String }
//! #[derive(Event, Serialize, Deserialize)]
//! struct DamageTaken { points: u32 }
//!
//! #[derive(Aggregate, Serialize, Deserialize)]
//! #[aggregate(starts(PlayerCreated), events(DamageTaken))]
//! struct Player { name: String, health: u32 }
//!
//! impl Start<PlayerCreated> for Player {
//!     fn start(event: &PlayerCreated) -> Self {
//!         Player { name: event.name.clone(), health: 100 }
//!     }
//! }
//! impl Apply<DamageTaken> for Player {
//!     fn apply(&mut self, event: &DamageTaken) { self.health -= event.points; }
//! }
//!
//! impl Player {
//!     fn hit(&self, points: u32) -> Result<DamageTaken, &'static str> {
//!         if points > self.health { return Err("already dead"); }
//!         Ok(DamageTaken { points })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let players = Repository::<Player>::new(MemoryStore::new());
//! let id = Uuid::now_v7();
//!
//! players.create(id, PlayerCreated { name: "Aragorn".into() }).await?;
//! players.update(id, |player| player.hit(15)).await?;
//!
//! assert_eq!(players.load(id).await?.health, 85);
//! # Ok(())
//! # }
//! ```

// Lets the derives' `::es_core` paths work in this crate's own tests.
extern crate self as es_core;

#[doc(hidden)]
pub mod __private;
mod aggregate;
mod append;
mod dead_letter;
mod decision;
mod erasure;
mod error;
mod event;
mod failure;
mod form;
mod inline;
mod json;
mod memory;
mod name;
mod projection;
mod projection_store;
mod record;
mod repository;
mod root;
pub mod scenario;
mod shard;
mod snapshot;
mod standing;
mod store;
mod stream;
mod subscription;
mod visit;

#[cfg(feature = "derive")]
pub use es_derive::{Aggregate, Event, Projection};

pub use self::{
    aggregate::{Aggregate, Apply, Misplaced, Start},
    append::{Append, check as check_append, check_all as check_appends},
    dead_letter::{DeadLetter, LetterState, Letters, Parked},
    decision::{Handle, IntoEvents},
    erasure::StreamErased,
    error::{AppendError, BoxError, Chain, CheckpointError, EraseError, ReadError, SnapshotError},
    event::{DecodeError, Event, EventSet, EventType},
    failure::{Failure, FailureKind, Transient},
    inline::Inline,
    json::Json,
    memory::{MemoryBatch, MemoryModels, MemoryStore},
    name::Name,
    projection::{NotSupported, Project, Projection, ProjectionId},
    projection_store::{Batch, Claim, Progress, ProjectionStore},
    record::{Metadata, NewEvent, Recorded, RecordedEvent},
    repository::{
        AggregateCache, AnyRoot, At, LoadError, Repository, SaveError, UpdateError, save_all,
    },
    root::Root,
    shard::{Marks, Shard, shard_of},
    snapshot::Snapshot,
    standing::{Fleet, Lifecycle, Node, Standing},
    store::{
        Appended, Blocker, Capabilities, EventStore, Filter, Horizon, LogPage, Scan, SnapshotStore,
    },
    stream::{ExpectedVersion, Position, StreamId, Version},
    subscription::subscribe,
    visit::{EventView, SnapshotView, StreamVisitor, Visit},
};
