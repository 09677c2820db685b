//! A loaded aggregate with the events that are not saved yet.

use std::{fmt, ops::Deref};

use uuid::Uuid;

use crate::{
    Aggregate, Append, Appended, Apply, Event, ExpectedVersion, NewEvent, SaveError, Start,
    StreamId, Version,
};

/// An aggregate in hand: its state, its version, and its uncommitted events.
///
/// Reads like the aggregate itself (`player.health`). [`raise`](Self::raise) changes it; only
/// [`Repository::save`](crate::Repository::save) makes the change last.
#[doc(alias = "AggregateRoot")]
pub struct Root<A: Aggregate> {
    id: Uuid,
    state: A,
    committed: Version,
    uncommitted: Vec<Uncommitted<A::Event>>,
}

/// An event that was raised and not saved. Its id is fixed here, so that a save can be repeated.
struct Uncommitted<E> {
    event_id: Uuid,
    event: E,
}

impl<E> Uncommitted<E> {
    fn new(event: E) -> Self {
        Self {
            event_id: Uuid::now_v7(),
            event,
        }
    }
}

impl<A: Aggregate> Root<A> {
    /// A new aggregate that begins with `event` and is not saved yet.
    #[must_use]
    pub fn start<E>(id: Uuid, event: E) -> Self
    where
        A: Start<E>,
        E: Event + Into<A::Event>,
    {
        Self {
            id,
            state: A::start(&event),
            committed: Version::EMPTY,
            uncommitted: vec![Uncommitted::new(event.into())],
        }
    }

    pub(crate) fn loaded(id: Uuid, state: A, version: Version) -> Self {
        Self {
            id,
            state,
            committed: version,
            uncommitted: Vec::new(),
        }
    }

    /// Lets `event` happen: changes the state and keeps the event for the next save.
    pub fn raise<E>(&mut self, event: E)
    where
        A: Apply<E>,
        E: Event + Into<A::Event>,
    {
        self.state.apply(&event);
        self.uncommitted.push(Uncommitted::new(event.into()));
    }

    /// The aggregate's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The aggregate's stream.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        StreamId::new(A::AGGREGATE_TYPE, self.id)
    }

    /// The state with all events, saved or not.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Takes the state out; uncommitted events are dropped.
    #[must_use]
    pub fn into_state(self) -> A {
        self.state
    }

    /// How many events are saved.
    #[must_use]
    pub fn version(&self) -> Version {
        self.committed
    }

    /// The events that are not saved yet, oldest first.
    pub fn uncommitted(&self) -> impl ExactSizeIterator<Item = &A::Event> {
        self.uncommitted.iter().map(|pending| &pending.event)
    }

    /// The uncommitted events as they are appended, with the ids they had from the start: for a
    /// transaction of the program. Tell the root with [`committed`](Self::committed) when the transaction
    /// has come through.
    ///
    /// # Errors
    ///
    /// [`SaveError::Encode`] and [`SaveError::Unreadable`].
    pub fn to_append(&self) -> Result<Append, SaveError> {
        let stream = self.stream();
        let mut events = Vec::with_capacity(self.uncommitted.len());
        for pending in &self.uncommitted {
            let mut event =
                NewEvent::encode_set(&pending.event).map_err(|source| SaveError::Encode {
                    stream: stream.clone(),
                    source,
                })?;
            event
                .read_back::<A::Event>()
                .map_err(|source| SaveError::Unreadable {
                    stream: stream.clone(),
                    source,
                })?;
            event.event_id = pending.event_id;
            events.push(event);
        }
        let expected = match self.committed {
            Version::EMPTY => ExpectedVersion::NoStream,
            version => ExpectedVersion::Exact(version),
        };
        Ok(Append::new(stream, expected, events))
    }

    /// The one place where uncommitted events leave: after the commit of what [`to_append`](Self::to_append)
    /// gave, and not before. [`Repository::save`](crate::Repository::save) does this by itself.
    pub fn committed(&mut self, appended: Appended) {
        self.committed = appended.version;
        self.uncommitted.clear();
    }
}

impl<A: Aggregate> Deref for Root<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.state
    }
}

impl<A: Aggregate + fmt::Debug> fmt::Debug for Root<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("id", &self.id)
            .field("version", &self.committed)
            .field("state", &self.state)
            .field("uncommitted", &self.uncommitted.len())
            .finish()
    }
}
