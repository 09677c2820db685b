//! What people, and the daemon, may do with a projection: pure rules over its standings.
//!
//! Each rule gets all standings of one *name*, every version and shard, as `begin_change` returns them,
//! and says what to write. Whoever was at work on a row that is written is fenced by the store.
//!
//! Two roles are kept apart. The **active** version's read model is served. The version **in charge**
//! emits effects: exactly one does, or would if it were not paused, detached or failed. They differ only
//! between [`hand_over`] and [`activate`], while the heir passes what the old version had passed.
//!
//! What keeps effects from being lost or doubled is one sentence: *an event's effect has been emitted, or
//! given up for good, if and only if the version in charge is past the event or its marks cover it.*

mod checkpoint;
mod error;
mod hand_over;
mod marks;
mod pause;
mod register;
mod reshard;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use es_core::{Lifecycle, ProjectionId, Shard, Standing};

pub use self::error::CommandError;
pub(crate) use self::{
    checkpoint::{reset, set_checkpoint},
    hand_over::{activate, ceiling, hand_over, promote},
    pause::{detach, fail, pause, remove, resume, retire},
    register::{Registration, register},
    reshard::reshard,
};

/// More parts than this help nobody: each is a row, a reader and a transaction of its own.
const MAX_SHARDS: u32 = 1024;

/// What to write.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// For `put_standings`.
    pub(crate) put: Vec<Standing>,
    /// For `remove_standings`, afterwards.
    pub(crate) remove: Vec<Shard>,
}

impl Change {
    /// Nothing to write: everything was as it should be.
    pub(crate) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }

    /// Only rows that differ are written, so that nobody is fenced for nothing.
    fn between(before: &[Standing], mut after: Vec<Standing>) -> Self {
        let remove = before.iter().map(|row| &row.shard);
        let remove = remove.filter(|shard| after.iter().all(|row| row.shard != **shard));
        let remove = remove.cloned().collect();
        after.retain(|row| !before.contains(row));
        Self { put: after, remove }
    }
}

/// The rows of one version, to be changed.
fn rows_of<'a>(
    standings: &'a mut [Standing],
    id: &'a ProjectionId,
) -> impl Iterator<Item = &'a mut Standing> {
    standings
        .iter_mut()
        .filter(move |row| row.shard.projection == *id)
}

/// The rows of a version that a daemon runs.
fn version<'a>(
    standings: &'a [Standing],
    id: &ProjectionId,
) -> Result<Vec<&'a Standing>, CommandError> {
    let rows: Vec<_> = standings
        .iter()
        .filter(|row| row.shard.projection == *id)
        .collect();
    if rows.is_empty() {
        return Err(CommandError::unknown(id, standings));
    }
    if rows.iter().any(|row| row.lifecycle == Lifecycle::Inline) {
        return Err(CommandError::Inline {
            projection: id.clone(),
        });
    }
    Ok(rows)
}

/// Whether effects are this row's business, as soon as it runs.
fn emits(row: &Standing) -> bool {
    match row.lifecycle {
        Lifecycle::Running | Lifecycle::Inline => true,
        Lifecycle::Paused | Lifecycle::Failed | Lifecycle::Detached => {
            row.before == Lifecycle::Running
        }
        _ => false,
    }
}

/// The version that emits effects. If none does, as when an inline projection was retired, the active one
/// was the last that did.
pub(crate) fn in_charge(standings: &[Standing]) -> Option<&ProjectionId> {
    standings
        .iter()
        .find(|row| emits(row))
        .or_else(|| standings.iter().find(|row| row.active))
        .map(|row| &row.shard.projection)
}

/// Whether the name cannot do without this version.
fn is_needed(standings: &[Standing], id: &ProjectionId) -> bool {
    in_charge(standings) == Some(id)
        || standings
            .iter()
            .any(|row| row.active && row.shard.projection == *id)
}
