//! Reading one stream without making a record of each event: what loading an aggregate stands on.

use std::{fmt, ops::ControlFlow};

use crate::{
    DecodeError, EventSet, ReadError, RecordedEvent, SnapshotStore, StreamId, Version, erasure,
};

/// How many events are in memory at once.
const PAGE: u32 = 1_000;

/// Which part of a stream to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The stream.
    pub stream: StreamId,
    /// Events above this version.
    pub after: Version,
    /// Events up to this version.
    pub at_most: Version,
    /// Whether to offer the newest snapshot of that range first.
    pub snapshot: bool,
}

impl Visit {
    /// The whole stream, from its first event.
    #[must_use]
    pub fn all(stream: StreamId) -> Self {
        Self {
            stream,
            after: Version::EMPTY,
            at_most: Version::MAX,
            snapshot: false,
        }
    }
}

/// Receives a stream: perhaps a snapshot, then events by version without a hole.
pub trait StreamVisitor: Send {
    /// Offers the newest snapshot, at most once, before the events. Answers whether it is believed:
    /// then the events after it follow, else all that were asked for.
    fn snapshot(&mut self, snapshot: SnapshotView<'_>) -> bool;

    /// The next event. `Break` ends the visit.
    fn event(&mut self, event: EventView<'_>) -> ControlFlow<()>;
}

/// A stored event as the fold sees it, borrowed from where the backend has it.
#[derive(Clone, Copy)]
pub struct EventView<'a> {
    /// Its place in the stream.
    pub version: Version,
    /// The stored name.
    pub event_type: &'a str,
    /// The version of the stored shape.
    pub schema_version: u32,
    /// Its content, as JSON text.
    pub data: &'a str,
}

impl EventView<'_> {
    /// Whether its content was erased.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.data == erasure::ERASED
    }

    /// Its content as one of the events of `S`.
    ///
    /// # Errors
    ///
    /// As [`RecordedEvent::decode`].
    pub fn decode<S: EventSet>(&self) -> Result<S, DecodeError> {
        if self.is_erased() {
            return Err(DecodeError::Erased {
                event_type: self.event_type.to_owned(),
            });
        }
        S::decode(self.event_type, self.schema_version, self.data)
    }
}

impl<'a> From<&'a RecordedEvent> for EventView<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self {
            version: event.event_version,
            event_type: &event.event_type,
            schema_version: event.schema_version,
            data: event.event_data.as_str(),
        }
    }
}

/// A stored snapshot as the fold sees it.
#[derive(Clone, Copy)]
pub struct SnapshotView<'a> {
    /// The version it was taken at. The stream has an event of this version.
    pub version: Version,
    /// The shape of the state.
    pub fingerprint: Option<&'a str>,
    /// The state, as JSON text.
    pub state: &'a str,
}

/// Content does not belong in logs.
impl fmt::Debug for EventView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventView")
            .field("version", &self.version)
            .field("event_type", &self.event_type)
            .field("schema_version", &self.schema_version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SnapshotView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotView")
            .field("version", &self.version)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A visit through the port's other methods: right for every backend, with a round trip for each step.
pub(crate) async fn by_pages<S: SnapshotStore + ?Sized>(
    store: &S,
    visit: &Visit,
    visitor: &mut dyn StreamVisitor,
) -> Result<(), ReadError> {
    let mut at = visit.after;
    if visit.snapshot
        && let Some(version) = offer_snapshot(store, visit, visitor).await?
    {
        at = version;
    }
    while at < visit.at_most {
        let page = store.read_stream(&visit.stream, at, PAGE).await?;
        for event in &page {
            if event.event_version > visit.at_most || visitor.event(event.into()).is_break() {
                return Ok(());
            }
            at = event.event_version;
        }
        if page.len() < PAGE as usize {
            return Ok(());
        }
    }
    Ok(())
}

/// The version of the snapshot that was believed.
async fn offer_snapshot<S: SnapshotStore + ?Sized>(
    store: &S,
    visit: &Visit,
    visitor: &mut dyn StreamVisitor,
) -> Result<Option<Version>, ReadError> {
    // A snapshot that cannot be read is as good as none.
    let found = store.load_snapshot(&visit.stream, visit.at_most).await;
    let Some(snapshot) = found.ok().flatten() else {
        return Ok(None);
    };
    let Some(before) = snapshot.version.get().checked_sub(1).map(Version::new) else {
        return Ok(None);
    };
    if snapshot.version <= visit.after {
        return Ok(None);
    }
    // One that is ahead of its stream tells of another history.
    let last = store.read_stream(&visit.stream, before, 1).await?;
    if last.first().map(|event| event.event_version) != Some(snapshot.version) {
        return Ok(None);
    }
    let believed = visitor.snapshot(SnapshotView {
        version: snapshot.version,
        fingerprint: snapshot.fingerprint.as_deref(),
        state: snapshot.state.as_str(),
    });
    Ok(believed.then_some(snapshot.version))
}
