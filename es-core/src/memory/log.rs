//! The events and snapshots themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use crate::{
    Append, AppendError, Appended, EraseError, Event, ExpectedVersion, Filter, Json, LogPage,
    Metadata, Name, NewEvent, Position, RecordedEvent, Scan, Snapshot, StreamErased, StreamId,
    Version,
    append::{check, check_all},
};

/// All events in the order of their positions, which are 1, 2, 3 here.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: Vec<RecordedEvent>,
    by_id: HashMap<Uuid, usize>,
    streams: HashMap<Uuid, Stream>,
    snapshots: HashMap<Uuid, BTreeMap<Version, Snapshot>>,
    last_created_at: DateTime<Utc>,
}

#[derive(Debug)]
struct Stream {
    aggregate_type: Name,
    /// Where its events are in the log.
    events: Vec<usize>,
}

enum Admission {
    /// This very append was recorded before.
    Repeated(Appended),
    /// The stream is at this version and may grow.
    At(Version),
}

impl Log {
    pub(super) fn head(&self) -> Position {
        position_at(self.events.len())
    }

    pub(super) fn event_id_at(&self, position: Position) -> Option<Uuid> {
        let index = usize::try_from(position.get()).ok()?.checked_sub(1)?;
        self.events.get(index).map(|event| event.event_id)
    }

    pub(super) fn append(
        &mut self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        check(stream, events)?;
        match self.admit(stream, expected, events)? {
            Admission::Repeated(first) => Ok(first),
            Admission::At(actual) => Ok(self.record(stream, actual, events)),
        }
    }

    /// Decides about all of them before it records the first.
    pub(super) fn append_all(&mut self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        check_all(appends)?;
        let mut admitted = Vec::with_capacity(appends.len());
        let mut repeated = Vec::new();
        for append in appends {
            match self.admit(&append.stream, append.expected, &append.events)? {
                Admission::At(actual) => admitted.push((append, actual)),
                Admission::Repeated(first) => repeated.push((append, first)),
            }
        }
        match repeated.first() {
            None => {}
            Some(_) if admitted.is_empty() => {
                return Ok(repeated.into_iter().map(|(_, first)| first).collect());
            }
            Some((append, _)) => {
                return Err(AppendError::DuplicateId {
                    stream: append.stream.clone(),
                    event_id: append.events[0].event_id,
                });
            }
        }
        let record = |(append, actual): (&Append, Version)| {
            self.record(&append.stream, actual, &append.events)
        };
        Ok(admitted.into_iter().map(record).collect())
    }

    fn admit(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Admission, AppendError> {
        if let Some(first) = self.repetition(stream, expected, events) {
            return Ok(Admission::Repeated(first));
        }
        let known = self.streams.get(&stream.aggregate_id);
        if let Some(known) = known
            && known.aggregate_type != stream.aggregate_type
        {
            return Err(AppendError::OtherAggregateType {
                stream: stream.clone(),
                actual: known.aggregate_type.to_string(),
            });
        }
        if known.is_some_and(|known| self.tombstone(known).is_some()) {
            return Err(AppendError::Erased {
                stream: stream.clone(),
            });
        }
        let actual = known.map_or(Version::EMPTY, |known| version_at(known.events.len()));
        if !expected.accepts(actual) {
            return Err(AppendError::Conflict {
                stream: stream.clone(),
                expected,
                actual,
            });
        }
        if let Some(taken) = events.iter().find(|e| self.by_id.contains_key(&e.event_id)) {
            return Err(AppendError::DuplicateId {
                stream: stream.clone(),
                event_id: taken.event_id,
            });
        }
        if actual.after(events.len()).is_none() {
            return Err(AppendError::Invalid {
                stream: stream.clone(),
                reason: format!("a stream holds at most {} events", Version::MAX),
            });
        }
        Ok(Admission::At(actual))
    }

    pub(super) fn erase(
        &mut self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        let known = self
            .streams
            .get(&stream.aggregate_id)
            .filter(|known| known.aggregate_type == stream.aggregate_type)
            .ok_or_else(|| EraseError::NotFound {
                stream: stream.clone(),
            })?;
        if let Some(tombstone) = self.tombstone(known) {
            return Ok(Appended {
                version: tombstone.event_version,
                position: tombstone.position,
            });
        }
        let tombstone = NewEvent::encode(tombstone).map_err(|source| EraseError::Backend {
            stream: stream.clone(),
            transient: false,
            source: source.into(),
        })?;
        for index in &known.events {
            self.events[*index].event_data = Json::erased();
            self.events[*index].metadata = Metadata::default();
        }
        let actual = version_at(known.events.len());
        self.snapshots.remove(&stream.aggregate_id);
        Ok(self.record(stream, actual, &[tombstone]))
    }

    /// The last event of a stream that was erased.
    fn tombstone(&self, known: &Stream) -> Option<&RecordedEvent> {
        let last = &self.events[*known.events.last()?];
        (last.event_type == StreamErased::EVENT_TYPE).then_some(last)
    }

    /// The first result, if this very append was recorded before.
    fn repetition(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Option<Appended> {
        let known = self.streams.get(&stream.aggregate_id)?;
        let first = &self.events[*self.by_id.get(&events.first()?.event_id)?];
        let before = first.event_version.get().checked_sub(1)?;
        let in_place =
            first.stream() == *stream && expected.exact().is_none_or(|exact| exact.get() == before);
        let there = known.events.get(before as usize..)?.get(..events.len())?;
        let same = in_place
            && there
                .iter()
                .zip(events)
                .all(|(index, event)| self.events[*index].event_id == event.event_id);
        let last = &self.events[*there.last()?];
        same.then_some(Appended {
            version: last.event_version,
            position: last.position,
        })
    }

    fn record(&mut self, stream: &StreamId, before: Version, events: &[NewEvent]) -> Appended {
        let now = Utc::now().trunc_subsecs(6).max(self.last_created_at);
        self.last_created_at = now;
        let entry = self
            .streams
            .entry(stream.aggregate_id)
            .or_insert_with(|| Stream {
                aggregate_type: stream.aggregate_type.clone(),
                events: Vec::new(),
            });
        let mut version = before;
        for event in events {
            let index = self.events.len();
            entry.events.push(index);
            version = version_at(entry.events.len());
            self.by_id.insert(event.event_id, index);
            self.events.push(RecordedEvent {
                event_id: event.event_id,
                aggregate_id: stream.aggregate_id,
                aggregate_type: entry.aggregate_type.clone(),
                event_type: event.event_type.clone(),
                event_version: version,
                created_at: now,
                event_data: event.event_data.clone(),
                position: position_at(index + 1),
                schema_version: event.schema_version,
                metadata: event.metadata.clone(),
            });
        }
        Appended {
            version,
            position: self.head(),
        }
    }

    pub(super) fn stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Vec<RecordedEvent> {
        self.streams
            .get(&stream.aggregate_id)
            .filter(|known| known.aggregate_type == stream.aggregate_type)
            .into_iter()
            .flat_map(|known| known.events.iter().skip(after.get() as usize))
            .take(limit as usize)
            .map(|index| self.events[*index].clone())
            .collect()
    }

    pub(super) fn page(&self, filter: &Filter, after: Position, limit: u32) -> LogPage {
        let types: Option<HashSet<&str>> = match filter {
            Filter::All => None,
            Filter::EventTypes(types) => Some(types.iter().map(Name::as_str).collect()),
        };
        let start = usize::try_from(after.get()).unwrap_or(usize::MAX);
        let events: Vec<_> = self
            .events
            .iter()
            .skip(start)
            .filter(|event| {
                types
                    .as_ref()
                    .is_none_or(|types| types.contains(event.event_type.as_str()))
            })
            .take(limit as usize)
            .cloned()
            .collect();
        let covered = match events.last() {
            _ if limit == 0 => after,
            Some(last) if events.len() == limit as usize => last.position,
            _ => self.head().max(after),
        };
        LogPage { events, covered }
    }

    pub(super) fn scan(&self, scan: &Scan, limit: u32) -> Vec<RecordedEvent> {
        // Appended with a clock that never falls: log order is (created_at, position) order.
        self.events
            .iter()
            .filter(|event| event.event_type == scan.event_type)
            .filter(|event| scan.from.is_none_or(|from| event.created_at >= from))
            .filter(|event| scan.until.is_none_or(|until| event.created_at < until))
            .filter(|event| {
                scan.after
                    .is_none_or(|after| (event.created_at, event.position) > after)
            })
            .take(limit as usize)
            .cloned()
            .collect()
    }

    pub(super) fn snapshot(&self, stream: &StreamId, at_most: Version) -> Option<Snapshot> {
        let snapshots = self.snapshots.get(&stream.aggregate_id)?;
        let (_, newest) = snapshots.range(..=at_most).next_back()?;
        (newest.aggregate_type == stream.aggregate_type).then(|| newest.clone())
    }

    pub(super) fn keep_snapshot(&mut self, snapshot: &Snapshot) {
        let known = self.streams.get(&snapshot.aggregate_id);
        if known.is_some_and(|known| self.tombstone(known).is_some()) {
            return;
        }
        self.snapshots
            .entry(snapshot.aggregate_id)
            .or_default()
            .insert(snapshot.version, snapshot.clone());
    }
}

fn position_at(count: usize) -> Position {
    Position::new(count as u64)
}

/// `append` keeps every stream within `Version::MAX`.
fn version_at(count: usize) -> Version {
    Version::new(u32::try_from(count).unwrap_or(u32::MAX))
}
