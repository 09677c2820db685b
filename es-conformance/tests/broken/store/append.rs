//! Appending to one stream with a mechanism taken out.

use std::collections::HashSet;

use es_core::{
    AppendError, Appended, EventStore, ExpectedVersion, Json, Metadata, Name, NewEvent, Position,
    StreamErased, StreamId, Version,
};
use uuid::Uuid;

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    pub(super) async fn faulty_append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        match self.fault {
            Fault::IgnoresExpectedVersion => {
                let any = ExpectedVersion::Any;
                self.inner.append(stream, any, events).await
            }
            Fault::TakesAnyForNoStream if expected == ExpectedVersion::Any => {
                let none = ExpectedVersion::NoStream;
                self.inner.append(stream, none, events).await
            }
            Fault::AllowsEmptyAppends if events.is_empty() => Ok(Appended {
                version: Version::EMPTY,
                position: Position::START,
            }),
            Fault::IgnoresTheAggregateType => {
                let owner = self.owner(stream).await;
                self.inner.append(&owner, expected, events).await
            }
            Fault::AppendsHalf if events.len() > 1 => {
                let half = self.every_second_time();
                let kept = if half { events.len() / 2 } else { events.len() };
                self.inner.append(stream, expected, &events[..kept]).await
            }
            Fault::AppendsInTwoSteps if events.len() > 1 => {
                self.append_in_two_steps(stream, expected, events).await
            }
            Fault::ChecksTheVersionFirst => {
                self.check_version(stream, expected).await?;
                self.inner.append(stream, expected, events).await
            }
            Fault::ChecksForErasureFirst => {
                self.check_erasure(stream).await?;
                self.inner.append(stream, expected, events).await
            }
            Fault::IgnoresTheOrderOfIds => {
                let held = self.held(stream).await;
                let ids: HashSet<_> = held.iter().map(|event| event.event_id).collect();
                if events.iter().all(|event| ids.contains(&event.event_id)) {
                    let last = held.last().expect("it has the ids");
                    return Ok(Appended {
                        version: last.event_version,
                        position: last.position,
                    });
                }
                self.inner.append(stream, expected, events).await
            }
            Fault::OverwritesOnRepetition => {
                for mut held in self.held(stream).await {
                    if let Some(new) = events.iter().find(|new| new.event_id == held.event_id) {
                        held.event_data = new.event_data.clone();
                        self.instead().insert(held.event_id, held);
                    }
                }
                self.inner.append(stream, expected, events).await
            }
            Fault::LeavesDoublesOut
            | Fault::ForgetsIds
            | Fault::RewritesTheContent
            | Fault::ForgetsTheMetadata
            | Fault::MendsNames
            | Fault::CutsNames => {
                let stream = StreamId::new(self.name(&stream.aggregate_type), stream.aggregate_id);
                let events = self.spoiled(events);
                self.inner.append(&stream, expected, &events).await
            }
            _ => self.with_faulty_answer(stream, expected, events).await,
        }
    }

    async fn with_faulty_answer(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let mut answer = self.inner.append(stream, expected, events).await;
        match (&mut answer, self.fault) {
            (Ok(appended), Fault::AnswersWithTheFirstPosition) => {
                appended.position = Position::new(1);
            }
            (Err(AppendError::Conflict { actual, .. }), Fault::LiesInAConflict) => {
                *actual = Version::EMPTY;
            }
            (Err(AppendError::Conflict { .. }), Fault::LooksForIdsFirst) => {
                let log = self.log().await;
                let taken = events
                    .iter()
                    .find(|new| log.iter().any(|event| event.event_id == new.event_id));
                if let Some(taken) = taken {
                    return Err(AppendError::DuplicateId {
                        stream: stream.clone(),
                        event_id: taken.event_id,
                    });
                }
            }
            (Err(AppendError::Erased { .. }), Fault::TellsOfAConflictWhenErased) => {
                return Err(AppendError::Conflict {
                    stream: stream.clone(),
                    expected,
                    actual: Version::EMPTY,
                });
            }
            _ => {}
        }
        answer
    }

    pub(super) fn spoiled(&self, events: &[NewEvent]) -> Vec<NewEvent> {
        let mut events = events.to_vec();
        events.iter_mut().for_each(|event| self.spoil(event));
        if self.fault == Fault::LeavesDoublesOut {
            let mut ids = HashSet::new();
            events.retain(|event| ids.insert(event.event_id));
        }
        events
    }

    fn spoil(&self, event: &mut NewEvent) {
        event.event_type = self.name(&event.event_type);
        match self.fault {
            Fault::ForgetsIds => event.event_id = Uuid::now_v7(),
            Fault::ForgetsTheMetadata => event.metadata = Metadata::default(),
            Fault::RewritesTheContent => {
                event.event_data = Json::from_stored(event.event_data.as_str().replace(' ', ""));
            }
            _ => {}
        }
    }

    fn name(&self, name: &Name) -> Name {
        let bad = name.is_empty() || name.len() > 255 || name.starts_with('$');
        match self.fault {
            Fault::MendsNames if bad => "mended".into(),
            Fault::CutsNames => name.chars().take(100).collect::<String>().into(),
            _ => name.clone(),
        }
    }

    async fn check_version(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
    ) -> Result<(), AppendError> {
        let held = self.held(stream).await;
        let actual = held
            .last()
            .map_or(Version::EMPTY, |event| event.event_version);
        if expected.accepts(actual) {
            return Ok(());
        }
        Err(AppendError::Conflict {
            stream: stream.clone(),
            expected,
            actual,
        })
    }

    pub(super) async fn check_erasure(&self, stream: &StreamId) -> Result<(), AppendError> {
        use es_core::Event;
        let held = self.held(stream).await;
        let last = held.last();
        if last.is_some_and(|last| last.event_type == StreamErased::EVENT_TYPE) {
            return Err(AppendError::Erased {
                stream: stream.clone(),
            });
        }
        Ok(())
    }

    async fn append_in_two_steps(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        let (first, second) = events.split_at(events.len() / 2);
        let appended = self.inner.append(stream, expected, first).await?;
        tokio::task::yield_now().await;
        let expected = match expected {
            ExpectedVersion::Any => ExpectedVersion::Any,
            _ => ExpectedVersion::Exact(appended.version),
        };
        self.inner.append(stream, expected, second).await
    }
}
