//! The one way a history becomes a state.

use std::ops::ControlFlow;

use chrono::{DateTime, Utc};

use super::LoadError;
use crate::{
    Aggregate, Event, EventView, ReadError, SnapshotStore, SnapshotView, StreamErased, StreamId,
    StreamVisitor, Version, Visit,
};

/// How many events are in memory at once when they are read by time.
const PAGE: u32 = 1_000;

/// A point in an aggregate's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// With exactly this many events.
    Version(Version),
    /// With all events created at or before this time.
    Time(DateTime<Utc>),
}

impl From<Version> for At {
    fn from(version: Version) -> Self {
        Self::Version(version)
    }
}

impl From<DateTime<Utc>> for At {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time)
    }
}

/// A state, and how many events it is made of.
pub(super) struct Known<A> {
    pub(super) state: A,
    pub(super) version: Version,
}

/// What a snapshot of `A` must carry to be believed.
pub(super) fn fingerprint<A: Aggregate>() -> String {
    format!("{:016x}", A::STATE_FINGERPRINT)
}

pub(super) async fn latest<A: Aggregate>(
    store: &dyn SnapshotStore,
    stream: &StreamId,
    snapshot: bool,
) -> Result<Known<A>, LoadError> {
    let fold = Fold::new(stream);
    let visit = Visit {
        snapshot,
        ..Visit::all(stream.clone())
    };
    fold.visit(store, &visit).await?.finish()
}

pub(super) async fn at<A: Aggregate>(
    store: &dyn SnapshotStore,
    stream: &StreamId,
    at: At,
    snapshot: bool,
) -> Result<Known<A>, LoadError> {
    let fold = Fold::new(stream);
    match at {
        At::Time(time) => fold.read_until(store, time).await?.finish(),
        At::Version(Version::EMPTY) => fold.finish(),
        At::Version(wanted) => {
            let visit = Visit {
                at_most: wanted,
                snapshot,
                ..Visit::all(stream.clone())
            };
            let known = fold.visit(store, &visit).await?.finish()?;
            if known.version < wanted {
                return Err(LoadError::NoSuchVersion {
                    stream: stream.clone(),
                    wanted,
                    actual: known.version,
                });
            }
            Ok(known)
        }
    }
}

/// `known` with the events that were recorded since, or `None` if it is not of this history: its last
/// event is not there any more, as when the database was restored from a backup.
pub(super) async fn catch_up<A: Aggregate>(
    store: &dyn SnapshotStore,
    stream: &StreamId,
    known: Known<A>,
) -> Result<Option<Known<A>>, LoadError> {
    // Its last event is read again: an end that has not moved and one that moved back differ there.
    let before_last = known.version.get().saturating_sub(1);
    let visit = Visit {
        after: Version::new(before_last),
        ..Visit::all(stream.clone())
    };
    let mut tail = Tail {
        fold: Fold {
            version: known.version,
            state: Some(known.state),
            ..Fold::new(stream)
        },
        anchored: false,
    };
    let read = store.visit_stream(&visit, &mut tail).await;
    let fold = tail.fold.checked(read)?;
    tail.anchored.then(|| fold.finish()).transpose()
}

struct Fold<'a, A> {
    stream: &'a StreamId,
    state: Option<A>,
    version: Version,
    /// Why the fold stopped half-way.
    failed: Option<LoadError>,
}

impl<'a, A: Aggregate> Fold<'a, A> {
    fn new(stream: &'a StreamId) -> Self {
        Self {
            stream,
            state: None,
            version: Version::EMPTY,
            failed: None,
        }
    }

    async fn visit(mut self, store: &dyn SnapshotStore, visit: &Visit) -> Result<Self, LoadError> {
        let read = store.visit_stream(visit, &mut self).await;
        self.checked(read)
    }

    async fn read_until(
        mut self,
        store: &dyn SnapshotStore,
        time: DateTime<Utc>,
    ) -> Result<Self, LoadError> {
        loop {
            let page = store
                .read_stream(self.stream, self.version, PAGE)
                .await
                .map_err(|source| self.unreadable(source))?;
            for event in &page {
                if event.created_at > time {
                    return Ok(self);
                }
                self.apply(event.into())?;
            }
            if page.len() < PAGE as usize {
                return Ok(self);
            }
        }
    }

    fn apply(&mut self, stored: EventView<'_>) -> Result<(), LoadError> {
        let version = stored.version;
        if self.version.after(1) != Some(version) {
            return Err(self.unreadable(ReadError::Corrupt {
                what: format!("the history of `{}`", self.stream),
                problem: format!("event {version} follows event {}", self.version),
            }));
        }
        self.refuse_erased(stored)?;
        let event = stored.decode().map_err(|source| LoadError::Decode {
            stream: self.stream.clone(),
            version,
            source,
        })?;
        let placed = match &mut self.state {
            Some(state) => state.evolve(&event),
            None => A::begin(&event).map(|state| self.state = Some(state)),
        };
        placed.map_err(|source| LoadError::Misplaced {
            stream: self.stream.clone(),
            version,
            source,
        })?;
        self.version = version;
        Ok(())
    }

    /// An erased payload, or the tombstone: it is all that is left to see if the stream was erased right
    /// after its snapshot, or a page of it, was shown.
    fn refuse_erased(&self, stored: EventView<'_>) -> Result<(), LoadError> {
        if stored.is_erased() || stored.event_type == StreamErased::EVENT_TYPE {
            return Err(LoadError::Erased {
                stream: self.stream.clone(),
            });
        }
        Ok(())
    }

    fn unreadable(&self, source: ReadError) -> LoadError {
        LoadError::Read {
            stream: self.stream.clone(),
            source,
        }
    }

    /// A fold that failed ended the visit, and tells more than how the visit ended.
    fn checked(mut self, read: Result<(), ReadError>) -> Result<Self, LoadError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        read.map_err(|source| self.unreadable(source))?;
        Ok(self)
    }

    fn finish(self) -> Result<Known<A>, LoadError> {
        let version = self.version;
        self.state
            .map(|state| Known { state, version })
            .ok_or_else(|| LoadError::NotFound {
                stream: self.stream.clone(),
            })
    }
}

impl<A: Aggregate> StreamVisitor for Fold<'_, A> {
    /// In any doubt a snapshot is not believed.
    fn snapshot(&mut self, snapshot: SnapshotView<'_>) -> bool {
        let stream = self.stream;
        if snapshot.fingerprint != Some(fingerprint::<A>().as_str()) {
            tracing::debug!(%stream, "snapshot has another shape, replaying");
            return false;
        }
        let Ok(state) = serde_json::from_str(snapshot.state) else {
            tracing::warn!(%stream, version = %snapshot.version, "snapshot is unreadable, replaying");
            return false;
        };
        self.state = Some(state);
        self.version = snapshot.version;
        true
    }

    fn event(&mut self, event: EventView<'_>) -> ControlFlow<()> {
        match self.apply(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// A fold that goes on, if the stream still has its last event.
struct Tail<'a, A> {
    fold: Fold<'a, A>,
    anchored: bool,
}

impl<A: Aggregate> StreamVisitor for Tail<'_, A> {
    fn snapshot(&mut self, _: SnapshotView<'_>) -> bool {
        false
    }

    fn event(&mut self, event: EventView<'_>) -> ControlFlow<()> {
        if self.anchored {
            return self.fold.event(event);
        }
        if event.version != self.fold.version {
            return ControlFlow::Break(());
        }
        self.anchored = true;
        if let Err(error) = self.fold.refuse_erased(event) {
            self.fold.failed = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
