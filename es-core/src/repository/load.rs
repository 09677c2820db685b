//! The one way a history becomes a state.

use chrono::{DateTime, Utc};

use super::{AggregateStore, LoadError};
use crate::{Aggregate, ReadError, RecordedEvent, Root, StreamId, Version};

/// How many events are in memory at once.
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

/// What a snapshot of `A` must carry to be believed.
pub(super) fn fingerprint<A: Aggregate>() -> String {
    format!("{:016x}", A::STATE_FINGERPRINT)
}

pub(super) async fn latest<A: Aggregate>(
    store: &dyn AggregateStore,
    stream: StreamId,
    use_snapshot: bool,
) -> Result<Root<A>, LoadError> {
    let mut fold = Fold::<A>::new(stream);
    if use_snapshot {
        fold.begin_with_snapshot(store, Version::MAX).await?;
    }
    fold.read(store, |_| true).await?;
    fold.finish()
}

pub(super) async fn at<A: Aggregate>(
    store: &dyn AggregateStore,
    stream: StreamId,
    at: At,
    use_snapshot: bool,
) -> Result<Root<A>, LoadError> {
    let mut fold = Fold::<A>::new(stream);
    match at {
        At::Time(time) => fold.read(store, |event| event.created_at <= time).await?,
        At::Version(Version::EMPTY) => {}
        At::Version(wanted) => {
            if use_snapshot {
                fold.begin_with_snapshot(store, wanted).await?;
            }
            fold.read(store, |event| event.event_version <= wanted)
                .await?;
            if fold.version < wanted && fold.version != Version::EMPTY {
                return Err(LoadError::NoSuchVersion {
                    stream: fold.stream,
                    wanted,
                    actual: fold.version,
                });
            }
        }
    }
    fold.finish()
}

struct Fold<A> {
    stream: StreamId,
    state: Option<A>,
    version: Version,
}

impl<A: Aggregate> Fold<A> {
    fn new(stream: StreamId) -> Self {
        Self {
            stream,
            state: None,
            version: Version::EMPTY,
        }
    }

    /// Starts from the newest snapshot that can be believed: right shape, readable, and of an event
    /// that the log really has. In any doubt the fold starts from nothing.
    async fn begin_with_snapshot(
        &mut self,
        store: &dyn AggregateStore,
        at_most: Version,
    ) -> Result<(), LoadError> {
        // A snapshot that cannot be read is as good as none.
        let Ok(Some(snapshot)) = store.load_snapshot(&self.stream, at_most).await else {
            return Ok(());
        };
        let stream = &self.stream;
        if snapshot.fingerprint.as_deref() != Some(fingerprint::<A>().as_str()) {
            tracing::debug!(%stream, "snapshot has another shape, replaying");
            return Ok(());
        }
        let Ok(state) = snapshot.state.decode() else {
            tracing::warn!(%stream, version = %snapshot.version, "snapshot is unreadable, replaying");
            return Ok(());
        };
        let Some(before) = snapshot.version.get().checked_sub(1).map(Version::new) else {
            return Ok(());
        };
        let last = store
            .read_stream(stream, before, 1)
            .await
            .map_err(|source| self.read_failed(source))?;
        if last.first().map(|event| event.event_version) != Some(snapshot.version) {
            tracing::warn!(%stream, version = %snapshot.version, "snapshot is ahead of its stream, replaying");
            return Ok(());
        }
        self.state = Some(state);
        self.version = snapshot.version;
        Ok(())
    }

    async fn read(
        &mut self,
        store: &dyn AggregateStore,
        wanted: impl Fn(&RecordedEvent) -> bool,
    ) -> Result<(), LoadError> {
        loop {
            let page = store
                .read_stream(&self.stream, self.version, PAGE)
                .await
                .map_err(|source| self.read_failed(source))?;
            for event in &page {
                if !wanted(event) {
                    return Ok(());
                }
                self.apply(event)?;
            }
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    fn apply(&mut self, record: &RecordedEvent) -> Result<(), LoadError> {
        let version = record.event_version;
        if self.version.after(1) != Some(version) {
            return Err(self.read_failed(ReadError::Corrupt {
                what: format!("the history of `{}`", self.stream),
                problem: format!("event {version} follows event {}", self.version),
            }));
        }
        let event = record.decode().map_err(|source| LoadError::Decode {
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

    fn read_failed(&self, source: ReadError) -> LoadError {
        LoadError::Read {
            stream: self.stream.clone(),
            source,
        }
    }

    fn finish(self) -> Result<Root<A>, LoadError> {
        match self.state {
            Some(state) => Ok(Root::loaded(self.stream.aggregate_id, state, self.version)),
            None => Err(LoadError::NotFound {
                stream: self.stream,
            }),
        }
    }
}
