//! The dead letters.

use std::collections::BTreeMap;

use chrono::{SubsecRound, Utc};
use uuid::Uuid;

use crate::{DeadLetter, LetterState, Letters, Parked, Position, ProjectionId};

/// In the order in which they are listed.
#[derive(Debug, Default, Clone)]
pub(super) struct DeadLetters(BTreeMap<(Position, ProjectionId, Uuid), DeadLetter>);

impl DeadLetters {
    pub(super) fn put(&mut self, letter: &DeadLetter) {
        let now = Utc::now().trunc_subsecs(6);
        let key = (letter.position, letter.projection.clone(), letter.event_id);
        let row = self.0.entry(key).or_insert_with(|| DeadLetter {
            since: now,
            ..letter.clone()
        });
        row.state = letter.state;
        row.failure = letter.failure.clone();
        row.attempts = letter.attempts;
        row.retry = letter.retry;
        row.owed = letter.owed;
        row.tried = now;
    }

    pub(super) fn retry(&mut self, projection: &ProjectionId, aggregate_id: Option<Uuid>) -> u64 {
        let parked = self
            .0
            .values_mut()
            .filter(|letter| letter.projection == *projection)
            .filter(|letter| letter.state == LetterState::Parked)
            .filter(|letter| aggregate_id.is_none_or(|id| letter.stream.aggregate_id == id));
        let mut count = 0;
        for letter in parked {
            letter.retry = true;
            count += 1;
        }
        count
    }

    pub(super) fn remove(&mut self, projection: &ProjectionId, event_ids: Option<&[Uuid]>) -> u64 {
        let before = self.0.len();
        self.0.retain(|_, letter| {
            let named = event_ids.is_none_or(|ids| ids.contains(&letter.event_id));
            letter.projection != *projection || !named
        });
        (before - self.0.len()) as u64
    }

    pub(super) fn list(&self, wanted: &Letters, limit: u32) -> Vec<DeadLetter> {
        fn matches<T: PartialEq>(wanted: Option<&T>, actual: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == actual)
        }
        let mut found: Vec<DeadLetter> = Vec::new();
        let letters = self
            .0
            .values()
            .filter(|letter| letter.position > wanted.after)
            .filter(|letter| {
                matches(wanted.projection.as_ref(), &letter.projection)
                    && matches(wanted.aggregate_id.as_ref(), &letter.stream.aggregate_id)
                    && matches(wanted.state.as_ref(), &letter.state)
            });
        for letter in letters {
            let full = found.len() >= limit as usize;
            if full
                && found
                    .last()
                    .is_none_or(|last| last.position != letter.position)
            {
                break;
            }
            found.push(letter.clone());
        }
        found
    }

    pub(super) fn parked(&self, projection: &ProjectionId, limit: u32) -> Vec<Parked> {
        let mut aggregates = BTreeMap::new();
        for letter in self.0.values() {
            if letter.projection == *projection && letter.state == LetterState::Parked {
                *aggregates.entry(letter.stream.aggregate_id).or_default() |= letter.retry;
            }
        }
        aggregates
            .into_iter()
            .take(limit as usize)
            .map(|(aggregate_id, retry)| Parked {
                aggregate_id,
                retry,
            })
            .collect()
    }
}
