//! Changes to a read model from outside of its runner: while they last, the projection is held.

use std::{collections::HashSet, time::Duration};

use es_core::{
    Batch, BoxError, CheckpointError, DeadLetter, EventSet, LetterState, Letters, Position,
    Project, ProjectionId, ProjectionStore, ReadError, Recorded, RecordedEvent, Standing, StreamId,
    Version, shard_of,
};
use uuid::Uuid;

use crate::{CommandError, batch::runs, change, error::passes, lifecycle};

/// How many events are read and applied at once.
const PAGE: u32 = 500;
/// Reading the stream may have to wait for the very transaction that is open here (SQLite in memory has one
/// connection): not for ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often events of the aggregate may be parked in between.
const TRIES: u32 = 20;

/// A projection that is held: no batch of it is open, and none begins.
pub(crate) struct Held<S: ProjectionStore> {
    pub(crate) id: ProjectionId,
    pub(crate) batch: S::Batch,
    /// Of this version.
    pub(crate) standings: Vec<Standing>,
}

impl<S: ProjectionStore> Held<S> {
    pub(crate) async fn begin(store: &S, id: &ProjectionId) -> Result<Self, CommandError> {
        let (batch, mut standings) = store.begin_change(id).await?;
        if standings.iter().all(|row| row.shard.projection != *id) {
            return Err(CommandError::unknown(id, &standings));
        }
        standings.retain(|row| row.shard.projection == *id);
        Ok(Self {
            id: id.clone(),
            batch,
            standings,
        })
    }

    /// The standings are written as they are, so that runners begin again and learn what has changed.
    pub(crate) async fn commit(mut self) -> Result<(), CheckpointError> {
        self.batch.put_standings(&self.standings).await?;
        self.batch.commit().await
    }
}

/// Empties the read model and moves the checkpoint to the start.
pub(crate) async fn reset<S: ProjectionStore, P: Project<S::Connection>>(
    store: &S,
    projection: &P,
) -> Result<(), CommandError> {
    let id = ProjectionId::of::<P>();
    let (mut batch, standings) = store.begin_change(&id).await?;
    let change = lifecycle::reset(&standings, &id)?;
    nothing_parked(&mut batch, &id).await?;
    let cleared = projection.clear(batch.connection()).await;
    cleared.map_err(handler(store, &id))?;
    batch.remove_letters(&id, None).await?;
    change::write(&mut batch, &change).await?;
    Ok(batch.commit().await?)
}

/// The effects of parked events are still to come. Moved back, they would be applied without.
pub(crate) async fn nothing_parked<B: Batch>(
    batch: &mut B,
    id: &ProjectionId,
) -> Result<(), CommandError> {
    // The count is what is wanted; an error rolls the request back.
    match batch.retry_letters(id, None).await? {
        0 => Ok(()),
        letters => Err(CommandError::Parked {
            projection: id.clone(),
            letters,
        }),
    }
}

/// Applies all events of one aggregate anew.
pub(crate) async fn rebuild_aggregate<S: ProjectionStore, P: Project<S::Connection>>(
    store: &S,
    projection: &P,
    aggregate: &StreamId,
) -> Result<(), CommandError> {
    let id = ProjectionId::of::<P>();
    let (mut held, letters, settled, read) = hold_with_letters(store, &id, aggregate).await?;
    let until = applied_until(&held.standings, aggregate);
    let read = match until <= settled {
        true => read,
        false => tokio::time::timeout(PATIENCE, read_stream(store, aggregate))
            .await
            .map_err(|_| CommandError::Settling {
                projection: id.clone(),
                until,
            })??,
    };
    let failed = handler(store, &id);
    let cleared = projection.clear_aggregate(held.batch.connection(), aggregate.aggregate_id);
    cleared.await.map_err(&failed)?;
    let wanted = read.into_iter().filter(|record| {
        let mut types = P::Event::EVENT_TYPES.iter();
        record.position <= until
            && !record.is_erased()
            && types.any(|known| record.event_type == known.name)
    });
    let events = wanted
        .map(Recorded::decode)
        .collect::<Result<Vec<Recorded<P::Event>>, _>>()
        .map_err(|error| failed(error.into()))?;
    let owed = letters.iter().filter(|letter| letter.owed);
    let owed: HashSet<Uuid> = owed.map(|letter| letter.event_id).collect();
    let is_owed = |event: &Recorded<P::Event>| owed.contains(&event.record.event_id);
    for events in events.chunks(PAGE as usize) {
        let db = held.batch.connection();
        projection.project(db, events).await.map_err(&failed)?;
        for run in runs(events, is_owed) {
            projection.emit(db, run).await.map_err(&failed)?;
        }
    }
    let ids: Vec<_> = letters.iter().map(|letter| letter.event_id).collect();
    held.batch.remove_letters(&held.id, Some(&ids)).await?;
    Ok(held.commit().await?)
}

/// Holds the projection, with the letters of an aggregate, and its events up to where the log was settled:
/// read before, since reading may have to wait for the very transaction that is open then.
async fn hold_with_letters<S: ProjectionStore>(
    store: &S,
    id: &ProjectionId,
    aggregate: &StreamId,
) -> Result<(Held<S>, Vec<DeadLetter>, Position, Vec<RecordedEvent>), CommandError> {
    for _ in 0..TRIES {
        let before = store.standings(Some(&id.name)).await?;
        let settled = store.settled().await?;
        let wanted = Letters::of(id.clone()).aggregate(aggregate.aggregate_id);
        let letters = all_letters(store, wanted).await?;
        let read = read_stream(store, aggregate).await?;
        let mut held = Held::begin(store, id).await?;
        // The count is what is wanted. That a retry is asked for does not matter: they will be gone.
        let now = held
            .batch
            .retry_letters(id, Some(aggregate.aggregate_id))
            .await?;
        let parked = letters
            .iter()
            .filter(|letter| letter.state == LetterState::Parked);
        // Whoever parks an event moves the checkpoint; a retry changes the count.
        if parked.count() as u64 == now && stand_alike(&before, &held.standings) {
            return Ok((held, letters, settled, read));
        }
    }
    Err(CommandError::Settling {
        projection: id.clone(),
        until: store.settled().await?,
    })
}

/// Up to where the projection has applied the events of an aggregate.
fn applied_until(standings: &[Standing], aggregate: &StreamId) -> Position {
    let id = aggregate.aggregate_id;
    let row = standings
        .iter()
        .find(|row| row.shard.index == shard_of(id, row.shards));
    row.map_or(Position::START, |row| row.position.max(row.applied.of(id)))
}

async fn read_stream<S: ProjectionStore>(
    store: &S,
    stream: &StreamId,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events
            .last()
            .map_or(Version::EMPTY, |last| last.event_version);
        let page = store.read_stream(stream, after, PAGE).await?;
        if page.is_empty() {
            return Ok(events);
        }
        events.extend(page);
    }
}

/// Whether nothing of this version has moved.
fn stand_alike(before: &[Standing], now: &[Standing]) -> bool {
    now.iter().all(|row| {
        before.iter().any(|old| {
            old.shard == row.shard && old.epoch == row.epoch && old.position == row.position
        })
    })
}

/// Every page of them.
pub(crate) async fn all_letters<S: ProjectionStore>(
    store: &S,
    mut wanted: Letters,
) -> Result<Vec<DeadLetter>, ReadError> {
    let mut letters = Vec::new();
    loop {
        let page = store.dead_letters(&wanted, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(letters);
        };
        wanted.after = last.position;
        letters.extend(page);
    }
}

/// The projection's own function has failed.
pub(crate) fn handler<S: ProjectionStore>(
    store: &S,
    id: &ProjectionId,
) -> impl Fn(BoxError) -> CommandError {
    move |source| CommandError::Handler {
        projection: id.clone(),
        transient: passes(store, &*source),
        source,
    }
}
