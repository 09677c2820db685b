//! This process among the others: says that it is alive, and sees to it that each shard has one runner.

use std::{sync::Arc, time::Duration};

use es_core::{Chain, Fleet, Node, ProjectionId, ProjectionStore, ReadError, Standing};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    assign::assign,
    backoff::Backoff,
    board::Board,
    health::Pulse,
    member::{Crew, ended},
    metrics,
    runner::Common,
};

/// How many times a node says that it is alive before it would be taken for dead.
const BEATS: u32 = 4;
/// Also with a long lease, orders are heard within a second.
const LONGEST: Duration = Duration::from_millis(750);
const SHORTEST: Duration = Duration::from_millis(5);
/// After a neighbour's life has ended, look a moment later.
const MOMENT: Duration = Duration::from_millis(5);

/// The node and its crews.
pub(crate) struct Steward<S> {
    pub(crate) common: Arc<Common<S>>,
    pub(crate) crews: Vec<Crew<S>>,
    pub(crate) views: Vec<(Arc<Board>, AbortOnDropHandle<()>)>,
    pub(crate) pulse: Arc<Pulse>,
}

impl<S: ProjectionStore + 'static> Steward<S> {
    pub(crate) fn boards(&self) -> Vec<Arc<Board>> {
        let crews = self.crews.iter().map(|crew| &crew.board);
        let views = self.views.iter().map(|(board, _)| board);
        crews.chain(views).cloned().collect()
    }

    /// Until told to stop; then waits for the runners, and leaves.
    pub(crate) async fn run(mut self) {
        let common = Arc::clone(&self.common);
        let mut backoff: Backoff = common.backoff();
        while !common.stop.is_cancelled() {
            let next = match self.beat().await {
                Ok(next) => {
                    backoff.reset();
                    next
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "could not say that this node is alive");
                    self.pulse.error(Chain(&error).to_string());
                    // Soon: before others take this node for dead, if possible.
                    let most = every(common.lease_ttl);
                    Instant::now() + backoff.next().min(most)
                }
            };
            tokio::select! {
                biased;
                () = common.stop.cancelled() => {}
                () = common.nudge.notified() => {}
                () = sleep_until(next) => {}
            }
        }
        self.finish().await;
    }

    /// One round: alive, who else is, what is to be done here. Returns when the next one is due.
    async fn beat(&mut self) -> Result<Instant, ReadError> {
        let common = Arc::clone(&self.common);
        let next = Instant::now() + every(common.lease_ttl);
        let node = self.node();
        let fleet = common.store.beat(&node, common.lease_ttl).await?;
        self.pulse.beaten();
        self.pulse.forsaken(self.forsaken(&fleet));
        self.follow(&fleet);
        let horizon = common.store.horizon().await?;
        let mut statuses = Vec::new();
        for board in self.boards() {
            board.horizon(&horizon);
            let status = board.status();
            metrics::status(&status);
            statuses.push(status);
        }
        self.pulse.look(&horizon, &statuses);
        Ok(next.min(end_of_another(&fleet, &node)))
    }

    fn follow(&mut self, fleet: &Fleet) {
        let assigned = assign(fleet);
        let me = self.common.node;
        let name_of = |id| {
            let mut nodes = fleet.nodes.iter().map(|(node, _)| node);
            nodes
                .find(|node| node.id == id)
                .map(|node| node.name.clone())
        };
        for crew in &mut self.crews {
            let id = crew.member.id();
            let standings: Vec<&Standing> = fleet
                .standings
                .iter()
                .filter(|standing| standing.shard.projection == id)
                .collect();
            let mine = |shard: &_| assigned.get(shard) == Some(&me);
            crew.follow(&standings, mine, name_of, &self.common);
        }
    }

    /// The versions that are served under the names of this node's projections, and that no living node
    /// could run.
    fn forsaken(&self, fleet: &Fleet) -> Vec<ProjectionId> {
        let names: Vec<_> = self
            .crews
            .iter()
            .map(|crew| crew.member.id().name)
            .collect();
        let run = |id| fleet.nodes.iter().any(|(node, _)| node.runs.contains(id));
        let mut ids: Vec<_> = fleet
            .standings
            .iter()
            .filter(|row| row.active && row.lifecycle.is_running())
            .map(|row| &row.shard.projection)
            .filter(|id| names.contains(&id.name) && !run(id))
            .cloned()
            .collect();
        ids.dedup();
        ids
    }

    fn node(&self) -> Node {
        Node {
            id: self.common.node,
            name: self.common.node_name.clone(),
            runs: self.crews.iter().map(|crew| crew.member.id()).collect(),
        }
    }

    /// The runners need the node alive for the batch in hand and for giving their shards back.
    async fn finish(&mut self) {
        let common = Arc::clone(&self.common);
        let node = self.node();
        let alive = async {
            loop {
                tokio::time::sleep(every(common.lease_ttl)).await;
                if let Err(error) = common.store.beat(&node, common.lease_ttl).await {
                    tracing::debug!(error = %Chain(&error), "could not say that this node is alive");
                }
            }
        };
        let runners = async {
            for crew in &mut self.crews {
                crew.finish().await;
            }
            for (_, viewer) in &mut self.views {
                ended(viewer).await;
            }
        };
        tokio::select! {
            () = runners => {}
            () = alive => {}
        }
        if let Err(error) = common.store.leave(common.node).await {
            tracing::warn!(error = %Chain(&error), "could not leave; others wait until this node's time has run out");
        }
    }
}

impl<S> Drop for Steward<S> {
    fn drop(&mut self) {
        for (board, _) in &self.views {
            board.stopped();
        }
    }
}

/// How often a node says that it is alive, and hears what was decided.
fn every(lease_ttl: Duration) -> Duration {
    (lease_ttl / BEATS).clamp(SHORTEST, LONGEST)
}

/// When a neighbour would be dead that does not say anything more: its shards should not lie idle.
fn end_of_another(fleet: &Fleet, me: &Node) -> Instant {
    let others = fleet.nodes.iter().filter(|(node, _)| node.id != me.id);
    let left = others.map(|(_, left)| *left).min();
    Instant::now()
        + left
            .unwrap_or(Duration::MAX / 4)
            .min(Duration::from_secs(3600))
        + MOMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_heard_within_a_second_however_long_the_lease() {
        let ttl = Duration::from_millis(1000);
        assert_eq!(every(ttl), ttl / BEATS);
        assert!(every(Duration::from_secs(3600)) < Duration::from_secs(1));
        assert!(every(Duration::ZERO) > Duration::ZERO);
    }
}
