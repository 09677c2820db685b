//! Nodes with a mechanism taken out.

use std::time::Duration;

use es_core::{Fleet, Node, ProjectionId, ProjectionStore, ReadError};
use uuid::Uuid;

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    pub(super) async fn faulty_beat(&self, node: &Node, ttl: Duration) -> Result<Fleet, ReadError> {
        let mut node = node.clone();
        let ttl = match self.fault {
            Fault::ForgetsBeats => Duration::ZERO,
            Fault::NeverForgetsNodes => ttl.max(Duration::from_secs(3_600)),
            Fault::CutsTheTtl => ttl.min(Duration::from_millis(5)),
            _ => ttl,
        };
        match self.fault {
            Fault::ForgetsWhatNodesRun => {
                node.name.clear();
                node.runs.clear();
            }
            Fault::BeatsWaitForBatches => {
                let any = ProjectionId::new("any", 1);
                let waited = self.inner.begin_change(&any).await;
                drop(waited);
            }
            _ => {}
        }
        let mut fleet = self.inner.beat(&node, ttl).await?;
        match self.fault {
            Fault::SeesOnlyItself => fleet.nodes.retain(|(seen, _)| seen.id == node.id),
            Fault::ListsNodesBackwards => fleet.nodes.reverse(),
            Fault::HidesStandingsFromBeats => fleet.standings.clear(),
            _ => {}
        }
        Ok(fleet)
    }

    pub(super) async fn faulty_leave(&self, node: Uuid) -> Result<(), ReadError> {
        match self.fault {
            Fault::IgnoresLeaving => Ok(()),
            Fault::LeavesForAll => {
                let watcher = self.nobody(node);
                for (node, _) in self.inner.beat(&watcher, Duration::ZERO).await?.nodes {
                    self.inner.leave(node.id).await?;
                }
                Ok(())
            }
            _ => self.inner.leave(node).await,
        }
    }

    pub(super) fn nobody(&self, id: Uuid) -> Node {
        Node {
            id,
            name: String::new(),
            runs: Vec::new(),
        }
    }
}
