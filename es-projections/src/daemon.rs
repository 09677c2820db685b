//! Many projections on one store, started together.

use std::{collections::HashSet, fmt, sync::Arc};

use es_core::{Project, ProjectionId, ProjectionStore};
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    DaemonHandle, External, Monitor, Options, Projections, Settings, StartError, View,
    board::{Board, ShardBoard},
    feed::{Feed, FeedLimits},
    health::Pulse,
    member::{Crew, Member, Typed},
    node::Steward,
    runner::Common,
    target::{Inside, Outside},
    view::Viewer,
};

/// Runs projections on a store. Any number of daemons may run on one database: the projections, and the
/// shards of each, are spread over them, each is run by one of them at a time, and taken over when that
/// one stops.
#[must_use = "nothing runs before `start`"]
pub struct Daemon<S> {
    store: Arc<S>,
    settings: Settings,
    projections: Vec<Added<S>>,
    views: Vec<AddedView<S>>,
}

/// A view whose types are forgotten.
struct AddedView<S> {
    id: ProjectionId,
    make: MakeViewer<S>,
}

type MakeViewer<S> =
    Box<dyn FnOnce(&Common<S>, ShardBoard, Options) -> BoxFuture<'static, ()> + Send + Sync>;

struct Added<S> {
    id: ProjectionId,
    options: Option<Options>,
    make: MakeMember<S>,
}

type MakeMember<S> = Box<dyn FnOnce(Arc<S>, Options) -> Box<dyn Member<S>> + Send + Sync>;

impl<S: ProjectionStore + 'static> Daemon<S> {
    /// A daemon without projections yet.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            settings: Settings::default(),
            projections: Vec::new(),
            views: Vec::new(),
        }
    }

    /// Changes how it behaves.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Adds a projection whose read model is in the store's database: each event takes effect exactly
    /// once.
    pub fn run<P: Project<S::Connection>>(self, projection: P) -> Self {
        self.add(projection, None)
    }

    /// The same with options of its own.
    pub fn run_with<P: Project<S::Connection>>(self, projection: P, options: Options) -> Self {
        self.add(projection, Some(options))
    }

    /// Adds a projection whose read model is somewhere else: each event takes effect at least once. See
    /// [`External`].
    pub fn run_external<P: Project<External>>(mut self, projection: P, options: Options) -> Self {
        self.projections.push(Added {
            id: ProjectionId::of::<P>(),
            options: Some(options),
            make: Box::new(|store, options| {
                Box::new(Typed::new(store, Outside(projection), options))
            }),
        });
        self
    }

    /// Adds a projection whose read model is in the memory of this process. See [`View`].
    pub fn run_view<P, M>(mut self, projection: P, view: &View<M>) -> Self
    where
        P: Project<M>,
        M: Default + Send + Sync + 'static,
    {
        let view = view.clone();
        self.views.push(AddedView {
            id: ProjectionId::of::<P>(),
            make: Box::new(|common, board, options| {
                let viewer = Viewer {
                    feed: Arc::clone(&common.feed),
                    projection,
                    view,
                    retries: options.handler_retries,
                    options: Arc::new(options.without_parking()),
                    board,
                    backoff: common.backoff(),
                    stop: common.stop.clone(),
                    covered: None,
                };
                Box::pin(viewer.run())
            }),
        });
        self
    }

    fn add<P: Project<S::Connection>>(mut self, projection: P, options: Option<Options>) -> Self {
        self.projections.push(Added {
            id: ProjectionId::of::<P>(),
            options,
            make: Box::new(|store, options| {
                Box::new(Typed::new(store, Inside(projection), options))
            }),
        });
        self
    }

    /// Sets up the read models, one after the other, then starts all projections as tasks on the
    /// current tokio runtime. If the future is dropped nothing is started.
    ///
    /// A projection that fails later stops alone; see [`Status`](crate::Status).
    ///
    /// # Errors
    ///
    /// [`StartError`], of the first projection that could not be set up; then none is running.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub async fn start(self) -> Result<DaemonHandle<S>, StartError> {
        let mut seen = HashSet::new();
        let projections = self.projections.iter().map(|added| &added.id);
        let mut ids = projections.chain(self.views.iter().map(|added| &added.id));
        if let Some(twice) = ids.find(|id| !seen.insert(*id)) {
            return Err(StartError::Duplicate {
                projection: twice.clone(),
            });
        }

        let mut crews = Vec::with_capacity(self.projections.len());
        for Added { options, make, .. } in self.projections {
            let options = options.unwrap_or_else(|| self.settings.options.clone());
            let member = make(Arc::clone(&self.store), options);
            member.register(&self.store).await?;
            crews.push(Crew::new(member));
        }

        let settings = &self.settings;
        let limits = FeedLimits {
            window_bytes: settings.shared_pages_bytes,
            ..FeedLimits::default()
        };
        let common = Arc::new(Common {
            feed: Feed::new(Arc::clone(&self.store), limits),
            store: Arc::clone(&self.store),
            node: Uuid::now_v7(),
            node_name: settings.node_name.clone(),
            lease_ttl: settings.lease_ttl,
            backoff: (settings.backoff_start, settings.backoff_limit),
            nudge: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
        });
        let pulse = Arc::new(Pulse::new(settings.stall_after));
        let mut views = Vec::with_capacity(self.views.len());
        for AddedView { id, make } in self.views {
            let span = tracing::info_span!("view", projection = %id);
            let board = Board::new(id);
            board.keep(1, true);
            let viewer = make(&common, board.shard(0), settings.options.clone());
            let task = AbortOnDropHandle::new(tokio::spawn(viewer.instrument(span)));
            views.push((board, task));
        }
        let steward = Steward {
            common: Arc::clone(&common),
            crews,
            views,
            pulse: Arc::clone(&pulse),
        };
        let boards: Arc<[_]> = steward.boards().into();
        let monitor = Monitor::new(Arc::clone(&boards), pulse, Arc::clone(&self.store) as _);
        let projections = Projections::with_daemon(self.store, Arc::clone(&common.nudge), boards);
        let task = tokio::spawn(steward.run());
        Ok(DaemonHandle::new(monitor, projections, common, task))
    }
}

impl<S> fmt::Debug for Daemon<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let projections: Vec<_> = self.projections.iter().map(|added| &added.id).collect();
        f.debug_struct("Daemon")
            .field("projections", &projections)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
