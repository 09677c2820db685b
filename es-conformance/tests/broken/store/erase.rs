//! Erasing with a mechanism taken out.

use chrono::{TimeDelta, Utc};
use es_core::{
    Appended, EraseError, EventStore, Json, Metadata, Position, RecordedEvent, StreamErased,
    StreamId, Version,
};

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    pub(super) async fn faulty_erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        let held = self.held(stream).await;
        match self.fault {
            Fault::ErasesTheWholeType => {
                for other in self.log().await {
                    self.inner.erase(&other.stream(), tombstone).await?;
                }
            }
            Fault::ErasesInTwoSteps => {
                self.show_instead(held, |event| {
                    event.event_data = Json::erased();
                    event.metadata = Metadata::default();
                });
                self.between_steps().await;
            }
            Fault::ErasesOnlyWhatItHadRead => {
                self.between_steps().await;
                let mut late = self.held(stream).await;
                late.retain(|event| !held.contains(event) && !event.is_erased());
                self.show_instead(late, |_| {});
            }
            Fault::ShowsErasedInStreams
            | Fault::ShowsErasedInTheLog
            | Fault::ShowsErasedInScans
            | Fault::ShowsErasedToVisitors => self.show_instead(held, |_| {}),
            Fault::KeepsErasedMetadata => {
                self.show_instead(held, |event| event.event_data = Json::erased());
            }
            Fault::TouchesTheTimeOfErased => self.show_instead(held, |event| {
                event.event_data = Json::erased();
                event.metadata = Metadata::default();
                event.created_at = Utc::now() + TimeDelta::microseconds(1);
            }),
            _ => {}
        }
        let mut answer = self.inner.erase(stream, tombstone).await;
        match (&mut answer, self.fault) {
            (Ok(answer), Fault::ErasesTwice) if !self.every_second_time() => {
                answer.position = Position::new(answer.position.get() + 1);
            }
            (Err(EraseError::NotFound { .. }), Fault::ErasesWhatIsNotThere) => {
                return Ok(Appended {
                    version: Version::EMPTY,
                    position: Position::START,
                });
            }
            _ => {}
        }
        answer
    }

    fn show_instead(&self, events: Vec<RecordedEvent>, change: impl Fn(&mut RecordedEvent)) {
        for mut event in events {
            change(&mut event);
            self.instead().insert(event.event_id, event);
        }
    }
}
