//! From a page of the log to what is to be done: decoded, or put aside, outside of any transaction.

use std::{collections::HashSet, sync::Arc};

use es_core::{
    DeadLetter, EventSet, Failure, FailureKind, LetterState, Marks, Position, ProjectionId,
    Recorded, RecordedEvent, shard_of,
};
use uuid::Uuid;

use crate::{OnFailure, Options, feed::Page};

/// What follows from a page.
#[derive(Debug)]
pub(crate) struct Work<E> {
    /// To apply, in order.
    pub(crate) events: Vec<Recorded<E>>,
    /// To put aside, by position.
    pub(crate) letters: Vec<DeadLetter>,
    /// Everything at or before it is in `events` or `letters`, or not this shard's concern.
    pub(crate) covered: Position,
    /// There may be more.
    pub(crate) full: bool,
    /// What stands right after `covered` and stops the projection.
    pub(crate) blocked: Option<Failure>,
    /// Of the events' content.
    pub(crate) bytes: usize,
    /// Aggregates that were parked before.
    parked: Arc<HashSet<Uuid>>,
}

impl<E> Work<E> {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.letters.is_empty()
    }

    /// Aggregates that are parked when nothing at or after `position` is done yet.
    pub(crate) fn parked_before(&self, position: Position) -> Arc<HashSet<Uuid>> {
        let mut parked = Arc::clone(&self.parked);
        let stored = self
            .letters
            .iter()
            .take_while(|letter| letter.position < position);
        for letter in stored.filter(|letter| letter.state == LetterState::Parked) {
            if !parked.contains(&letter.stream.aggregate_id) {
                Arc::make_mut(&mut parked).insert(letter.stream.aggregate_id);
            }
        }
        parked
    }
}

/// Knows which events are this shard's, which of them are done, and what to do with the unreadable.
#[derive(Debug, Clone)]
pub(crate) struct Sorter {
    pub(crate) projection: ProjectionId,
    pub(crate) index: u32,
    pub(crate) shards: u32,
    /// Applied before the projection was divided as it is now.
    pub(crate) applied: Marks,
    /// Of the events beyond it effects are emitted; `None` if of none.
    pub(crate) silent: Option<Marks>,
    /// Aggregates whose events are put aside.
    pub(crate) parked: Arc<HashSet<Uuid>>,
    /// Nothing beyond it may be applied yet.
    pub(crate) bound: Option<Position>,
    pub(crate) options: Arc<Options>,
}

impl Sorter {
    /// Sorts a page that was read after `after`.
    pub(crate) fn sort<E: EventSet>(&mut self, page: Page, after: Position) -> Work<E> {
        let mut work = Work {
            events: Vec::with_capacity(page.events.len()),
            letters: Vec::new(),
            covered: page.covered,
            full: page.full,
            blocked: None,
            bytes: 0,
            parked: Arc::clone(&self.parked),
        };
        let mut passed = after;
        for record in page.events {
            let position = record.position;
            let size = record.event_data.as_str().len();
            let enough = !work.events.is_empty() && work.bytes + size > self.options.batch_bytes;
            if enough || self.bound.is_some_and(|bound| position > bound) {
                work.covered = passed;
                work.full = true;
                break;
            }
            if self.is_mine(&record)
                && let Err(failure) = self.place(Arc::unwrap_or_clone(record), &mut work)
            {
                work.blocked = Some(failure);
                work.covered = passed;
                break;
            }
            work.bytes += size;
            passed = position;
        }
        if let Some(bound) = self.bound {
            work.covered = work.covered.min(bound).max(after);
        }
        work
    }

    fn is_mine(&self, record: &RecordedEvent) -> bool {
        // There is nothing left to apply of what was erased; who lists `StreamErased` is told by the
        // tombstone.
        !record.is_erased()
            && (self.shards <= 1 || shard_of(record.aggregate_id, self.shards) == self.index)
            && !self.applied.cover(record.aggregate_id, record.position)
    }

    fn place<E: EventSet>(
        &mut self,
        record: RecordedEvent,
        work: &mut Work<E>,
    ) -> Result<(), Failure> {
        if self.parked.contains(&record.aggregate_id) {
            let behind = Failure::new(FailureKind::Behind, "it waits for its turn").at(&record);
            work.letters
                .push(self.letter(&record, LetterState::Parked, behind, 0));
            return Ok(());
        }
        let error = match record.decode::<E>() {
            Ok(event) => {
                work.events.push(Recorded { event, record });
                return Ok(());
            }
            Err(error) => error,
        };
        let failure = Failure::decode(&error).at(&record);
        let policy = match failure.kind {
            FailureKind::UnknownType | FailureKind::NewerSchema => self.options.on_unknown,
            _ => self.options.on_undecodable,
        };
        let state = self.set_aside(&record, policy, failure.clone())?;
        work.letters.push(self.letter(&record, state, failure, 1));
        Ok(())
    }

    /// What becomes of an event that cannot be applied, or the failure that stops the projection.
    pub(crate) fn set_aside(
        &mut self,
        record: &RecordedEvent,
        policy: OnFailure,
        failure: Failure,
    ) -> Result<LetterState, Failure> {
        match policy {
            OnFailure::Stop => Err(failure),
            OnFailure::Skip => Ok(LetterState::Skipped),
            OnFailure::Park if self.parked.len() >= self.options.parked_limit as usize => {
                let message = format!(
                    "{} aggregates are parked already, and now: {failure}",
                    self.parked.len()
                );
                Err(Failure::new(FailureKind::TooManyParked, message).at(record))
            }
            OnFailure::Park => {
                Arc::make_mut(&mut self.parked).insert(record.aggregate_id);
                Ok(LetterState::Parked)
            }
        }
    }

    pub(crate) fn letter(
        &self,
        record: &RecordedEvent,
        state: LetterState,
        failure: Failure,
        attempts: u32,
    ) -> DeadLetter {
        let projection = self.projection.clone();
        let emits = self
            .silent
            .as_ref()
            .is_some_and(|silent| !silent.cover(record.aggregate_id, record.position));
        let mut letter = DeadLetter::new(projection, record, state, failure, attempts);
        letter.owed = emits && state == LetterState::Parked;
        letter
    }
}
