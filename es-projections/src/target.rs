//! Where a projection writes: into the store's own database, or somewhere else.

use std::future::Future;

use es_core::{BoxError, EventSet, Project, ProjectionId, ProjectionStore, Recorded};

/// What a projection writes through that keeps its read model outside of the store: a search index,
/// another database, a service. It brings its own client.
///
/// Such a projection is started with [`Daemon::run_external`](crate::Daemon::run_external). Its read
/// model and its checkpoint cannot be committed together: the events come **at least once**. After a
/// crash the last batch comes again, and a node that was frozen may send an old batch late. Both are
/// harmless if each row keeps the position it is at and refuses an older one. An error that will pass, as of a
/// service that does not answer, is wrapped in [`Transient`](es_core::Transient), so that it is tried again for
/// ever and no event is put aside for it:
///
/// ```sql
/// INSERT INTO rooms (player, room, position) VALUES ($1, $2, $3)
/// ON CONFLICT (player) DO UPDATE SET room = excluded.room, position = excluded.position
///  WHERE rooms.position < excluded.position
/// ```
///
/// ```
/// use es_core::{BoxError, Event, Project, Projection, Recorded};
/// use es_projections::External;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Event, Serialize, Deserialize)]
/// # struct PlayerMoved {}
/// # #[derive(Clone)]
/// # struct SearchClient;
/// # impl SearchClient { async fn put(&self, _: uuid::Uuid, _: es_core::Position) -> Result<(), BoxError> { Ok(()) } }
///
/// #[derive(Projection)]
/// #[projection(name = "search", version = 1, events(PlayerMoved))]
/// struct Search { client: SearchClient }
///
/// impl Project<External> for Search {
///     async fn project(&self, _: &mut External, events: &[Recorded<SearchEvent>]) -> Result<(), BoxError> {
///         for Recorded { record, .. } in events {
///             self.client.put(record.aggregate_id, record.position).await?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct External;

/// A projection and the place it writes to, as the runner sees them.
pub(crate) trait Target<S: ProjectionStore>: Send + Sync + 'static {
    type Event: EventSet;
    const REPEATABLE: bool;

    fn id() -> ProjectionId;

    fn event_types() -> Vec<&'static str> {
        let types = Self::Event::EVENT_TYPES.iter();
        types.map(|event| event.name).collect()
    }

    /// Before anything is written: nothing is held.
    fn set_up_before(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
    /// In the transaction in which the projection becomes known.
    fn set_up(&self, db: &mut S::Connection) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Before the batch's transaction begins: `emit` says of which events the effects are wanted.
    fn before(
        &self,
        events: &[Recorded<Self::Event>],
        emit: &[&[Recorded<Self::Event>]],
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
    /// In the batch's transaction.
    fn inside(
        &self,
        db: &mut S::Connection,
        events: &[Recorded<Self::Event>],
        emit: &[&[Recorded<Self::Event>]],
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    fn activate(&self, db: &mut S::Connection)
    -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// The read model is in the store's database: each event takes effect exactly once.
pub(crate) struct Inside<P>(pub(crate) P);

impl<S: ProjectionStore, P: Project<S::Connection>> Target<S> for Inside<P> {
    type Event = P::Event;
    const REPEATABLE: bool = P::REPEATABLE;

    fn id() -> ProjectionId {
        ProjectionId::of::<P>()
    }

    async fn set_up_before(&self) -> Result<(), BoxError> {
        Ok(())
    }

    async fn set_up(&self, db: &mut S::Connection) -> Result<(), BoxError> {
        self.0.set_up(db).await
    }

    async fn before(
        &self,
        _: &[Recorded<P::Event>],
        _: &[&[Recorded<P::Event>]],
    ) -> Result<(), BoxError> {
        Ok(())
    }

    async fn inside(
        &self,
        db: &mut S::Connection,
        events: &[Recorded<P::Event>],
        emit: &[&[Recorded<P::Event>]],
    ) -> Result<(), BoxError> {
        self.0.project(db, events).await?;
        for events in emit {
            self.0.emit(db, events).await?;
        }
        Ok(())
    }

    async fn activate(&self, db: &mut S::Connection) -> Result<(), BoxError> {
        self.0.activate(db).await
    }
}

/// The read model is elsewhere: each event takes effect at least once.
pub(crate) struct Outside<P>(pub(crate) P);

impl<S: ProjectionStore, P: Project<External>> Target<S> for Outside<P> {
    type Event = P::Event;
    // It has to bear repetition anyway.
    const REPEATABLE: bool = true;

    fn id() -> ProjectionId {
        ProjectionId::of::<P>()
    }

    async fn set_up_before(&self) -> Result<(), BoxError> {
        self.0.set_up(&mut External).await
    }

    async fn set_up(&self, _: &mut S::Connection) -> Result<(), BoxError> {
        Ok(())
    }

    async fn before(
        &self,
        events: &[Recorded<P::Event>],
        emit: &[&[Recorded<P::Event>]],
    ) -> Result<(), BoxError> {
        self.0.project(&mut External, events).await?;
        for events in emit {
            self.0.emit(&mut External, events).await?;
        }
        Ok(())
    }

    async fn inside(
        &self,
        _: &mut S::Connection,
        _: &[Recorded<P::Event>],
        _: &[&[Recorded<P::Event>]],
    ) -> Result<(), BoxError> {
        Ok(())
    }

    async fn activate(&self, _: &mut S::Connection) -> Result<(), BoxError> {
        self.0.activate(&mut External).await
    }
}
