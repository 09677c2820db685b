//! The repository: load, decide, append; again on a conflict.

mod error;
mod load;

use std::{marker::PhantomData, num::NonZeroU32, sync::Arc};

use chrono::Utc;
use uuid::Uuid;

pub use self::error::{LoadError, SaveError, UpdateError};
pub use self::load::At;
use crate::{
    Aggregate, AppendError, Appended, Chain, Event, EventStore, ExpectedVersion, Handle,
    IntoEvents, Json, NewEvent, Root, Snapshot, SnapshotStore, Start, StreamId, Version,
};

/// Loads and saves aggregates of one kind. Cheap to clone.
///
/// See the [front page](crate) for an example.
#[derive(Debug)]
pub struct Repository<A: Aggregate> {
    store: Arc<dyn AggregateStore>,
    snapshot_every: Option<NonZeroU32>,
    retries: u32,
    aggregate: PhantomData<fn() -> A>,
}

/// What a repository needs of a store.
trait AggregateStore: EventStore + SnapshotStore {}
impl<S: EventStore + SnapshotStore> AggregateStore for S {}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            ..*self
        }
    }
}

impl<A: Aggregate> Repository<A> {
    /// A repository without snapshots that retries a conflict up to 20 times.
    #[must_use]
    pub fn new(store: impl EventStore + SnapshotStore + 'static) -> Self {
        Self {
            store: Arc::new(store),
            snapshot_every: None,
            retries: 20,
            aggregate: PhantomData,
        }
    }

    /// Keeps a snapshot each time a save crosses a multiple of `events`, and loads from the newest
    /// one. Zero means never.
    #[must_use]
    pub fn snapshot_every(mut self, events: u32) -> Self {
        self.snapshot_every = NonZeroU32::new(events);
        self
    }

    /// How often [`update`](Self::update) and [`execute`](Self::execute) decide again after a
    /// conflict before they give up. There is no pause but the reload.
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
        load::latest(&*self.store, self.stream(id), self.snapshot_every.is_some()).await
    }

    /// The aggregate as it was: at a [`Version`], or at a time (with all events created at or before
    /// it).
    ///
    /// # Errors
    ///
    /// [`LoadError::NotFound`] if it did not exist then; [`LoadError::NoSuchVersion`] if it never
    /// had that many events.
    pub async fn load_at(&self, id: Uuid, at: impl Into<At>) -> Result<Root<A>, LoadError> {
        load::at(
            &*self.store,
            self.stream(id),
            at.into(),
            self.snapshot_every.is_some(),
        )
        .await
    }

    /// Loads, lets `decide` choose what happens, and appends it. If another writer was faster it
    /// loads and decides again. Returns `None` if nothing was decided.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Rejected`] carries `decide`'s own error. After the last retry the conflict
    /// itself is returned.
    pub async fn update<I, E, F>(
        &self,
        id: Uuid,
        mut decide: F,
    ) -> Result<Option<Appended>, UpdateError<E>>
    where
        F: FnMut(&A) -> Result<I, E>,
        I: IntoEvents<A>,
    {
        let mut attempt = 0;
        loop {
            let mut root = self.load(id).await?;
            let events = decide(root.state())
                .map_err(UpdateError::Rejected)?
                .into_events();
            for event in events {
                root.raise_any(event)
                    .map_err(|source| SaveError::Misplaced {
                        stream: self.stream(id),
                        source,
                    })?;
            }
            match self.save(&mut root).await {
                Err(SaveError::Append(AppendError::Conflict { .. })) if attempt < self.retries => {
                    attempt += 1;
                    tracing::debug!(stream = %root.stream(), attempt, "conflict, deciding again");
                }
                result => return Ok(result?),
            }
        }
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
        if root.pending().is_empty() {
            return Ok(None);
        }
        self.commit(root).await.map(Some)
    }

    async fn commit(&self, root: &mut Root<A>) -> Result<Appended, SaveError> {
        let stream = root.stream();
        let before = root.version();
        let mut events = Vec::with_capacity(root.pending().len());
        for pending in root.pending() {
            let mut event =
                NewEvent::encode_set(&pending.event).map_err(|source| SaveError::Encode {
                    stream: stream.clone(),
                    source,
                })?;
            event.event_id = pending.event_id;
            events.push(event);
        }
        let expected = match before {
            Version::EMPTY => ExpectedVersion::NoStream,
            version => ExpectedVersion::Exact(version),
        };
        let appended = self.store.append(&stream, expected, &events).await?;
        root.committed_at(appended.version);
        if self.crosses_snapshot(before, appended.version) {
            self.snapshot(root).await;
        }
        Ok(appended)
    }

    fn crosses_snapshot(&self, before: Version, after: Version) -> bool {
        self.snapshot_every
            .is_some_and(|every| before.get() / every < after.get() / every)
    }

    /// Never fails the command: the events are recorded, and a snapshot is only a cache.
    async fn snapshot(&self, root: &Root<A>) {
        let stream = root.stream();
        let state = match Json::encode(root.state()) {
            Ok(state) => state,
            Err(error) => {
                let error = crate::json::describe(&error);
                tracing::warn!(%stream, error, "state cannot be encoded, no snapshot");
                return;
            }
        };
        let snapshot = Snapshot {
            snapshot_id: Uuid::now_v7(),
            aggregate_id: stream.aggregate_id,
            aggregate_type: stream.aggregate_type,
            version: root.version(),
            created_at: Utc::now(),
            state,
            fingerprint: Some(load::fingerprint::<A>()),
        };
        if let Err(error) = self.store.save_snapshot(&snapshot).await {
            tracing::warn!(stream = %root.stream(), error = %Chain(&error), "snapshot not saved");
        }
    }
}
