//! Changes to a read model from outside of its runner: while they last, the projection is held.

use std::time::Duration;

use es_core::{
    Batch, BoxError, CheckpointError, EventSet, Letters, Position, Project, ProjectionId,
    ProjectionStore, ReadError, Recorded, RecordedEvent, Standing, StreamId, Version, shard_of,
};

use crate::{CommandError, change, lifecycle};

/// How many events are read and applied at once.
const PAGE: u32 = 500;
/// Reading the stream may have to wait for the very transaction that is open here (SQLite in memory has one
/// connection): not for ever.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let cleared = projection.clear(batch.connection()).await;
    cleared.map_err(handler(store, &id))?;
    batch.remove_letters(&id, None).await?;
    change::write(&mut batch, &change).await?;
    Ok(batch.commit().await?)
}

/// Applies all events of one aggregate anew.
pub(crate) async fn rebuild_aggregate<S: ProjectionStore, P: Project<S::Connection>>(
    store: &S,
    projection: &P,
    aggregate: &StreamId,
) -> Result<(), CommandError> {
    let id = ProjectionId::of::<P>();
    // Mostly nothing comes in between, and then the stream need not be read while the projection is held.
    let settled = store.settled().await?;
    let read = read_stream(store, aggregate).await?;
    let mut held = Held::begin(store, &id).await?;
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
    for events in events.chunks(PAGE as usize) {
        let applied = projection.project(held.batch.connection(), events).await;
        applied.map_err(&failed)?;
    }
    forget_letters(store, &mut held, aggregate).await?;
    Ok(held.commit().await?)
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

async fn forget_letters<S: ProjectionStore>(
    store: &S,
    held: &mut Held<S>,
    aggregate: &StreamId,
) -> Result<(), CommandError> {
    let mut letters = Letters::of(held.id.clone()).aggregate(aggregate.aggregate_id);
    loop {
        let page = store.dead_letters(&letters, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        letters.after = last.position;
        let ids: Vec<_> = page.iter().map(|letter| letter.event_id).collect();
        held.batch.remove_letters(&held.id, Some(&ids)).await?;
    }
}

fn handler<S: ProjectionStore>(store: &S, id: &ProjectionId) -> impl Fn(BoxError) -> CommandError {
    move |source| CommandError::Handler {
        projection: id.clone(),
        transient: store.is_transient(&*source),
        source,
    }
}
