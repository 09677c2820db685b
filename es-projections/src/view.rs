//! Read models in the memory of one process.

use std::{collections::HashSet, sync::Arc};

use es_core::{BoxError, EventStore, Failure, FailureKind, Marks, Position, Project, ProjectionId};
use tokio::{
    sync::{RwLock, RwLockReadGuard},
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Options,
    ahead::Pages,
    backoff::Backoff,
    board::ShardBoard,
    caught::caught,
    error::Problem,
    feed::Feed,
    status::State,
    work::{Sorter, Work},
};

/// The loop comes round from time to time, so that one that stands still can be told.
const ROUND: Duration = Duration::from_secs(1);

/// A read model in the memory of this process: a cache, a dashboard, a lookup table. Each process that
/// wants it builds its own from the first event, at each start, and then follows the log; nothing is
/// stored. Cheap to clone.
///
/// ```
/// # use std::{collections::HashMap, error::Error};
/// # use es_core::{BoxError, Event, EventStore, ExpectedVersion, MemoryStore, NewEvent, Project, Projection, Recorded, StreamId};
/// use es_projections::{Daemon, View};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Event, Serialize, Deserialize)]
/// # struct PlayerMoved { to_room: String }
///
/// #[derive(Projection)]
/// #[projection(name = "room_visits", events(PlayerMoved))]
/// struct RoomVisits;
///
/// type Visits = HashMap<String, u32>;
///
/// impl Project<Visits> for RoomVisits {
///     async fn project(&self, visits: &mut Visits, events: &[Recorded<RoomVisitsEvent>]) -> Result<(), BoxError> {
///         for Recorded { event: RoomVisitsEvent::PlayerMoved(moved), .. } in events {
///             *visits.entry(moved.to_room.clone()).or_default() += 1;
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn Error>> {
/// # let store = MemoryStore::new();
/// let visits = View::<Visits>::default();
/// let daemon = Daemon::new(store.clone()).run_view(RoomVisits, &visits).start().await?;
/// # let moved = NewEvent::encode(&PlayerMoved { to_room: "cellar".into() })?;
/// # let player = StreamId::new("player", uuid::Uuid::now_v7());
/// # let appended = store.append(&player, ExpectedVersion::Any, &[moved]).await?;
/// daemon.wait_until("room_visits", appended.position).await?;
/// assert_eq!(visits.read().await?["cellar"], 1);
/// # daemon.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// # When something fails
///
/// A handler that fails may have changed half of the model, so the model is built anew from the first
/// event. After [`handler_retries`](Options::handler_retries) the view has failed, and
/// [`read`](Self::read) says so. There are no dead letters: what cannot be decoded is passed over if the
/// options say [`OnFailure::Skip`](crate::OnFailure::Skip), otherwise it stops the view.
#[derive(Debug)]
pub struct View<M>(Arc<RwLock<Content<M>>>);

#[derive(Debug, Default)]
struct Content<M> {
    model: M,
    failure: Option<Failure>,
}

impl<M> Clone for View<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Default> Default for View<M> {
    /// An empty one.
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<M> View<M> {
    /// The model, between two batches. While it is read it is not changed: do not hold it for long.
    ///
    /// # Errors
    ///
    /// Why it has failed, if it has.
    pub async fn read(&self) -> Result<RwLockReadGuard<'_, M>, Failure> {
        let content = self.0.read().await;
        match &content.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(RwLockReadGuard::map(content, |content| &content.model)),
        }
    }
}

/// Keeps a view up to date.
pub(crate) struct Viewer<S, P: Project<M>, M: Send> {
    pub(crate) feed: Arc<Feed<S>>,
    pub(crate) projection: P,
    pub(crate) view: View<M>,
    pub(crate) options: Arc<Options>,
    pub(crate) board: ShardBoard,
    pub(crate) backoff: Backoff,
    pub(crate) stop: CancellationToken,
    /// Everything at or before it is in the model; `None` if it is to be built from the start.
    pub(crate) covered: Option<Position>,
    /// Left until it has worked again.
    pub(crate) retries: u32,
}

impl<S, P, M> Viewer<S, P, M>
where
    S: EventStore + 'static,
    P: Project<M>,
    M: Default + Send + Sync + 'static,
{
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let followed = caught(self.follow()).await;
            let failure = match followed.unwrap_or_else(|panic| Err(Problem::Failed(panic))) {
                Ok(()) => return,
                Err(Problem::Failed(failure)) => failure,
                Err(Problem::Unavailable(message) | Problem::Fenced(message)) => {
                    tracing::warn!(error = %message, "the store failed; reading on where it was");
                    self.board.error(&message);
                    self.backoff.pause(&self.stop).await;
                    continue;
                }
                Err(Problem::Restart) => continue,
            };
            if failure.kind != FailureKind::Handler || self.retries == 0 {
                tracing::error!(error = %failure, "view failed");
                self.view.0.write().await.failure = Some(failure.clone());
                self.board.rests();
                return self.board.failed(failure);
            }
            self.board.error(&failure.message);
            self.retries -= 1;
            self.backoff.pause(&self.stop).await;
        }
    }

    /// From where the model is.
    async fn follow(&mut self) -> Result<(), Problem> {
        let mut sorter = Sorter {
            projection: ProjectionId::of::<P>(),
            index: 0,
            shards: 1,
            applied: Marks::default(),
            silent: None,
            parked: Arc::new(HashSet::new()),
            bound: None,
            options: Arc::clone(&self.options),
        };
        let mut pages = Pages::<S, P::Event>::new(Arc::clone(&self.feed));
        if self.covered.is_none() {
            let view = self.view.clone();
            let mut content = view.0.write().await;
            handled(self.projection.set_up(&mut content.model)).await?;
            self.covered = Some(Position::START);
        }
        self.board.state(State::CatchingUp);
        let stop = self.stop.clone();
        while let Some(covered) = self.covered.filter(|_| !stop.is_cancelled()) {
            self.board.turned();
            let work = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                work = pages.next(covered, self.options.batch_events, &mut sorter) => work?,
            };
            if work.full && work.blocked.is_none() {
                pages.begin(work.covered, self.options.batch_events, &sorter);
            }
            self.apply(&work).await?;
            if let Some(failure) = work.blocked {
                return Err(Problem::Failed(failure));
            }
            if work.full {
                self.board.state(State::CatchingUp);
                continue;
            }
            self.board.state(State::Live);
            self.backoff.reset();
            self.retries = self.options.handler_retries;
            let (mut asked, covered) = (self.board.asked(), work.covered);
            let so_far = *asked.borrow_and_update();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                waited = pages.wait(covered, so_far) => waited?,
                _ = asked.wait_for(|asked| *asked > covered), if so_far <= covered => {}
                () = sleep(ROUND) => {}
            }
        }
        Ok(())
    }

    async fn apply(&mut self, work: &Work<P::Event>) -> Result<(), Problem> {
        if !work.events.is_empty() {
            let view = self.view.clone();
            let mut content = view.0.write().await;
            let projected = self.projection.project(&mut content.model, &work.events);
            if let Err(problem) = handled(projected).await {
                // Half of the batch may be in it, and nobody may see that.
                content.model = M::default();
                self.covered = None;
                self.board.reached(Position::START);
                return Err(problem);
            }
        }
        self.covered = Some(work.covered);
        self.board.applied(work.events.len(), work.covered);
        Ok(())
    }
}

async fn handled(handler: impl Future<Output = Result<(), BoxError>>) -> Result<(), Problem> {
    let ended = caught(handler).await.map_err(Problem::Failed)?;
    ended.map_err(|error| Problem::Failed(Failure::handler(&*error)))
}
