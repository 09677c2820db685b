//! Appending to several streams with a mechanism taken out.

use es_core::{Append, AppendError, Appended, EventStore, StreamId};

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    pub(super) async fn faulty_append_all(
        &self,
        appends: &[Append],
    ) -> Result<Vec<Appended>, AppendError> {
        let mut appends = appends.to_vec();
        match self.fault {
            Fault::AppendsStreamsOneByOne => {
                let mut answers = Vec::new();
                for Append {
                    stream,
                    expected,
                    events,
                } in &appends
                {
                    answers.push(self.inner.append(stream, *expected, events).await?);
                    self.between_steps().await;
                }
                return Ok(answers);
            }
            Fault::RefusesAnEmptyList if appends.is_empty() => {
                return Err(AppendError::Invalid {
                    stream: StreamId::new("none", uuid::Uuid::nil()),
                    reason: "it has no appends".to_owned(),
                });
            }
            Fault::ExpectsTheSameOfAllStreams => {
                let expected = appends.first().map(|append| append.expected);
                for append in &mut appends {
                    append.expected = expected.unwrap_or(append.expected);
                }
            }
            Fault::ChecksForErasureFirst => {
                for append in &appends {
                    self.check_erasure(&append.stream).await?;
                }
            }
            Fault::ForgetsRepetitionsOfSeveral => {
                for event in appends.iter_mut().flat_map(|append| &mut append.events) {
                    event.event_id = uuid::Uuid::now_v7();
                }
            }
            Fault::MendsNames => {
                for append in &mut appends {
                    append.events = self.spoiled(&append.events);
                }
            }
            _ => {}
        }
        let mut answers = self.inner.append_all(&appends).await;
        match (&mut answers, self.fault) {
            (Ok(answers), Fault::AnswersBackwards) => answers.reverse(),
            (Err(err), Fault::BlamesTheFirstStream) => blame(err, &appends[0].stream),
            _ => {}
        }
        answers
    }
}

fn blame(err: &mut AppendError, first: &StreamId) {
    match err {
        AppendError::Conflict { stream, .. }
        | AppendError::DuplicateId { stream, .. }
        | AppendError::OtherAggregateType { stream, .. }
        | AppendError::Invalid { stream, .. }
        | AppendError::Erased { stream } => *stream = first.clone(),
        _ => {}
    }
}
