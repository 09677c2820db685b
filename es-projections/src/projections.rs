//! What people decide about projections, from any process.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use es_core::{
    Batch, DeadLetter, LetterState, Letters, Position, Project, ProjectionId, ProjectionStore,
    ReadError, Standing, StreamId,
};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    CommandError,
    board::Board,
    change, lifecycle,
    moment::position_before,
    repair::{self, Held},
};

/// What people decide about projections: pause, resume, rewind, retry, and so on. It needs no daemon and
/// no projection's code, except where it says so, and works from any process that reaches the store.
///
/// What is decided is kept in the database, survives restarts, and is the same for all nodes. Each command
/// waits for the batch in hand, is one transaction, and fences whoever was at work: a daemon in the same
/// process obeys at once, others within a second. A command that would corrupt a read model is refused.
///
/// A projection is named by its name, or by name and version (`"room_occupancy v2"`). The bare name means
/// the version that is served.
#[derive(Debug)]
pub struct Projections<S> {
    store: Arc<S>,
    /// The daemon in this process, if there is one.
    daemon: Option<Daemon>,
}

/// What of a daemon is told when something has been decided.
#[derive(Debug, Clone)]
struct Daemon {
    nudge: Arc<Notify>,
    boards: Arc<[Arc<Board>]>,
}

impl<S> Clone for Projections<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            daemon: self.daemon.clone(),
        }
    }
}

impl<S: ProjectionStore> Projections<S> {
    /// Those of a store.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            daemon: None,
        }
    }

    pub(crate) fn with_daemon(
        store: Arc<S>,
        nudge: Arc<Notify>,
        boards: Arc<[Arc<Board>]>,
    ) -> Self {
        Self {
            store,
            daemon: Some(Daemon { nudge, boards }),
        }
    }

    /// Where every shard of every projection stands, in order.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub async fn list(&self) -> Result<Vec<Standing>, ReadError> {
        self.store.standings(None).await
    }

    /// Tells it to wait, until it is [resumed](Self::resume).
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn pause(&self, name: &str) -> Result<(), CommandError> {
        self.command(name, lifecycle::pause).await
    }

    /// Lets it go on: after a pause, after a failure that is repaired, or in service again after it was
    /// detached. One that is retired is built up again beside the version that is served; see
    /// [`promote`](Self::promote).
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn resume(&self, name: &str) -> Result<(), CommandError> {
        self.command(name, lifecycle::resume).await
    }

    /// Lets a version that is built beside the one that is served take over as soon as it has caught up, and
    /// nothing of the other one is parked; its status tells why it has not.
    /// The way back to an older version is to [`resume`](Self::resume) and promote it.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn promote(&self, name: &str) -> Result<(), CommandError> {
        self.command(name, lifecycle::promote).await
    }

    /// Ends a version that is not in service. Its read model stays.
    ///
    /// # Errors
    ///
    /// [`CommandError::Needed`] for the version that is served; see [`CommandError`].
    pub async fn retire(&self, name: &str) -> Result<(), CommandError> {
        self.command(name, lifecycle::retire).await
    }

    /// Takes it out of service: no daemon runs it, whatever it declares, and nobody misses it.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn detach(&self, name: &str) -> Result<(), CommandError> {
        self.command(name, lifecycle::detach).await
    }

    /// Forgets a version that is retired, or detached and the last of its name: its checkpoints and dead
    /// letters. Its read model stays, and is yours to drop.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn remove(&self, name: &str) -> Result<(), CommandError> {
        self.command(name, lifecycle::remove).await
    }

    /// Divides it into another number of shards, also while it runs. Each aggregate's events are still
    /// applied once and in order.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn divide(&self, name: &str, shards: u32) -> Result<(), CommandError> {
        self.command(name, |standings, id| {
            lifecycle::reshard(standings, id, shards)
        })
        .await
    }

    /// Moves its checkpoint. Forward passes events over. Back applies them a second time, which the
    /// projection must have declared to bear (`repeatable`). Effects are not emitted a second time.
    ///
    /// Whoever [waits](crate::Monitor::wait_until) at a daemon in another process may within the next second
    /// still be answered by where it was before.
    ///
    /// # Errors
    ///
    /// [`CommandError::Busy`] while it is run: pause it first; back, [`CommandError::Parked`] while effects of
    /// parked events are still to come. See [`CommandError`].
    pub async fn set_checkpoint(&self, name: &str, to: Position) -> Result<(), CommandError> {
        let (id, _) = self.find(name).await?;
        let settled = self.store.settled().await?;
        let (mut batch, standings) = self.store.begin_change(&id).await?;
        let mine = standings.iter().filter(|row| row.shard.projection == id);
        let reached = mine.map(|row| row.position).max().unwrap_or_default();
        // Another node may have seen more of the log settle than this one.
        let end = settled.max(reached);
        let change = lifecycle::set_checkpoint(&standings, &id, to, end)?;
        if reached > to {
            repair::nothing_parked(&mut batch, &id).await?;
        }
        change::write(&mut batch, &change).await?;
        batch.commit().await?;
        self.show(&id).await;
        self.wake();
        Ok(())
    }

    /// Moves its checkpoint back to before the first of its events that was created at or after `time`, as
    /// [`set_checkpoint`](Self::set_checkpoint) does. Returns where it is now.
    ///
    /// # Errors
    ///
    /// As [`set_checkpoint`](Self::set_checkpoint).
    pub async fn rewind_to(
        &self,
        name: &str,
        time: DateTime<Utc>,
    ) -> Result<Position, CommandError> {
        let (id, standings) = self.find(name).await?;
        let types = standings
            .iter()
            .find(|row| row.shard.projection == id)
            .map(|row| row.event_types.clone())
            .unwrap_or_default();
        let to = position_before(&*self.store, &types, time).await?;
        let lowest = standings.iter().filter(|row| row.shard.projection == id);
        let lowest = lowest.map(|row| row.position).min().unwrap_or_default();
        let to = to.min(lowest);
        self.set_checkpoint(&id.to_string(), to).await?;
        Ok(to)
    }

    /// Empties its read model and starts from the first event, in place; to go on serving meanwhile raise
    /// the version instead. Effects are not emitted a second time; what was skipped is forgotten. Needs the
    /// projection's [`clear`](Project::clear).
    ///
    /// # Errors
    ///
    /// [`CommandError::Busy`] while it is run: pause it first; [`CommandError::Parked`] while effects of parked
    /// events are still to come. See [`CommandError`].
    pub async fn reset<P: Project<S::Connection>>(
        &self,
        projection: &P,
    ) -> Result<(), CommandError> {
        repair::reset(&*self.store, projection).await?;
        self.show(&ProjectionId::of::<P>()).await;
        self.wake();
        Ok(())
    }

    /// Applies all events of one aggregate anew, up to where the projection is, in one transaction, also
    /// while it runs. What was parked of it is applied with the rest. Effects are emitted only of what
    /// was parked. Needs the
    /// projection's [`clear_aggregate`](Project::clear_aggregate).
    ///
    /// # Errors
    ///
    /// See [`CommandError`]; then everything is as it was.
    pub async fn rebuild_aggregate<P: Project<S::Connection>>(
        &self,
        projection: &P,
        aggregate: &StreamId,
    ) -> Result<(), CommandError> {
        repair::rebuild_aggregate(&*self.store, projection, aggregate).await?;
        self.wake();
        Ok(())
    }

    /// At most `limit` dead letters, by position.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.store.dead_letters(letters, limit).await
    }

    /// Asks that the parked events of one aggregate, or of all, be tried again, in order. If the first still
    /// fails, the rest stay where they are. Returns how many there are.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn retry(&self, name: &str, aggregate: Option<Uuid>) -> Result<u64, CommandError> {
        let mut held = self.hold(name).await?;
        let asked = held.batch.retry_letters(&held.id, aggregate).await?;
        held.commit().await?;
        self.wake();
        Ok(asked)
    }

    /// Gives dead letters up. Those that were parked behind them are tried again: the aggregate goes on
    /// without the events given up. Returns how many there were.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn discard(&self, name: &str, event_ids: &[Uuid]) -> Result<u64, CommandError> {
        let (id, _) = self.find(name).await?;
        let aggregates = self.aggregates_of(&id, event_ids).await?;
        let mut held = Held::begin(&*self.store, &id).await?;
        let gone = held.batch.remove_letters(&held.id, Some(event_ids)).await?;
        for aggregate in aggregates {
            held.batch.retry_letters(&held.id, Some(aggregate)).await?;
        }
        held.commit().await?;
        self.wake();
        Ok(gone)
    }

    /// Waits until a projection has come to a position, whoever runs it, looking every few milliseconds.
    /// Returns whether it got there within `limit`.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn reached(
        &self,
        name: &str,
        position: Position,
        limit: Duration,
    ) -> Result<bool, CommandError> {
        let (id, standings) = self.find(name).await?;
        if standings.iter().all(|row| row.shard.projection != id) {
            return Err(CommandError::unknown(&id, &standings));
        }
        let end = tokio::time::Instant::now() + limit;
        loop {
            let now = self.store.checkpoint(&id).await?;
            if now.is_some_and(|now| now >= position) {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn command(
        &self,
        name: &str,
        rule: impl FnOnce(&[Standing], &ProjectionId) -> Result<lifecycle::Change, CommandError>,
    ) -> Result<(), CommandError> {
        let (id, _) = self.find(name).await?;
        change::change(&*self.store, &id, |standings| rule(standings, &id)).await?;
        self.wake();
        Ok(())
    }

    async fn hold(&self, name: &str) -> Result<Held<S>, CommandError> {
        let (id, _) = self.find(name).await?;
        Held::begin(&*self.store, &id).await
    }

    /// The version that is meant, and where all versions stand.
    async fn find(&self, name: &str) -> Result<(ProjectionId, Vec<Standing>), CommandError> {
        let id = match name.rsplit_once(" v") {
            Some((bare, version)) => version
                .parse()
                .ok()
                .map(|version| ProjectionId::new(bare, version)),
            None => None,
        };
        if let Some(id) = id {
            let standings = self.store.standings(Some(&id.name)).await?;
            return Ok((id, standings));
        }
        let standings = self.store.standings(Some(name)).await?;
        let served = standings.iter().find(|row| row.active);
        let id = served
            .or(standings.first())
            .map(|row| row.shard.projection.clone());
        match id {
            Some(id) => Ok((id, standings)),
            None => {
                let known = self.store.standings(None).await?;
                Err(CommandError::unknown(&ProjectionId::new(name, 1), &known))
            }
        }
    }

    async fn aggregates_of(
        &self,
        id: &ProjectionId,
        event_ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, ReadError> {
        let parked = Letters::of(id.clone()).in_state(LetterState::Parked);
        let letters = repair::all_letters(&*self.store, parked).await?;
        Ok(letters
            .into_iter()
            .filter(|letter| event_ids.contains(&letter.event_id))
            .map(|letter| letter.stream.aggregate_id)
            .collect())
    }

    /// Whoever waits in this process must not be answered by where the projection was before.
    async fn show(&self, id: &ProjectionId) {
        let boards = self.daemon.iter().flat_map(|daemon| &*daemon.boards);
        for board in boards.filter(|board| board.projection == *id) {
            // If it fails, the daemon's own look will tell.
            for standing in self
                .store
                .standings(Some(&id.name))
                .await
                .unwrap_or_default()
            {
                if standing.shard.projection == *id {
                    board.seen(&standing, None);
                }
            }
        }
    }

    fn wake(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.nudge.notify_one();
        }
    }
}
