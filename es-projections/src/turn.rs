//! A turn: from getting the right to run a shard to losing it. Catch up page by page, then follow.

use std::{collections::HashSet, sync::Arc};

use es_core::{Claim, Lifecycle, Position, ProjectionStore};
use tokio::time::{Duration, Instant};
use tracing::Instrument;

use crate::{
    ahead::Pages,
    error::Problem,
    metrics, parked,
    policy::{Applied, Policy, nothing},
    runner::Runner,
    status::State,
    succession::{self, Next},
    target::Target,
    work::{Sorter, Work},
};

/// The first page is small: nobody knows yet how large events are.
pub(crate) const FIRST: u32 = 256;
/// An idle loop comes round at least so often.
const ROUND: Duration = Duration::from_secs(1);
/// How long to wait for the version that is served before looking again how far it has come.
const LOOK: Duration = Duration::from_millis(50);
/// How often to look whether people have done what only they can do.
const BLOCKED: Duration = Duration::from_secs(1);

/// Where a turn is.
pub(crate) struct Turn<'a, S: ProjectionStore, T: Target<S>> {
    runner: &'a mut Runner<S, T>,
    /// The stored checkpoint, and the right to move it.
    claim: Claim,
    sorter: Sorter,
    pages: Pages<S, T::Event>,
    /// How far the log has been read. Between the checkpoint and it are only foreign events.
    covered: Position,
    /// How many events to read at once.
    size: u32,
    /// When a checkpoint that only passes foreign events may be written.
    write_at: Instant,
}

impl<'a, S: ProjectionStore + 'static, T: Target<S>> Turn<'a, S, T> {
    pub(crate) fn new(runner: &'a mut Runner<S, T>, claim: Claim) -> Self {
        let sorter = Sorter {
            projection: claim.shard.projection.clone(),
            index: claim.shard.index,
            shards: claim.shards,
            applied: claim.applied.clone(),
            silent: (claim.lifecycle == Lifecycle::Running).then(|| claim.silent.clone()),
            parked: Arc::new(HashSet::new()),
            bound: None,
            options: Arc::clone(&runner.options),
        };
        Self {
            covered: claim.position,
            sorter,
            pages: Pages::new(Arc::clone(&runner.common.feed)),
            size: runner.size.min(runner.options.batch_events).max(1),
            write_at: Instant::now(),
            claim,
            runner,
        }
    }

    /// Applies events until told to stop.
    pub(crate) async fn run(mut self) -> Result<(), Problem> {
        self.runner.board.reached(self.covered);
        self.runner.board.state(self.busy());
        self.runner.board.turned();
        let Runner {
            batches,
            board,
            stop,
            ..
        } = &*self.runner;
        parked::retry(batches, &mut self.claim, &mut self.sorter, board, stop).await?;
        while self.may_go_on() {
            self.runner.board.turned();
            self.runner.board.parked(self.sorter.parked.len());
            if self.is_built_beside() && !self.may_read().await? {
                continue;
            }
            let told = self.told_to_end();
            let next = self.pages.next(self.covered, self.size, &mut self.sorter);
            let work = tokio::select! {
                biased;
                () = told => break,
                work = next => work?,
            };
            self.advance(work).await?;
        }
        self.write_checkpoint().await
    }

    fn may_go_on(&self) -> bool {
        !self.runner.stop.is_cancelled() && self.runner.orders.borrow().lets(self.claim.epoch)
    }

    /// When it may not go on any more.
    fn told_to_end(&self) -> impl Future<Output = ()> + Send + use<S, T> {
        let (mut orders, stop) = (self.runner.orders.clone(), self.runner.stop.clone());
        let epoch = self.claim.epoch;
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = orders.wait_for(|order| !order.lets(epoch)) => {}
            }
        }
    }

    /// Applies a page and reads the next one meanwhile; or waits, if there is no next one.
    async fn advance(&mut self, work: Work<T::Event>) -> Result<(), Problem> {
        if work.is_empty() {
            self.covered = work.covered;
        } else if self.apply(&work).await? == Applied::Part {
            self.pages.forget();
            return Ok(());
        }
        self.runner.board.reached(self.covered);
        if let Some(failure) = work.blocked {
            self.write_checkpoint().await?;
            return Err(Problem::Failed(failure));
        }
        self.runner.backoff.reset();
        self.runner.board.works();
        if self.is_built_beside() {
            if !work.full {
                // It has seen more of the log than the other version has, or not yet as much.
                self.runner.rest(LOOK).await;
            }
            return Ok(());
        }
        self.take_the_stage().await?;
        if work.full {
            self.runner.board.state(self.busy());
            return Ok(());
        }
        self.runner.board.oldest(None);
        self.runner.board.state(State::Live);
        self.wait().await
    }

    async fn apply(&mut self, work: &Work<T::Event>) -> Result<Applied, Problem> {
        if work.full && work.blocked.is_none() {
            self.pages.begin(work.covered, self.size, &self.sorter);
        }
        let oldest = work.events.first().map(|event| event.record.created_at);
        self.runner.board.oldest(oldest);
        let started = Instant::now();
        let policy = Policy {
            batches: &self.runner.batches,
            claim: &mut self.claim,
            sorter: &mut self.sorter,
            board: &self.runner.board,
            backoff: self.runner.common.backoff(),
            stop: &self.runner.stop,
        };
        let span = tracing::debug_span!(
            "batch",
            events = work.events.len(),
            after = self.covered.get(),
            covered = work.covered.get(),
        );
        let applied = policy.apply(work).instrument(span).await;
        self.covered = self.claim.position;
        let was_slow = started.elapsed() > self.runner.options.batch_time;
        if was_slow && matches!(applied, Err(Problem::Unavailable(_))) {
            // It may have been too long for the server's patience, and would be again.
            self.runner.size = (self.size / 2).max(1);
        }
        let applied = applied?;
        self.runner.size = FIRST;
        metrics::batch(&self.claim.shard.projection, started.elapsed());
        if let Applied::All(took) = applied {
            self.resize(work, took);
        }
        Ok(applied)
    }

    /// Batches that take long get smaller, quick ones larger, as far as the content allows.
    fn resize(&mut self, work: &Work<T::Event>, time: Duration) {
        let options = &self.runner.options;
        if time > options.batch_time {
            self.size = (self.size / 2).max(1);
        } else if work.full && time < options.batch_time / 2 {
            self.size = self.size.saturating_mul(2);
        }
        let events = work.events.len().max(1);
        let each = (work.bytes / events).max(1);
        let fit = u32::try_from(options.batch_bytes / each).unwrap_or(u32::MAX);
        self.size = self.size.min(options.batch_events).min(fit.max(1)).max(1);
    }

    /// Waits for events, or until the checkpoint needs attention.
    async fn wait(&mut self) -> Result<(), Problem> {
        let options = &self.runner.options;
        let unwritten = self.covered.get().saturating_sub(self.claim.position.get());
        if unwritten >= options.checkpoint_positions || Instant::now() >= self.write_at {
            self.write_checkpoint().await?;
        }
        // The loop comes round from time to time, so that one that stands still can be told.
        let round = Instant::now() + self.runner.common.lease_ttl.min(ROUND);
        let attention = match self.covered == self.claim.position {
            true => round,
            false => round.min(self.write_at),
        };
        let (told, covered) = (self.told_to_end(), self.covered);
        let mut asked = self.runner.board.asked();
        let so_far = *asked.borrow_and_update();
        tokio::select! {
            biased;
            () = told => Ok(()),
            waited = self.pages.wait(covered, so_far) => waited,
            _ = asked.wait_for(|asked| *asked > covered), if so_far <= covered => Ok(()),
            () = tokio::time::sleep_until(attention) => Ok(()),
        }
    }

    /// Saves the next start from reading the foreign events again.
    async fn write_checkpoint(&mut self) -> Result<(), Problem> {
        if self.covered > self.claim.position {
            let part = nothing(self.covered);
            self.runner.batches.apply(&mut self.claim, part).await?;
            self.write_at = Instant::now() + self.runner.options.checkpoint_interval;
        }
        Ok(())
    }

    fn is_built_beside(&self) -> bool {
        self.claim.lifecycle == Lifecycle::Rebuilding
    }

    fn busy(&self) -> State {
        match self.is_built_beside() {
            true => State::Rebuilding,
            false => State::CatchingUp,
        }
    }

    /// A version that is built beside another one stays at or below it, so that no effect is left out
    /// when it takes over. `false` if it has to look again.
    async fn may_read(&mut self) -> Result<bool, Problem> {
        if self.sorter.bound.is_some_and(|bound| self.covered < bound) {
            return Ok(true);
        }
        self.pages.forget();
        self.write_checkpoint().await?;
        let store = &*self.runner.batches.store;
        let projection = &self.claim.shard.projection;
        let caught_up = self.sorter.bound.is_some();
        match succession::next(store, projection, self.covered, caught_up).await? {
            Next::Read(bound) => {
                self.sorter.bound = Some(bound);
                Ok(true)
            }
            Next::TookOver => Err(Problem::Restart),
            Next::Blocked(reason) => {
                self.runner.board.error(&reason);
                self.runner.rest(BLOCKED).await;
                Ok(false)
            }
            Next::Wait => {
                self.runner.rest(LOOK).await;
                Ok(false)
            }
        }
    }

    /// The version that has taken over becomes the one that is served once it is not older than what it
    /// replaces.
    async fn take_the_stage(&mut self) -> Result<(), Problem> {
        if self.claim.active || self.covered < self.claim.silent.highest() {
            return Ok(());
        }
        self.write_checkpoint().await?;
        let batches = &self.runner.batches;
        match succession::activate(batches, &self.claim.shard.projection).await? {
            true => Err(Problem::Restart),
            false => Ok(()),
        }
    }
}
