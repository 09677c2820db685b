//! A projection that a daemon runs, whatever its type: set up once, then a runner for each shard.

use std::{collections::BTreeMap, sync::Arc};

use es_core::{Batch, BoxError, ProjectionId, ProjectionStore, Shard, Standing};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    Options, StartError,
    batch::Batches,
    board::Board,
    change,
    error::passes,
    lifecycle::{Registration, register},
    runner::{Common, Order, Runner},
    target::Target,
    turn::FIRST,
};

/// A projection whose type is forgotten.
pub(crate) trait Member<S>: Send + Sync {
    fn id(&self) -> ProjectionId;
    /// Creates the read model and makes the projection known, in one transaction.
    fn register<'a>(&'a self, store: &'a S) -> BoxFuture<'a, Result<(), StartError>>;
    /// The runner of one shard.
    fn runner(
        &self,
        common: &Arc<Common<S>>,
        board: &Arc<Board>,
        index: u32,
        orders: watch::Receiver<Order>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()>;
}

/// A projection, where it writes, and how it behaves.
pub(crate) struct Typed<S, T> {
    batches: Arc<Batches<S, T>>,
    options: Arc<Options>,
}

impl<S: ProjectionStore, T: Target<S>> Typed<S, T> {
    pub(crate) fn new(store: Arc<S>, target: T, options: Options) -> Self {
        Self {
            batches: Arc::new(Batches { store, target }),
            options: Arc::new(options),
        }
    }
}

impl<S: ProjectionStore + 'static, T: Target<S>> Member<S> for Typed<S, T> {
    fn id(&self) -> ProjectionId {
        T::id()
    }

    fn register<'a>(&'a self, store: &'a S) -> BoxFuture<'a, Result<(), StartError>> {
        Box::pin(async move {
            let projection = T::id();
            let set_up = |source: BoxError| StartError::SetUp {
                projection: projection.clone(),
                transient: passes(store, &*source),
                source,
            };
            let target = &self.batches.target;
            target.set_up_before().await.map_err(set_up)?;
            let registration = Registration {
                id: &projection,
                event_types: &T::event_types(),
                shards: self.options.shards,
                repeatable: T::REPEATABLE,
                promote: self.options.promote,
                resume_failed: self.options.resume_failed,
            };
            let failed = |source| StartError::Store {
                projection: projection.clone(),
                source,
            };
            let (mut batch, standings) = store.begin_change(&projection).await.map_err(failed)?;
            let change = register(&standings, registration);
            let change = change.map_err(|source| StartError::Refused {
                projection: projection.clone(),
                source,
            })?;
            target.set_up(batch.connection()).await.map_err(set_up)?;
            // The first version of a name is served from the start.
            if change.put.iter().any(|row| row.active) && standings.is_empty() {
                target.activate(batch.connection()).await.map_err(set_up)?;
            }
            change::write(&mut batch, &change).await.map_err(failed)?;
            batch.commit().await.map_err(failed)
        })
    }

    fn runner(
        &self,
        common: &Arc<Common<S>>,
        board: &Arc<Board>,
        index: u32,
        orders: watch::Receiver<Order>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        let runner = Runner {
            common: Arc::clone(common),
            batches: Arc::clone(&self.batches),
            options: Arc::clone(&self.options),
            shard: Shard::new(T::id(), index),
            board: board.shard(index),
            orders,
            stop,
            backoff: common.backoff(),
            size: FIRST,
            held: None,
        };
        Box::pin(runner.run())
    }
}

/// The runners of one projection on this node.
pub(crate) struct Crew<S> {
    pub(crate) member: Box<dyn Member<S>>,
    pub(crate) board: Arc<Board>,
    runners: BTreeMap<u32, Seat>,
    shards: u32,
    /// Of runners whose shard is no more.
    leaving: Vec<AbortOnDropHandle<()>>,
}

struct Seat {
    orders: watch::Sender<Order>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl<S: ProjectionStore + 'static> Crew<S> {
    pub(crate) fn new(member: Box<dyn Member<S>>) -> Self {
        let board = Board::new(member.id());
        Self {
            member,
            board,
            runners: BTreeMap::new(),
            shards: 0,
            leaving: Vec::new(),
        }
    }

    /// Does as the database and the assignment say.
    pub(crate) fn follow(
        &mut self,
        standings: &[&Standing],
        mine: impl Fn(&Shard) -> bool,
        name_of: impl Fn(Uuid) -> Option<String>,
        common: &Arc<Common<S>>,
    ) {
        let shards = standings.first().map_or(0, |standing| standing.shards);
        if shards != self.shards {
            self.divide(shards, common);
        }
        for standing in standings {
            self.order(standing, mine(&standing.shard), &name_of, common);
        }
        let active = standings.iter().any(|standing| standing.active);
        self.board.keep(shards, active);
    }

    fn order(
        &self,
        standing: &Standing,
        mine: bool,
        name_of: impl Fn(Uuid) -> Option<String>,
        common: &Arc<Common<S>>,
    ) {
        let index = standing.shard.index;
        let Some(seat) = self.runners.get(&index) else {
            return;
        };
        let free = standing.owner.is_none_or(|owner| owner == common.node);
        let order = match standing.lifecycle.is_running() && mine && free {
            true => Order::Run {
                epoch: standing.epoch,
            },
            false => Order::Rest {
                stray: (standing.owner == Some(common.node)).then_some(standing.epoch),
            },
        };
        let rests = |order| matches!(order, Order::Rest { .. });
        let mut before = order;
        seat.orders.send_if_modified(|current| {
            before = std::mem::replace(current, order);
            // A runner that rests is woken only for news, or to give back what it could not.
            before != order || matches!(order, Order::Rest { stray: Some(_) })
        });
        if rests(order) && (rests(before) || !standing.lifecycle.is_running()) {
            let owner = standing.owner.and_then(name_of);
            self.board.seen(standing, owner);
        }
    }

    /// The projection has another number of shards now: the old runners' claims are fenced already.
    fn divide(&mut self, shards: u32, common: &Arc<Common<S>>) {
        for (_, seat) in std::mem::take(&mut self.runners) {
            seat.stop.cancel();
            self.leaving.push(seat.task);
        }
        self.leaving.retain(|task| !task.is_finished());
        for index in 0..shards {
            let (orders, receiver) = watch::channel(Order::Rest { stray: None });
            let stop = common.stop.child_token();
            let runner = self
                .member
                .runner(common, &self.board, index, receiver, stop.clone());
            let span = tracing::info_span!("projection", projection = %self.board.projection, shard = index);
            let task = AbortOnDropHandle::new(tokio::spawn(runner.instrument(span)));
            self.runners.insert(index, Seat { orders, stop, task });
        }
        self.shards = shards;
    }

    /// Waits for the runners, which have been told to stop.
    pub(crate) async fn finish(&mut self) {
        let seats = std::mem::take(&mut self.runners);
        let tasks = seats.into_values().map(|seat| seat.task);
        // Those that are left when this future is dropped are aborted with it.
        for mut task in tasks.chain(std::mem::take(&mut self.leaving)) {
            ended(&mut task).await;
        }
    }
}

impl<S> Drop for Crew<S> {
    /// Runners that are left, since somebody's patience has ended, are aborted with it.
    fn drop(&mut self) {
        self.board.stopped();
    }
}

/// Waits for a task's end.
pub(crate) async fn ended(task: &mut AbortOnDropHandle<()>) {
    // Runners catch their panics; what is left is a runtime that is shutting down.
    if let Err(error) = task.await {
        tracing::warn!(%error, "a projection's task ended early");
    }
}
