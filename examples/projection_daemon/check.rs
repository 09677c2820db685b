//! The read model against a fold over the events.

use std::{collections::BTreeMap, time::Duration};

use es_core::{Filter, Position, ProjectionId, ProjectionStore};
use examples::{
    RoomOccupancy,
    player::PlayerEvent,
    room_occupancy::{Occupant, WhoIsWhere},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::Failure;

/// How long the daemon may take to reach the end of the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fails if one row is missing, too many, or different.
pub(crate) async fn compare<S>(store: &S) -> Result<(), Failure>
where
    S: ProjectionStore + WhoIsWhere,
{
    let (events, end, expected) = fold(store).await?;
    timeout(PATIENCE, reached(store, end))
        .await
        .map_err(|_| "the daemon did not reach the end of the log; is it running?")??;
    let mut actual = store.who_is_where().await?;
    actual.sort_unstable_by_key(|row| row.0);
    if actual != expected {
        return Err(format!(
            "the read model differs from the fold: {} rows, expected {}",
            actual.len(),
            expected.len()
        )
        .into());
    }
    println!(
        "{events} events, {} players: the read model equals the fold",
        expected.len()
    );
    Ok(())
}

async fn reached<S: ProjectionStore>(store: &S, end: Position) -> Result<(), Failure> {
    let projection = ProjectionId::of::<RoomOccupancy>();
    loop {
        let checkpoint = store.checkpoint(&projection).await?;
        if checkpoint.is_some_and(|checkpoint| checkpoint >= end) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many events there are, where the last one of a player stands, and who should be where.
async fn fold<S: ProjectionStore>(store: &S) -> Result<(u64, Position, Vec<Occupant>), Failure> {
    let mut players = BTreeMap::<Uuid, Occupant>::new();
    let mut versions = BTreeMap::<Uuid, u32>::new();
    let mut count = 0;
    let mut after = Position::START;
    let mut end = Position::START;
    loop {
        let page = store.read_log(&Filter::All, after, 1_000).await?;
        after = page.covered;
        if page.events.is_empty() {
            return Ok((count, end, players.into_values().collect()));
        }
        for record in page.events {
            count += 1;
            let id = record.aggregate_id;
            let version = versions.entry(id).or_default();
            *version += 1;
            if record.event_version.get() != *version {
                return Err(format!(
                    "version {} of {id} where {version} must be",
                    record.event_version
                )
                .into());
            }
            match record.decode::<PlayerEvent>()? {
                PlayerEvent::PlayerCreated(event) => {
                    players.insert(id, (id, event.name, event.room_id, 0));
                    end = record.position;
                }
                PlayerEvent::PlayerMoved(event) => {
                    let row = players.get_mut(&id).ok_or("a move before the creation")?;
                    row.2 = event.to_room_id;
                    row.3 += 1;
                    end = record.position;
                }
                PlayerEvent::ItemPickedUp(_) | PlayerEvent::DamageTaken(_) => {}
            }
        }
    }
}
