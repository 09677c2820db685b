//! The port for projections: checkpoints, who runs what, dead letters.

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    CheckpointError, DeadLetter, EventStore, Fleet, Letters, Lifecycle, Marks, Node, Parked,
    Position, ProjectionId, ReadError, Shard, Standing,
};

/// Where checkpoints are kept, beside the read models.
///
/// A checkpoint moves in one place: [`begin_batch`](Self::begin_batch), as the first statement of the
/// transaction that then writes the read model. What people decide about a projection goes through
/// [`begin_change`](Self::begin_change), which locks it and fences whoever was at work.
///
/// Who is alive is decided by the database's clock alone.
#[async_trait]
pub trait ProjectionStore: EventStore {
    /// What a projection writes its read model through.
    type Connection: Send;
    /// An open transaction. Dropping it rolls back.
    type Batch: Batch<Connection = Self::Connection>;

    /// Announces that `node` is alive for `ttl` from now, and tells who else is and where everything
    /// stands. Never waits for a batch that is open.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError>;

    /// The node is gone, in good order: what it ran can be taken at once.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn leave(&self, node: Uuid) -> Result<(), ReadError>;

    /// Takes the right to run a shard, with a new epoch, unless another node that is alive has it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Held`] if another node runs it, or a batch of another node is still open;
    /// `NotAlive` if `node` has not announced itself or too long ago; `Unknown` if there is no such
    /// shard; `NotRunning` if it is not meant to run; `Inline` if it runs inside the appends;
    /// `AheadOfLog`, `Diverged` and `OtherEventTypes` if the checkpoint does not fit the log or the
    /// projection.
    async fn acquire(
        &self,
        shard: &Shard,
        event_types: &[&str],
        node: Uuid,
    ) -> Result<Claim, CheckpointError>;

    /// Gives the right to run back, so that another node need not wait for the end of this one. A claim
    /// that no longer holds changes nothing.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError`].
    async fn release(&self, claim: &Claim) -> Result<(), CheckpointError>;

    /// Opens a transaction and moves the checkpoint from `claim.position` to `to` as its first
    /// statement, if `claim` still holds. The two positions may be the same.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Fenced`] if the checkpoint, the epoch or the owner is another.
    async fn begin_batch(
        &self,
        claim: &Claim,
        to: &Progress,
    ) -> Result<Self::Batch, CheckpointError>;

    /// Opens a transaction that holds every version of the projection of this name, also one that is not
    /// there yet, and returns their standings in order. Waits for batches that are open; nothing else
    /// begins until it ends.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError`].
    async fn begin_change(
        &self,
        projection: &ProjectionId,
    ) -> Result<(Self::Batch, Vec<Standing>), CheckpointError>;

    /// Where projections stand, in order: all of them, or every version of one name. One that runs
    /// inside the appends stands at the settled end of the log.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn standings(&self, name: Option<&str>) -> Result<Vec<Standing>, ReadError>;

    /// Where a projection stands: the position of its slowest shard. `None` if it never ran.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn checkpoint(&self, projection: &ProjectionId) -> Result<Option<Position>, ReadError> {
        let standings = self.standings(Some(&projection.name)).await?;
        Ok(standings
            .into_iter()
            .filter(|standing| standing.shard.projection == *projection)
            .map(|standing| standing.position)
            .min())
    }

    /// At most `limit` dead letters, by position, then by projection; a few more if several are at the
    /// last position, so that the next page can start [after](Letters::after) it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn dead_letters(
        &self,
        letters: &Letters,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ReadError>;

    /// At most `limit` of the aggregates that have parked letters, by id.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    async fn parked(&self, projection: &ProjectionId, limit: u32)
    -> Result<Vec<Parked>, ReadError>;

    /// Whether an error that a projection returned, or one of its causes, comes from the database and may
    /// be gone when the batch is tried again: a lost connection, a deadlock, a busy file.
    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        let _ = error;
        false
    }
}

/// A transaction in which a read model is written.
#[async_trait]
pub trait Batch: Send {
    /// What the read model is written through.
    type Connection: Send;

    /// The connection inside the transaction.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Adds or overwrites standings. Each gets a higher epoch and no owner, whatever it says: whoever was
    /// at work is fenced.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError::Backend`].
    async fn put_standings(&mut self, standings: &[Standing]) -> Result<(), CheckpointError>;

    /// Removes standings, and if it was the last of a projection, its dead letters.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError::Backend`].
    async fn remove_standings(&mut self, shards: &[Shard]) -> Result<(), CheckpointError>;

    /// Adds dead letters, or overwrites state, failure, attempts, `retry` and `owed` of those that are there.
    /// The times are those of the store's clock: `since` of the first time, `tried` of this time.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError::Backend`].
    async fn put_letters(&mut self, letters: &[DeadLetter]) -> Result<(), CheckpointError>;

    /// Asks for a retry of the parked letters of a projection: of one aggregate, or of all. Returns how
    /// many letters there are.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError::Backend`].
    async fn retry_letters(
        &mut self,
        projection: &ProjectionId,
        aggregate_id: Option<Uuid>,
    ) -> Result<u64, CheckpointError>;

    /// Removes dead letters of a projection: those of the events named, or with `None` all of them.
    /// Returns how many there were.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError::Backend`].
    async fn remove_letters(
        &mut self,
        projection: &ProjectionId,
        event_ids: Option<&[Uuid]>,
    ) -> Result<u64, CheckpointError>;

    /// Makes the checkpoint and the read model visible together.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Ended`] if the program has ended the transaction; see [`CheckpointError::Backend`].
    async fn commit(self) -> Result<(), CheckpointError>;

    /// Throws everything away.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Ended`] if the program has ended the transaction, so that there may be something
    /// left of it; see [`CheckpointError::Backend`].
    async fn rollback(self) -> Result<(), CheckpointError>;
}

/// The right to run a shard, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "lease")]
pub struct Claim {
    /// What is run.
    pub shard: Shard,
    /// How many shards the projection has.
    pub shards: u32,
    /// The node that holds it.
    pub owner: Uuid,
    /// Rises with each change: fences an owner that slept.
    pub epoch: i64,
    /// Everything at or before it is applied.
    pub position: Position,
    /// `Running` or `Rebuilding`.
    pub lifecycle: Lifecycle,
    /// Whether its read model is the one that is served.
    pub active: bool,
    /// See [`Standing::applied`].
    pub applied: Marks,
    /// See [`Standing::silent`].
    pub silent: Marks,
}

/// How far a batch moves a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The new checkpoint: [`LogPage::covered`](crate::LogPage::covered).
    pub position: Position,
    /// The last event the batch applied, if any: it ties the checkpoint to this very log.
    pub anchor: Option<(Position, Uuid)>,
}
