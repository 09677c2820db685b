//! Projections: events folded into a read model.

use std::{fmt, future::Future};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BoxError, EventSet, Recorded};

/// What a projection is called and which events it wants. Derive it; then write [`Project`].
///
/// ```
/// use es_core::{Event, EventSet, Projection};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// struct PlayerMoved { to_room: String }
///
/// #[derive(Projection)]
/// #[projection(name = "room_occupancy", version = 1, events(PlayerMoved))]
/// struct RoomOccupancy;
///
/// assert_eq!(RoomOccupancy::NAME, "room_occupancy");
/// assert_eq!(RoomOccupancyEvent::EVENT_TYPES[0].name, "player_moved");
/// ```
pub trait Projection: Send + Sync + 'static {
    /// Its name: the key of its checkpoint.
    const NAME: &'static str;
    /// Raise it when the read model's shape or the handler's meaning changes: a new version has a
    /// checkpoint of its own and starts from the first event.
    const VERSION: u32 = 1;
    /// Whether events may be applied to its read model a second time, as where each row keeps the
    /// position it is at. Only then may a checkpoint be moved back.
    const REPEATABLE: bool = false;
    /// The events it wants.
    type Event: EventSet;
}

/// How a projection writes its read model through a connection of type `C`, for example
/// `sqlx::SqliteConnection` or [`MemoryModels`](crate::MemoryModels).
///
/// Everything written through the connection is committed together with the checkpoint, so each
/// event takes effect exactly once.
#[diagnostic::on_unimplemented(
    message = "the projection `{Self}` cannot write through `{C}`, the connection of this store",
    label = "`impl Project<{C}> for {Self}` is missing",
    note = "implement `Project<{C}>` for `{Self}`, or start it on the store it was written for"
)]
pub trait Project<C: Send>: Projection {
    /// Creates the read model's tables. Runs when the projection starts, in a transaction of its
    /// own; it must leave an existing model alone (`CREATE TABLE IF NOT EXISTS`).
    fn set_up(&self, connection: &mut C) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Applies events in log order. Never empty.
    ///
    /// Events whose content was [erased](crate::EventStore::erase) are left out, also when a new version
    /// starts from the first event: what it counts may then be less than before. List
    /// [`StreamErased`](crate::StreamErased) among the events to delete what was kept of an aggregate.
    ///
    /// # Errors
    ///
    /// Any error rolls the batch and its checkpoint back; the runner's policy decides what follows.
    fn project(
        &self,
        connection: &mut C,
        events: &[Recorded<Self::Event>],
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Writes down what the world outside should be told of these events: rows of an outbox, say. In the
    /// same transaction, after [`project`](Self::project).
    ///
    /// Left out while a read model is built anew, so that each event has its effects once, whichever
    /// version of the projection meets it first.
    ///
    /// # Errors
    ///
    /// As [`project`](Self::project).
    fn emit(
        &self,
        connection: &mut C,
        events: &[Recorded<Self::Event>],
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (connection, events);
        async { Ok(()) }
    }

    /// Makes this version's read model the one that is served: re-creates a view over its tables, say. In
    /// the transaction in which the version becomes the active one; for the first version of a name that is
    /// the one of [`set_up`](Self::set_up), at its first start.
    ///
    /// # Errors
    ///
    /// Any error leaves the old version active; it is tried again.
    fn activate(&self, connection: &mut C) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Empties the read model, so that the projection can start from the first event.
    ///
    /// # Errors
    ///
    /// [`NotSupported`] unless it is written. Any error leaves everything as it was.
    fn clear(&self, connection: &mut C) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = connection;
        async { Err(NotSupported { function: "clear" }.into()) }
    }

    /// Removes what the read model holds of one aggregate, so that its events can be applied anew. For
    /// projections whose rows each belong to one aggregate.
    ///
    /// # Errors
    ///
    /// [`NotSupported`] unless it is written. Any error leaves everything as it was.
    fn clear_aggregate(
        &self,
        connection: &mut C,
        aggregate_id: Uuid,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (connection, aggregate_id);
        async {
            Err(NotSupported {
                function: "clear_aggregate",
            }
            .into())
        }
    }
}

/// The projection has not written a function of [`Project`] that this needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the projection does not say how; write `{function}` in its `impl Project`")]
pub struct NotSupported {
    /// The function.
    pub function: &'static str,
}

/// A projection's name and version: the key of its checkpoint. Shown as `room_occupancy v1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProjectionId {
    /// The projection's name.
    pub name: String,
    /// The projection's version.
    pub version: u32,
}

impl ProjectionId {
    /// A key from its parts.
    #[must_use]
    pub fn new(name: impl Into<String>, version: u32) -> Self {
        Self {
            name: name.into(),
            version,
        }
    }

    /// The key of the projection `P`.
    #[must_use]
    pub fn of<P: Projection>() -> Self {
        Self::new(P::NAME, P::VERSION)
    }
}

impl fmt::Display for ProjectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}
