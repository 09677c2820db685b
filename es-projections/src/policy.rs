//! What a failing handler means: try again, then find the event, then do with it what was agreed.

use es_core::{Claim, DeadLetter, Failure, FailureKind, Position, ProjectionStore, Recorded};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    batch::{Batches, Part, Refused},
    board::ShardBoard,
    error::Problem,
    target::Target,
    work::{Sorter, Work},
};

/// How far it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// All of it. The events took this long.
    All(Duration),
    /// The checkpoint in the claim is short of it: told to stop, or an event was put aside, so that what
    /// comes after must be sorted again.
    Part,
}

/// Applies work. After an error of the handler it tries again, then in ever smaller parts, so that
/// everything before the bad event is committed and the bad one is known.
pub(crate) struct Policy<'a, S, T> {
    pub(crate) batches: &'a Batches<S, T>,
    pub(crate) claim: &'a mut Claim,
    pub(crate) sorter: &'a mut Sorter,
    pub(crate) board: &'a ShardBoard,
    pub(crate) backoff: Backoff,
    pub(crate) stop: &'a CancellationToken,
}

impl<S: ProjectionStore, T: Target<S>> Policy<'_, S, T> {
    pub(crate) async fn apply(mut self, work: &Work<T::Event>) -> Result<Applied, Problem> {
        let whole = Part {
            events: &work.events,
            letters: &work.letters,
            covered: work.covered,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.batch(whole).await {
                Ok(took) => return Ok(Applied::All(took)),
                Err(Refused::ByStore(problem)) => return Err(problem),
                Err(Refused::ByHandler(failure)) => {
                    let give_up = attempts > self.sorter.options.handler_retries
                        || failure.kind == FailureKind::Panicked;
                    match &work.events[..] {
                        [event] if give_up => {
                            return self.set_aside(event, failure, attempts, whole, work).await;
                        }
                        _ if give_up => return self.in_parts(whole, attempts, work).await,
                        _ => {}
                    }
                }
            }
            if !self.backoff.pause(self.stop).await {
                return Ok(Applied::Part);
            }
        }
    }

    async fn in_parts(
        &mut self,
        whole: Part<'_, T::Event>,
        attempts: u32,
        work: &Work<T::Event>,
    ) -> Result<Applied, Problem> {
        let mut rest = whole;
        let mut size = rest.events.len().div_ceil(2);
        let mut took = Duration::ZERO;
        while !rest.events.is_empty() {
            if self.stop.is_cancelled() {
                return Ok(Applied::Part);
            }
            let (part, later) = split(rest, size);
            match (self.batch(part).await, part.events) {
                (Ok(time), _) => {
                    took += time;
                    rest = later;
                }
                (Err(Refused::ByStore(problem)), _) => return Err(problem),
                (Err(Refused::ByHandler(failure)), [event]) => {
                    return self.set_aside(event, failure, attempts, part, work).await;
                }
                (Err(Refused::ByHandler(_)), _) => size = part.events.len().div_ceil(2),
            }
        }
        Ok(Applied::All(took))
    }

    async fn batch(&mut self, part: Part<'_, T::Event>) -> Result<Duration, Refused> {
        let applied = self.batches.apply(self.claim, part).await;
        match &applied {
            Ok(_) => {
                // First: whoever waits for the position may ask.
                self.board.parked(self.sorter.parked.len());
                self.board.applied(part.events.len(), part.covered);
            }
            Err(Refused::ByHandler(failure)) => {
                self.board.error(&failure.message);
                tracing::warn!(
                    events = part.events.len(),
                    after = self.claim.position.get(),
                    error = %failure,
                    "the handler failed; its batch was rolled back"
                );
            }
            Err(Refused::ByStore(_)) => {}
        }
        applied
    }

    /// Nothing before the event is left to do. What comes after it must be sorted again, as it may be of
    /// the same aggregate.
    async fn set_aside(
        &mut self,
        event: &Recorded<T::Event>,
        failure: Failure,
        attempts: u32,
        part: Part<'_, T::Event>,
        work: &Work<T::Event>,
    ) -> Result<Applied, Problem> {
        let record = &event.record;
        // What was learnt from later events is not stored, and will be learnt again.
        self.sorter.parked = work.parked_before(record.position);
        let failure = failure.at(record);
        let policy = self.sorter.options.on_handler_error;
        let state = self.sorter.set_aside(record, policy, failure.clone());
        let state = state.map_err(Problem::Failed)?;
        tracing::error!(error = %failure, %state, "the event was put aside");
        // Letters of events before it would otherwise be lost.
        let before = part
            .letters
            .partition_point(|letter| letter.position < record.position);
        let mut letters: Vec<DeadLetter> = part.letters[..before].to_vec();
        letters.push(self.sorter.letter(record, state, failure, attempts));
        let aside = Part {
            events: &[],
            letters: &letters,
            covered: record.position,
        };
        self.batch(aside).await?;
        Ok(Applied::Part)
    }
}

/// The first `size` events with the letters before the next one, and what comes after.
fn split<'a, E>(part: Part<'a, E>, size: usize) -> (Part<'a, E>, Part<'a, E>) {
    let (events, later) = part.events.split_at(size.min(part.events.len()));
    let covered = match (events.last(), later.is_empty()) {
        (Some(last), false) => last.record.position,
        _ => part.covered,
    };
    let cut = part
        .letters
        .partition_point(|letter| letter.position <= covered);
    let (letters, later_letters) = part.letters.split_at(cut);
    let first = Part {
        events,
        letters,
        covered,
    };
    let rest = Part {
        events: later,
        letters: later_letters,
        covered: part.covered,
    };
    (first, rest)
}

/// Where a part ends that has no more events of its own.
pub(crate) fn nothing<E>(covered: Position) -> Part<'static, E> {
    Part {
        events: &[],
        letters: &[],
        covered,
    }
}
