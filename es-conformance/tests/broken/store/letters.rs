//! Dead letters with a mechanism taken out.

use es_core::{DeadLetter, Letters, Parked, Position, ProjectionId, ProjectionStore, ReadError};

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    pub(super) async fn faulty_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let mut wanted = letters.clone();
        let mut limit = limit;
        match self.fault {
            Fault::IgnoresTheProjectionOfLetters => wanted.projection = None,
            Fault::IgnoresTheAggregateOfLetters => wanted.aggregate_id = None,
            Fault::IgnoresTheStateOfLetters => wanted.state = None,
            Fault::IgnoresTheEndOfThePage => wanted.after = Position::START,
            Fault::ListsOneLetterMore => limit += 1,
            _ => {}
        }
        let mut letters = self.inner.dead_letters(&wanted, limit).await?;
        if self.fault == Fault::ListsLettersBackwards {
            letters.reverse();
        }
        let as_put = self.letters_as_put();
        for letter in &mut letters {
            match (self.fault, as_put.get(&letter.event_id)) {
                (Fault::BelievesTheTimes, Some(put)) => {
                    letter.since = put.since;
                    letter.tried = put.tried;
                }
                (Fault::RenewsLetters, _) => letter.since = letter.tried,
                _ => {}
            }
        }
        Ok(letters)
    }

    pub(super) async fn faulty_parked(
        &self,
        projection: &ProjectionId,
        limit: u32,
    ) -> Result<Vec<Parked>, ReadError> {
        let mut parked = self.inner.parked(projection, limit).await?;
        match self.fault {
            Fault::ForgetsTheRetry => parked.iter_mut().for_each(|parked| parked.retry = false),
            Fault::ParksTheSkipped => {
                let all = Letters::of(projection.clone());
                for letter in self.inner.dead_letters(&all, limit).await? {
                    let aggregate_id = letter.stream.aggregate_id;
                    if parked
                        .iter()
                        .all(|known| known.aggregate_id != aggregate_id)
                    {
                        parked.push(Parked {
                            aggregate_id,
                            retry: letter.retry,
                        });
                    }
                }
                parked.sort_unstable_by_key(|parked| parked.aggregate_id);
            }
            _ => {}
        }
        Ok(parked)
    }
}
