//! What people decide while everything falls apart: each order is a task, and may be refused.

use std::{path::PathBuf, time::Duration};

use es_core::{
    BoxError, CheckpointError, DeadLetter, FailureKind, Letters, Lifecycle, Position, ProjectionId,
    Standing, StreamId,
};
use es_projections::{CommandError, Projections};
use tokio::time::sleep;

use crate::{
    database::Store,
    faults::{Faults, INJECTED},
    projections::{FOLDED, Folded, ORACLE, Oracle, SHARDED, Sharded},
    read_model::{ReadModel, Rule},
};

/// Who gives orders.
#[derive(Clone)]
pub(crate) struct Operator<S> {
    pub(crate) store: S,
    pub(crate) projections: Projections<S>,
    pub(crate) folder: PathBuf,
}

/// What an order did.
#[derive(Debug)]
pub(crate) enum Done {
    Nothing,
    Ordered,
    Divided,
    Rewound,
    Reset,
    RebuiltAggregate,
    Retried(u64),
    EndedSessions(u64),
    Looked(Vec<Standing>, Vec<DeadLetter>),
}

/// Letters of a page: there are never that many aggregates.
const MANY: u32 = 10_000;

impl<S: Store> Operator<S> {
    /// Where everything stands.
    pub(crate) async fn look(self) -> Result<Done, BoxError> {
        let standings = self.projections.list().await?;
        let letters = self
            .projections
            .dead_letters(&Letters::default(), MANY)
            .await?;
        Ok(Done::Looked(standings, letters))
    }

    pub(crate) async fn pause(self, name: &str, time: Duration) -> Result<Done, BoxError> {
        let name = self.served(name).await?;
        self.projections.pause(&name).await?;
        sleep(time).await;
        self.resume(&name).await;
        Ok(Done::Ordered)
    }

    pub(crate) async fn divide(self, name: &str, shards: u32) -> Result<Done, BoxError> {
        self.projections.divide(name, shards).await?;
        Ok(Done::Divided)
    }

    /// Back to so many thousandths of where it is.
    pub(crate) async fn rewind(self, permille: u64) -> Result<Done, BoxError> {
        self.projections.pause(FOLDED).await?;
        let rewound = async {
            let standings = self.store.standings(Some(FOLDED)).await?;
            let now = standings
                .iter()
                .map(|row| row.position)
                .min()
                .unwrap_or_default();
            let to = Position::new(now.get() * permille / 1000);
            self.projections.set_checkpoint(FOLDED, to).await?;
            Ok(Done::Rewound)
        }
        .await;
        self.resume(FOLDED).await;
        rewound
    }

    /// In place.
    pub(crate) async fn reset(self) -> Result<Done, BoxError> {
        self.projections.pause(SHARDED).await?;
        let reset = async {
            self.projections
                .reset(&Sharded(self.model(SHARDED, 1, Rule::Next)?))
                .await?;
            Ok(Done::Reset)
        }
        .await;
        self.resume(SHARDED).await;
        reset
    }

    pub(crate) async fn rebuild_aggregate(
        self,
        name: &str,
        stream: StreamId,
    ) -> Result<Done, BoxError> {
        let projections = &self.projections;
        match name {
            SHARDED => {
                let sharded = Sharded(self.model(SHARDED, 1, Rule::Next)?);
                projections.rebuild_aggregate(&sharded, &stream).await?;
            }
            FOLDED => {
                let folded = Folded(self.model(FOLDED, 1, Rule::Newer)?);
                projections.rebuild_aggregate(&folded, &stream).await?;
            }
            _ => {
                let oracle = Oracle::<1>(self.model(ORACLE, 1, Rule::Next)?);
                projections.rebuild_aggregate(&oracle, &stream).await?;
            }
        }
        Ok(Done::RebuiltAggregate)
    }

    /// The `nth` of the retired versions of the oracle is built up again, and takes over.
    pub(crate) async fn way_back(self, nth: usize) -> Result<Done, BoxError> {
        let standings = self.store.standings(Some(ORACLE)).await?;
        let mut retired: Vec<_> = standings
            .iter()
            .filter(|row| row.lifecycle == Lifecycle::Retired)
            .map(|row| &row.shard.projection)
            .collect();
        retired.dedup();
        if retired.is_empty() {
            return Ok(Done::Nothing);
        }
        let back = retired[nth % retired.len()].to_string();
        self.projections.resume(&back).await?;
        self.projections.promote(&back).await?;
        Ok(Done::Ordered)
    }

    /// Nothing is poisoned any more: what was parked goes on.
    pub(crate) async fn retry_all(self) -> Result<Done, BoxError> {
        let letters = self
            .projections
            .dead_letters(&Letters::default(), MANY)
            .await?;
        let mut ids: Vec<_> = letters.iter().map(|letter| &letter.projection).collect();
        ids.sort();
        ids.dedup();
        let mut retried = 0;
        for id in ids {
            retried += self.projections.retry(&id.to_string(), None).await?;
        }
        Ok(Done::Retried(retried))
    }

    /// An order that must get through, whatever is down at the moment.
    pub(crate) async fn resume(&self, name: &str) {
        while let Err(error) = self.projections.resume(name).await {
            if !matches!(error, CommandError::Store(_) | CommandError::Read(_)) {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The version that is served, by its full name: another one may be served in a moment.
    async fn served(&self, name: &str) -> Result<String, BoxError> {
        let standings = self.store.standings(Some(name)).await?;
        let served = standings.iter().find(|row| row.active);
        Ok(served.map_or_else(|| name.to_owned(), |row| row.shard.projection.to_string()))
    }

    fn model(&self, name: &str, version: u32, rule: Rule) -> Result<ReadModel, BoxError> {
        let faults = Faults::none(&self.folder);
        ReadModel::new((name, version), rule, faults, &self.folder)
    }
}

/// Whether an order could not be followed for a reason that chaos excuses: the store is away, or the
/// projection is in no state for it.
pub(crate) fn is_excused<S: Store>(store: &S, error: &BoxError) -> bool {
    match error.downcast_ref::<CommandError>() {
        Some(CommandError::Handler { transient, .. }) => *transient,
        Some(CommandError::Store(error)) => is_passing(error),
        Some(CommandError::Read(error)) => error.is_retryable(),
        Some(CommandError::Unknown { projection, .. }) => !is_known(projection),
        Some(
            CommandError::State { .. }
            | CommandError::Busy { .. }
            | CommandError::Needed { .. }
            | CommandError::Settling { .. }
            | CommandError::NotPromoted { .. }
            | CommandError::Behind { .. }
            | CommandError::Ahead { .. }
            | CommandError::Parked { .. },
        ) => true,
        Some(_) => false,
        None => store.is_transient(&**error) || is_unreadable(error),
    }
}

fn is_passing(error: &CheckpointError) -> bool {
    error.is_retryable()
}

fn is_unreadable(error: &BoxError) -> bool {
    let read = error.downcast_ref::<es_core::ReadError>();
    read.is_some_and(es_core::ReadError::is_retryable)
}

/// The first daemons may still be starting.
fn is_known(projection: &ProjectionId) -> bool {
    ![ORACLE, SHARDED, FOLDED].contains(&projection.name.as_str())
}

/// A letter that nobody has asked for.
pub(crate) fn is_strange(letter: &DeadLetter) -> bool {
    letter.failure.kind != FailureKind::Behind && !letter.failure.message.contains(INJECTED)
}
