//! The repository: load, decide, append; again on a conflict.

mod cache;
mod error;
mod load;
mod snapshots;
mod together;
mod update;

use std::{num::NonZeroU32, sync::Arc};

use uuid::Uuid;

pub use self::cache::AggregateCache;
use self::cache::Slots;
pub use self::error::{LoadError, SaveError, UpdateError};
pub use self::load::At;
use self::load::Known;
pub use self::together::{AnyRoot, save_all};
use crate::{
    Aggregate, Append, Appended, Event, Handle, IntoEvents, Root, SnapshotStore, Start, StreamId,
};

/// Loads and saves aggregates of one kind. Cheap to clone.
///
/// See the [front page](crate) for an example.
#[derive(Debug)]
pub struct Repository<A: Aggregate> {
    store: Arc<dyn SnapshotStore>,
    slots: Arc<Slots<A>>,
    snapshot_every: Option<NonZeroU32>,
    retries: u32,
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            slots: Arc::clone(&self.slots),
            ..*self
        }
    }
}

impl<A: Aggregate> Repository<A> {
    /// A repository that keeps recent aggregates in memory, takes no snapshots, and retries a conflict
    /// up to 20 times.
    #[must_use]
    pub fn new(store: impl SnapshotStore + 'static) -> Self {
        Self {
            store: Arc::new(store),
            slots: Arc::new(Slots::new(AggregateCache::new())),
            snapshot_every: None,
            retries: 20,
        }
    }

    /// How much is kept in memory between commands, if anything; see there for what it costs.
    #[must_use]
    pub fn cache(mut self, size: AggregateCache) -> Self {
        self.slots = Arc::new(Slots::new(size));
        self
    }

    /// Keeps a snapshot each time a save crosses a multiple of `events`, and loads from the newest
    /// one. Zero means never.
    #[must_use]
    pub fn snapshot_every(mut self, events: u32) -> Self {
        self.snapshot_every = NonZeroU32::new(events);
        self
    }

    /// How often [`update`](Self::update) and [`execute`](Self::execute) decide again after a
    /// conflict before they give up. There is no pause but to read what is new. A conflict that only
    /// tells that what was [kept in memory](Self::cache) is old does not count.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The stream of one aggregate.
    #[must_use]
    pub fn stream(&self, id: Uuid) -> StreamId {
        StreamId::new(A::AGGREGATE_TYPE, id)
    }

    /// Begins a history. Refused with a conflict if the aggregate exists.
    ///
    /// # Errors
    ///
    /// [`SaveError::Append`]; nothing was recorded unless the backend failed while committing.
    pub async fn create<E>(&self, id: Uuid, event: E) -> Result<Appended, SaveError>
    where
        A: Start<E>,
        E: Event + Into<A::Event>,
    {
        let mut root = Root::<A>::start(id, event);
        self.commit(&mut root).await
    }

    /// The aggregate as it is now.
    ///
    /// # Errors
    ///
    /// [`LoadError::NotFound`] if it has no events; see [`LoadError`] for the rest.
    pub async fn load(&self, id: Uuid) -> Result<Root<A>, LoadError> {
        let Known { state, version } = self.read(&self.stream(id)).await?;
        Ok(Root::loaded(id, state, version))
    }

    /// The aggregate as it was: at a [`Version`](crate::Version), or at a time (with all events created
    /// at or before it).
    ///
    /// # Errors
    ///
    /// [`LoadError::NotFound`] if it did not exist then; [`LoadError::NoSuchVersion`] if it never
    /// had that many events.
    pub async fn load_at(&self, id: Uuid, at: impl Into<At>) -> Result<Root<A>, LoadError> {
        let snapshot = self.snapshot_every.is_some();
        let Known { state, version } =
            load::at(&*self.store, &self.stream(id), at.into(), snapshot).await?;
        Ok(Root::loaded(id, state, version))
    }

    /// Lets `decide` choose what happens to the aggregate as it is now, and appends it. If another
    /// writer was faster it decides again on what is there then. Returns `None` if nothing was decided.
    ///
    /// Commands on one aggregate through this repository and its clones run one after the other, in
    /// the order in which they came; the others run beside them. A command that was begun holds its
    /// place until it is awaited to its end or dropped: do not wait for another on the same aggregate
    /// in between. A dropped command has recorded all of its events or none.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Rejected`] carries `decide`'s own error. After the last retry the conflict
    /// itself is returned.
    pub async fn update<I, E, F>(
        &self,
        id: Uuid,
        decide: F,
    ) -> Result<Option<Appended>, UpdateError<E>>
    where
        F: FnMut(&A) -> Result<I, E>,
        I: IntoEvents<A>,
    {
        self.run(id, decide).await
    }

    /// [`update`](Self::update) through a command type and its [`Handle`]r.
    ///
    /// # Errors
    ///
    /// As `update`.
    pub async fn execute<C>(
        &self,
        id: Uuid,
        command: C,
    ) -> Result<Option<Appended>, UpdateError<A::Error>>
    where
        A: Handle<C>,
    {
        self.update(id, |state| state.handle(&command)).await
    }

    /// Appends the uncommitted events of `root`. They leave it only after the commit: a failed save
    /// can be repeated, and repeating one whose answer was lost is safe. Returns `None` if there is
    /// nothing to save.
    ///
    /// # Errors
    ///
    /// See [`SaveError`]. A conflict means that `root` is out of date: load again.
    pub async fn save(&self, root: &mut Root<A>) -> Result<Option<Appended>, SaveError> {
        if root.uncommitted().len() == 0 {
            return Ok(None);
        }
        self.commit(root).await.map(Some)
    }

    async fn commit(&self, root: &mut Root<A>) -> Result<Appended, SaveError> {
        let before = root.version();
        let Append {
            stream,
            expected,
            events,
        } = root.to_append()?;
        let appended = self.store.append(&stream, expected, &events).await?;
        root.committed(appended);
        if self.is_due(before, appended.version) {
            // Of the state as it is read, which is what a snapshot stands for. No command fails for it.
            if let Ok(Known { state, version }) = self.read(&stream).await {
                let snapshot = self.due_snapshot(&stream, before, version, &state);
                self.keep_snapshot(snapshot).await;
            }
        }
        Ok(appended)
    }
}
