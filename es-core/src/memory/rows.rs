//! The rows of the shards and of the dead letters.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use super::{letters::DeadLetters, nodes::Nodes};
use crate::{Claim, Lifecycle, Position, Progress, Shard, Standing};

/// A transaction works on a clone, which copies what it changes, and puts it in place when it commits.
#[derive(Debug, Default, Clone)]
pub(super) struct Rows {
    /// The owner of a row counts only while it is alive.
    standings: Arc<BTreeMap<Shard, Standing>>,
    letters: Arc<DeadLetters>,
}

impl Rows {
    /// The row as it is stored.
    pub(super) fn standing(&self, shard: &Shard) -> Option<&Standing> {
        self.standings.get(shard)
    }

    /// All of them or those of one name, as others see them.
    pub(super) fn standings(
        &self,
        name: Option<&str>,
        nodes: &Nodes,
        settled: Position,
    ) -> Vec<Standing> {
        self.standings
            .values()
            .filter(|row| name.is_none_or(|name| row.shard.projection.name == name))
            .map(|row| Standing {
                owner: nodes.living_owner(row),
                position: match row.lifecycle {
                    Lifecycle::Inline => settled,
                    _ => row.position,
                },
                ..row.clone()
            })
            .collect()
    }

    /// Gives a shard to a node.
    pub(super) fn hand_over(&mut self, shard: &Shard, node: Uuid) -> Option<Claim> {
        let row = Arc::make_mut(&mut self.standings).get_mut(shard)?;
        row.epoch += 1;
        row.owner = Some(node);
        Some(Claim {
            shard: shard.clone(),
            shards: row.shards,
            owner: node,
            epoch: row.epoch,
            position: row.position,
            lifecycle: row.lifecycle,
            active: row.active,
            applied: row.applied.clone(),
            silent: row.silent.clone(),
        })
    }

    pub(super) fn release(&mut self, claim: &Claim) {
        if let Some(row) = Arc::make_mut(&mut self.standings).get_mut(&claim.shard)
            && row.epoch == claim.epoch
            && row.owner == Some(claim.owner)
        {
            row.owner = None;
        }
    }

    /// Moves the checkpoint, if the claim still holds.
    pub(super) fn advance(&mut self, claim: &Claim, to: &Progress) -> bool {
        let row = Arc::make_mut(&mut self.standings).get_mut(&claim.shard);
        let row = row.filter(|row| {
            row.epoch == claim.epoch
                && row.position == claim.position
                && row.owner == Some(claim.owner)
        });
        let Some(row) = row else {
            return false;
        };
        row.position = to.position;
        row.anchor = to.anchor.or(row.anchor);
        true
    }

    pub(super) fn put(&mut self, standing: &Standing) {
        let rows = Arc::make_mut(&mut self.standings);
        let stored = rows.get(&standing.shard).map_or(0, |row| row.epoch);
        let row = Standing {
            epoch: stored.max(standing.epoch) + 1,
            owner: None,
            ..standing.clone()
        };
        rows.insert(standing.shard.clone(), row);
    }

    pub(super) fn remove(&mut self, shard: &Shard) {
        let rows = Arc::make_mut(&mut self.standings);
        let removed = rows.remove(shard).is_some();
        let others = rows.keys().any(|row| row.projection == shard.projection);
        if removed && !others {
            self.letters_mut().remove(&shard.projection, None);
        }
    }

    pub(super) fn letters(&self) -> &DeadLetters {
        &self.letters
    }

    pub(super) fn letters_mut(&mut self) -> &mut DeadLetters {
        Arc::make_mut(&mut self.letters)
    }
}
