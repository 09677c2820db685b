//! What a failing handler means: try again, then find the event and stop there.

use es_core::{Claim, Position, Project, ProjectionStore, Recorded};
use tokio_util::sync::CancellationToken;

use crate::{
    Failure, FailureKind,
    backoff::Backoff,
    batch::{Batches, Refused, position},
    error::Problem,
    status::Board,
};

/// Applies `events` up to `covered`. After an error of the handler it tries again, then in ever
/// smaller parts, so that everything before the bad event is committed and the bad one is known.
///
/// Told to stop, it returns early with the checkpoint in `claim` short of `covered`.
pub(crate) async fn apply<S: ProjectionStore, P: Project<S::Connection>>(
    batches: &Batches<S, P>,
    claim: &mut Claim,
    events: &[Recorded<P::Event>],
    covered: Position,
    board: &Board,
    stop: &CancellationToken,
) -> Result<(), Problem> {
    let mut backoff = Backoff::new(&batches.settings);
    let mut retries = batches.settings.handler_retries;
    loop {
        match batches.apply(claim, events, covered).await {
            Ok(()) => {
                board.applied(events.len(), covered);
                return Ok(());
            }
            Err(Refused::ByStore(problem)) => return Err(problem),
            Err(Refused::ByHandler(failure)) => {
                report(&failure, events, board);
                let give_up = retries == 0 || failure.kind == FailureKind::Panicked;
                match events {
                    [event] if give_up => {
                        return Err(Problem::Failed(failure.at(&event.record)));
                    }
                    _ if give_up => break,
                    _ => {}
                }
            }
        }
        retries -= 1;
        if !backoff.pause(stop).await {
            return Ok(());
        }
    }
    in_parts(batches, claim, events, covered, board, stop).await
}

async fn in_parts<S: ProjectionStore, P: Project<S::Connection>>(
    batches: &Batches<S, P>,
    claim: &mut Claim,
    events: &[Recorded<P::Event>],
    covered: Position,
    board: &Board,
    stop: &CancellationToken,
) -> Result<(), Problem> {
    let mut rest = events;
    let mut size = rest.len().div_ceil(2);
    while !rest.is_empty() && !stop.is_cancelled() {
        let (part, later) = rest.split_at(size.min(rest.len()));
        let to = match part.last() {
            Some(last) if !later.is_empty() => position(last),
            _ => covered,
        };
        match (batches.apply(claim, part, to).await, part) {
            (Ok(()), _) => {
                board.applied(part.len(), to);
                rest = later;
            }
            (Err(Refused::ByStore(problem)), _) => return Err(problem),
            (Err(Refused::ByHandler(failure)), [event]) => {
                return Err(Problem::Failed(failure.at(&event.record)));
            }
            (Err(Refused::ByHandler(_)), _) => size = part.len().div_ceil(2),
        }
    }
    Ok(())
}

fn report<E>(failure: &Failure, events: &[Recorded<E>], board: &Board) {
    tracing::warn!(
        events = events.len(),
        after = events.first().map(|first| position(first).get()),
        error = %failure,
        "the handler failed; its batch was rolled back"
    );
    board.error(failure.message.clone());
}
