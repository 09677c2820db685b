//! Who is alive.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{Node, Standing};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The nodes that have announced themselves, and until when each lives.
#[derive(Debug, Default)]
pub(super) struct Nodes(BTreeMap<Uuid, (Node, Instant)>);

impl Nodes {
    pub(super) fn beat(&mut self, node: &Node, ttl: Duration) {
        let now = Instant::now();
        // Nobody means to live for longer than a year, and a clock can overflow.
        let until = now + ttl.min(365 * DAY);
        self.0.insert(node.id, (node.clone(), until));
        self.0.retain(|_, (_, until)| *until + DAY > now);
    }

    pub(super) fn leave(&mut self, node: Uuid) {
        self.0.remove(&node);
    }

    pub(super) fn is_alive(&self, node: Uuid) -> bool {
        let known = self.0.get(&node);
        known.is_some_and(|(_, until)| *until > Instant::now())
    }

    /// Who runs it, if that node is alive.
    pub(super) fn living_owner(&self, standing: &Standing) -> Option<Uuid> {
        standing.owner.filter(|owner| self.is_alive(*owner))
    }

    /// Those that are alive, and for how long each still is.
    pub(super) fn living(&self) -> Vec<(Node, Duration)> {
        let now = Instant::now();
        let rest = |until: &Instant| until.checked_duration_since(now);
        self.0
            .values()
            .filter_map(|(node, until)| Some((node.clone(), rest(until)?)))
            .filter(|(_, rest)| !rest.is_zero())
            .collect()
    }
}
