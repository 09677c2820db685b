//! Parked aggregates: known at the start of a turn, and tried again if somebody asked for it.

use std::{collections::HashSet, sync::Arc};

use es_core::{
    Claim, DeadLetter, Failure, FailureKind, LetterState, Letters, Position, ProjectionStore,
    Recorded, Version, shard_of,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    batch::{Batches, Refused},
    board::ShardBoard,
    error::Problem,
    target::Target,
    work::Sorter,
};

/// How many dead letters are read at once.
const PAGE: u32 = 200;

/// Learns which aggregates are parked, and first tries those again for which that was asked.
pub(crate) async fn retry<S: ProjectionStore, T: Target<S>>(
    batches: &Batches<S, T>,
    claim: &mut Claim,
    sorter: &mut Sorter,
    board: &ShardBoard,
    stop: &CancellationToken,
) -> Result<(), Problem> {
    let projection = &claim.shard.projection;
    // All of them, whatever the limit is now: one that was forgotten would go on without its first events.
    let parked = batches.store.parked(projection, u32::MAX).await?;
    let mut waiting = HashSet::new();
    for aggregate in parked {
        let id = aggregate.aggregate_id;
        if shard_of(id, claim.shards) != claim.shard.index {
            continue;
        }
        if aggregate.retry && unpark(batches, claim, id, board, stop).await? {
            continue;
        }
        waiting.insert(id);
    }
    sorter.parked = Arc::new(waiting);
    Ok(())
}

/// Applies the letters of an aggregate in order. `true` if none is left; told to stop it goes on another time.
async fn unpark<S: ProjectionStore, T: Target<S>>(
    batches: &Batches<S, T>,
    claim: &Claim,
    aggregate_id: Uuid,
    board: &ShardBoard,
    stop: &CancellationToken,
) -> Result<bool, Problem> {
    let letters = Letters::of(claim.shard.projection.clone())
        .aggregate(aggregate_id)
        .in_state(LetterState::Parked);
    loop {
        // Those that were applied are gone: always from the first.
        let page = batches.store.dead_letters(&letters, PAGE).await?;
        if page.is_empty() {
            tracing::info!(%aggregate_id, "the parked aggregate goes on");
            return Ok(true);
        }
        for letter in page {
            if stop.is_cancelled() {
                return Ok(false);
            }
            board.turned();
            if let Err(failure) = apply(batches, claim, &letter).await? {
                tracing::warn!(%aggregate_id, error = %failure, "still cannot be applied");
                give_up(batches, claim, &letters, &letter, failure).await?;
                return Ok(false);
            }
        }
    }
}

/// One letter. The inner error is the event's.
async fn apply<S: ProjectionStore, T: Target<S>>(
    batches: &Batches<S, T>,
    claim: &Claim,
    letter: &DeadLetter,
) -> Result<Result<(), Failure>, Problem> {
    let before = Version::new(letter.event_version.get().saturating_sub(1));
    let found = batches.store.read_stream(&letter.stream, before, 1).await?;
    let Some(record) = found
        .into_iter()
        .find(|event| event.event_id == letter.event_id)
    else {
        let gone = format!("event {} is not in its stream any more", letter.event_id);
        return Ok(Err(Failure::new(FailureKind::Diverged, gone)));
    };
    if record.is_erased() {
        let ids = [letter.event_id];
        batches.forget(claim, &ids).await?;
        return Ok(Ok(()));
    }
    let event = match record.decode() {
        Ok(event) => [Recorded { event, record }],
        Err(error) => return Ok(Err(Failure::decode(&error).at(&record))),
    };
    match batches.apply_parked(claim, &event, letter.owed).await {
        Ok(()) => Ok(Ok(())),
        Err(Refused::ByStore(problem)) => Err(problem),
        Err(Refused::ByHandler(failure)) => Ok(Err(failure.at(&event[0].record))),
    }
}

/// Nobody asks for a retry any more until somebody does.
async fn give_up<S: ProjectionStore, T: Target<S>>(
    batches: &Batches<S, T>,
    claim: &Claim,
    letters: &Letters,
    failed: &DeadLetter,
    failure: Failure,
) -> Result<(), Problem> {
    let mut letters = letters.clone();
    letters.after = Position::START;
    let mut failure = Some(failure);
    loop {
        let mut page = batches.store.dead_letters(&letters, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        letters.after = last.position;
        for letter in &mut page {
            letter.retry = false;
            if letter.event_id == failed.event_id
                && let Some(failure) = failure.take()
            {
                letter.failure = failure;
                letter.attempts = letter.attempts.saturating_add(1);
            }
        }
        batches.note(claim, &page).await?;
    }
}
