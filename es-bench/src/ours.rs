//! The framework, through its public API.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use es_core::{
    Aggregate, EventStore, ExpectedVersion, NewEvent, Repository, Root, SnapshotStore, StreamId,
    Version,
};
use uuid::Uuid;

use crate::{
    player::{Player, PlayerCreated, PlayerMoved},
    side::{Result, Side},
};

pub(crate) struct Ours<S> {
    store: S,
    /// Created once, as a service would.
    players: Repository<Player>,
    snapshot_every: u32,
    given_up: AtomicU64,
}

impl<S: EventStore + SnapshotStore + Clone + 'static> Ours<S> {
    /// Snapshots every so many events; 0 for none, the default.
    pub(crate) fn new(store: S, snapshot_every: u32) -> Self {
        Self {
            players: repository(&store, snapshot_every),
            store,
            snapshot_every,
            given_up: AtomicU64::new(0),
        }
    }
}

fn repository<S>(store: &S, snapshot_every: u32) -> Repository<Player>
where
    S: EventStore + SnapshotStore + Clone + 'static,
{
    Repository::new(store.clone()).snapshot_every(snapshot_every)
}

#[async_trait]
impl<S: EventStore + SnapshotStore + Clone + 'static> Side for Ours<S> {
    fn name(&self) -> &'static str {
        "ours"
    }

    /// Through another repository, as if another process had: what `players` remembers does not count.
    async fn seed(&self, id: Uuid, created: PlayerCreated, moves: Vec<PlayerMoved>) -> Result<()> {
        let mut root = Root::<Player>::start(id, created);
        for moved in moves {
            root.raise(moved);
        }
        repository(&self.store, self.snapshot_every)
            .save(&mut root)
            .await?;
        Ok(())
    }

    async fn append(&self, id: Uuid, version: u32, events: &[PlayerMoved]) -> Result<()> {
        let events: Vec<_> = events
            .iter()
            .map(NewEvent::encode)
            .collect::<std::result::Result<_, _>>()?;
        let expected = match version {
            0 => ExpectedVersion::NoStream,
            version => ExpectedVersion::Exact(Version::new(version)),
        };
        let stream = StreamId::new(Player::AGGREGATE_TYPE, id);
        self.store.append(&stream, expected, &events).await?;
        Ok(())
    }

    async fn command(&self, id: Uuid, room: Uuid) -> Result<()> {
        loop {
            match self.players.update(id, |player| player.move_to(room)).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => {
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Through a new repository without snapshots, so that all events are read and folded.
    async fn load(&self, id: Uuid) -> Result<Player> {
        let root = repository(&self.store, 0).load(id).await?;
        Ok(root.into_state())
    }

    fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }
}
