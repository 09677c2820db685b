//! A turn: from getting the lease to losing it. Catch up page by page, then follow.

use es_core::{Claim, Position, Project, ProjectionStore};
use tokio::time::{Duration, Instant};

use crate::{State, batch::Page, error::Problem, policy, runner::Runner};

/// How often to look at the end of the log while catching up.
const LOOK: Duration = Duration::from_secs(1);

/// Where a turn is.
pub(crate) struct Turn<'a, S, P> {
    runner: &'a mut Runner<S, P>,
    /// The stored checkpoint, and the right to move it.
    claim: Claim,
    /// How far the log has been read. Between the checkpoint and it are only foreign events.
    covered: Position,
    /// When the lease must be renewed, unless a batch does it.
    renew_at: Instant,
    /// When a checkpoint that only passes foreign events may be written.
    write_at: Instant,
    /// When to look at the end of the log again.
    look_at: Instant,
}

/// The next page, read while the last one was applied, and the position it was read after.
type Ahead<E> = Option<(Position, Result<Page<E>, Problem>)>;

impl<'a, S: ProjectionStore + 'static, P: Project<S::Connection>> Turn<'a, S, P> {
    pub(crate) fn new(runner: &'a mut Runner<S, P>, claim: Claim) -> Self {
        let now = Instant::now();
        Self {
            covered: claim.position,
            claim,
            renew_at: now + runner.batches.settings.lease_ttl / 3,
            write_at: now,
            look_at: now,
            runner,
        }
    }

    /// Applies events until told to stop.
    pub(crate) async fn run(mut self) -> Result<(), Problem> {
        self.runner.board.state(State::CatchingUp);
        self.runner.board.reached(self.covered);
        let mut ahead = None;
        while !self.runner.stop.is_cancelled() {
            self.renew().await?;
            let page = match ahead.take() {
                Some((after, page)) if after == self.covered => page?,
                _ => tokio::select! {
                    biased;
                    () = self.runner.stop.cancelled() => break,
                    page = self.runner.batches.fetch(self.covered) => page?,
                },
            };
            ahead = self.advance(page).await?;
        }
        self.write_checkpoint().await
    }

    /// Applies a page and reads the next one meanwhile; or waits, if there is no next one.
    async fn advance(&mut self, page: Page<P::Event>) -> Result<Ahead<P::Event>, Problem> {
        let mut ahead = None;
        if page.events.is_empty() {
            self.covered = page.covered;
        } else {
            ahead = self.apply(&page).await?;
            if self.covered != page.covered {
                return Ok(None); // It was told to stop in the middle of a failing page.
            }
        }
        self.runner.board.reached(self.covered);
        if let Some(failure) = page.blocked {
            return Err(Problem::Failed(failure));
        }
        self.runner.backoff.reset();
        self.runner.board.works();
        if page.full {
            self.catching_up().await?;
        } else {
            self.runner.board.state(State::Live);
            self.runner.board.head(self.covered);
            self.wait().await?;
        }
        Ok(ahead)
    }

    async fn apply(&mut self, page: &Page<P::Event>) -> Result<Ahead<P::Event>, Problem> {
        let Runner {
            batches,
            board,
            stop,
            ..
        } = &*self.runner;
        let claim = &mut self.claim;
        let started = Instant::now();
        let applied = policy::apply(batches, claim, &page.events, page.covered, board, stop);
        let read_ahead = async {
            match page.full && page.blocked.is_none() {
                true => Some((page.covered, batches.fetch(page.covered).await)),
                false => None,
            }
        };
        let (applied, ahead) = tokio::join!(applied, read_ahead);
        self.follow(started);
        applied?;
        Ok(ahead)
    }

    async fn catching_up(&mut self) -> Result<(), Problem> {
        self.runner.board.state(State::CatchingUp);
        if Instant::now() >= self.look_at {
            self.runner
                .board
                .head(self.runner.batches.store.settled().await?);
            self.look_at = Instant::now() + LOOK;
        }
        Ok(())
    }

    /// Waits for events, or until the checkpoint or the lease needs attention.
    async fn wait(&mut self) -> Result<(), Problem> {
        let settings = &self.runner.batches.settings;
        let unwritten = self.covered.get().saturating_sub(self.claim.position.get());
        if unwritten >= settings.checkpoint_positions || Instant::now() >= self.write_at {
            self.write_checkpoint().await?;
        }
        let attention = match self.covered == self.claim.position {
            true => self.renew_at,
            false => self.renew_at.min(self.write_at),
        };
        tokio::select! {
            biased;
            () = self.runner.stop.cancelled() => Ok(()),
            woken = self.runner.batches.store.wait_for_events(self.covered) => Ok(woken?),
            () = tokio::time::sleep_until(attention) => Ok(()),
        }
    }

    /// Saves the next start from reading the foreign events again.
    async fn write_checkpoint(&mut self) -> Result<(), Problem> {
        if self.covered > self.claim.position {
            let Runner {
                batches,
                board,
                stop,
                ..
            } = &*self.runner;
            let started = Instant::now();
            policy::apply(batches, &mut self.claim, &[], self.covered, board, stop).await?;
            self.write_at = Instant::now() + batches.settings.checkpoint_interval;
            self.follow(started);
        }
        Ok(())
    }

    /// A batch has moved the checkpoint and, when it began, renewed the lease.
    fn follow(&mut self, started: Instant) {
        self.covered = self.claim.position;
        self.renew_at = started + self.runner.batches.settings.lease_ttl / 3;
    }

    async fn renew(&mut self) -> Result<(), Problem> {
        if Instant::now() < self.renew_at {
            return Ok(());
        }
        let started = Instant::now();
        let claim = self.runner.lease.claim().await?;
        if claim.position != self.claim.position {
            self.covered = claim.position;
        }
        self.claim = claim;
        self.renew_at = started + self.runner.batches.settings.lease_ttl / 3;
        Ok(())
    }
}
