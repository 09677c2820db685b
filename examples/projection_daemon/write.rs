//! The process that appends events.

use chrono::Utc;
use es_core::{AppendError, EventStore, Repository, SaveError, SnapshotStore};
use examples::{
    Player,
    player::PlayerCreated,
    rooms::{self, HALL},
};
use futures::future::try_join_all;
use uuid::Uuid;

use crate::Failure;

/// Lets `players` walk at the same time.
pub(crate) async fn walk<S>(store: S, players: u32, moves: u32) -> Result<(), Failure>
where
    S: EventStore + SnapshotStore + 'static,
{
    let repository = Repository::<Player>::new(store).snapshot_every(50);
    let walks = (0..players).map(|number| {
        let repository = &repository;
        async move {
            let id = Uuid::now_v7();
            enter(repository, id, format!("Player {number}")).await?;
            walk_on(repository, id, moves).await
        }
    });
    try_join_all(walks).await?;
    println!("{players} players entered and made {moves} moves each");
    Ok(())
}

/// Moves one player, who may be moved by other processes at the same time.
pub(crate) async fn together<S>(store: S, id: Uuid, moves: u32) -> Result<(), Failure>
where
    S: EventStore + SnapshotStore + 'static,
{
    // Everyone pulls at once here: patience instead of giving up.
    let repository = Repository::<Player>::new(store).retries(1_000);
    match enter(&repository, id, "Everyman".to_owned()).await {
        // Another process was here first.
        Ok(()) | Err(SaveError::Append(AppendError::Conflict { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    walk_on(&repository, id, moves).await?;
    println!("{id} was moved {moves} times by this process");
    Ok(())
}

async fn enter(repository: &Repository<Player>, id: Uuid, name: String) -> Result<(), SaveError> {
    let created = PlayerCreated {
        name,
        room_id: HALL,
    };
    repository.create(id, created).await.map(|_| ())
}

async fn walk_on(repository: &Repository<Player>, id: Uuid, moves: u32) -> Result<(), Failure> {
    for _ in 0..moves {
        repository
            .update(id, |player| {
                player.move_to(rooms::next(player.current_room_id), Utc::now())
            })
            .await?;
    }
    Ok(())
}
