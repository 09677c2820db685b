//! Fetch, decode, apply, commit: the only place where a checkpoint moves.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use es_core::{
    Batch, BoxError, Chain, CheckpointError, Claim, EventSet, Filter, Position, Progress, Project,
    ProjectionStore, Recorded,
};
use futures::FutureExt;

use crate::{
    Failure, FailureKind, Settings,
    error::{Problem, StartError},
};

/// One projection and the store it writes to.
#[derive(Debug)]
pub(crate) struct Batches<S, P> {
    pub(crate) store: Arc<S>,
    pub(crate) projection: P,
    pub(crate) settings: Settings,
    filter: Filter,
}

/// A page of the log, decoded outside of any transaction.
#[derive(Debug)]
pub(crate) struct Page<E> {
    pub(crate) events: Vec<Recorded<E>>,
    /// Everything at or before it is in `events`, foreign or erased.
    pub(crate) covered: Position,
    /// There may be more.
    pub(crate) full: bool,
    /// The event after `events` that could not be decoded.
    pub(crate) blocked: Option<Failure>,
}

/// Why a batch was not applied. The transaction is rolled back, unless it is in doubt.
#[derive(Debug)]
pub(crate) enum Refused {
    ByStore(Problem),
    ByHandler(Failure),
}

impl From<CheckpointError> for Refused {
    fn from(error: CheckpointError) -> Self {
        Self::ByStore(error.into())
    }
}

impl<S: ProjectionStore, P: Project<S::Connection>> Batches<S, P> {
    pub(crate) fn new(store: Arc<S>, projection: P, settings: Settings) -> Self {
        let types = P::Event::EVENT_TYPES.iter().map(|event| event.name);
        Self {
            store,
            projection,
            settings,
            filter: Filter::event_types(types),
        }
    }

    /// Creates the read model.
    pub(crate) async fn set_up(&self) -> Result<(), StartError> {
        let projection = es_core::ProjectionId::of::<P>();
        let store = |source| StartError::Store {
            projection: projection.clone(),
            source,
        };
        let mut batch = self.store.begin_set_up(&projection).await.map_err(store)?;
        match self.projection.set_up(batch.connection()).await {
            Ok(()) => batch.commit().await.map_err(store),
            Err(source) => {
                roll_back(batch).await;
                Err(StartError::SetUp { projection, source })
            }
        }
    }

    pub(crate) async fn fetch(&self, after: Position) -> Result<Page<P::Event>, Problem> {
        let limit = self.settings.batch_events.max(1);
        let page = self.store.read_log(&self.filter, after, limit).await?;
        let full = page.events.len() >= limit as usize;
        let mut events = Vec::with_capacity(page.events.len());
        let mut covered = page.covered;
        let mut passed = after;
        let mut blocked = None;
        for record in page.events {
            let position = record.position;
            // There is nothing left to apply; who lists `StreamErased` is told by the tombstone.
            if !record.is_erased() {
                match record.decode() {
                    Ok(event) => events.push(Recorded { event, record }),
                    Err(error) => {
                        blocked = Some(Failure::decode(&error).at(&record));
                        covered = passed;
                        break;
                    }
                }
            }
            passed = position;
        }
        Ok(Page {
            events,
            covered,
            full,
            blocked,
        })
    }

    /// Applies `events` and moves the checkpoint to `covered`, in one transaction. `claim` follows.
    ///
    /// The stored checkpoint must be where `claim` says, so after an error that leaves the commit in
    /// doubt a new claim is needed, and nothing is applied twice.
    pub(crate) async fn apply(
        &self,
        claim: &mut Claim,
        events: &[Recorded<P::Event>],
        covered: Position,
    ) -> Result<(), Refused> {
        let to = Progress {
            position: covered,
            anchor: events.last().map(|last| (position(last), id(last))),
        };
        let ttl = self.settings.lease_ttl;
        let mut batch = self.store.begin_batch(claim, &to, ttl).await?;
        if !events.is_empty()
            && let Err(failure) = self.handle(batch.connection(), events).await
        {
            roll_back(batch).await;
            return Err(Refused::ByHandler(failure));
        }
        batch.commit().await?;
        claim.position = covered;
        Ok(())
    }

    async fn handle(
        &self,
        connection: &mut S::Connection,
        events: &[Recorded<P::Event>],
    ) -> Result<(), Failure> {
        let handled = async { self.projection.project(connection, events).await };
        match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(FailureKind::Handler, chain(&error))),
            Err(panic) => Err(Failure::new(FailureKind::Panicked, panicked(&*panic))),
        }
    }
}

pub(crate) fn position<E>(event: &Recorded<E>) -> Position {
    event.record.position
}

/// What a panic said, if it was text.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

fn id<E>(event: &Recorded<E>) -> uuid::Uuid {
    event.record.event_id
}

fn chain(error: &BoxError) -> String {
    Chain(&**error).to_string()
}

/// Dropping would roll back too; this frees the locks now.
async fn roll_back<B: Batch>(batch: B) {
    if let Err(error) = batch.rollback().await {
        tracing::debug!(error = %Chain(&error), "could not roll back; the store will");
    }
}
