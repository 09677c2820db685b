//! Whether a version runs at all.

use es_core::{Failure, Lifecycle, ProjectionId, Shard, Standing};

use super::{Change, CommandError, in_charge, is_needed, rows_of, version};

/// It waits, until [`resume`].
pub(crate) fn pause(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    if let Some(row) = version(standings, id)?
        .into_iter()
        .find(|row| row.lifecycle == Lifecycle::Detached)
    {
        return Err(CommandError::state(row, "paused", "it does not run anyway"));
    }
    suspend(standings, id, Lifecycle::Paused, "paused")
}

/// It waits, until [`resume`], and nobody is told that it is behind.
pub(crate) fn detach(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    suspend(standings, id, Lifecycle::Detached, "detached")
}

fn suspend(
    standings: &[Standing],
    id: &ProjectionId,
    lifecycle: Lifecycle,
    what: &'static str,
) -> Result<Change, CommandError> {
    if let Some(row) = version(standings, id)?
        .into_iter()
        .find(|row| row.lifecycle == Lifecycle::Retired)
    {
        return Err(CommandError::state(row, what, "it does not run anyway"));
    }
    let mut after = standings.to_vec();
    for row in rows_of(&mut after, id) {
        if row.lifecycle.is_running() {
            row.before = row.lifecycle;
        }
        row.lifecycle = lifecycle;
        row.failure = None;
    }
    Ok(Change::between(standings, after))
}

/// It runs again. A retired version is built on beside the one in charge, without effects, and takes over
/// only when it is promoted: this is the way back to an old version.
pub(crate) fn resume(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    version(standings, id)?;
    let was_last = in_charge(standings).is_none_or(|last| last == id);
    let mut after = standings.to_vec();
    for row in rows_of(&mut after, id) {
        match row.lifecycle {
            Lifecycle::Paused | Lifecycle::Failed | Lifecycle::Detached => {
                row.lifecycle = row.before;
            }
            Lifecycle::Retired if was_last => row.lifecycle = Lifecycle::Running,
            Lifecycle::Retired => {
                row.lifecycle = Lifecycle::Rebuilding;
                row.promote = false;
            }
            _ => {}
        }
        row.failure = None;
    }
    Ok(Change::between(standings, after))
}

/// It is not wanted any more. Its read model stays.
pub(crate) fn retire(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    version(standings, id)?;
    let mut after = standings.to_vec();
    for row in rows_of(&mut after, id) {
        retire_row(row);
    }
    let change = Change::between(standings, after);
    if !change.is_empty() && is_needed(standings, id) {
        return Err(CommandError::Needed {
            projection: id.clone(),
            action: "retired",
        });
    }
    Ok(change)
}

pub(super) fn retire_row(row: &mut Standing) {
    row.lifecycle = Lifecycle::Retired;
    row.before = Lifecycle::Rebuilding;
    row.failure = None;
}

/// It is forgotten, and with the last version of a name, which effects were emitted.
pub(crate) fn remove(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    let rows = version(standings, id)?;
    let last = rows.len() == standings.len();
    if !last && is_needed(standings, id) {
        return Err(CommandError::Needed {
            projection: id.clone(),
            action: "removed",
        });
    }
    let idle = |row: &&Standing| match row.lifecycle {
        Lifecycle::Retired | Lifecycle::Detached => true,
        Lifecycle::Paused => !last,
        _ => false,
    };
    if let Some(row) = rows.iter().find(|row| !idle(row)) {
        return Err(CommandError::state(row, "removed", "detach it first"));
    }
    Ok(Change {
        put: Vec::new(),
        remove: rows.into_iter().map(|row| row.shard.clone()).collect(),
    })
}

/// A shard stops at a failure, unless somebody else has taken it over since.
pub(crate) fn fail(standings: &[Standing], shard: &Shard, epoch: i64, failure: Failure) -> Change {
    let row = standings.iter().find(|row| row.shard == *shard);
    match row.filter(|row| row.epoch == epoch && row.lifecycle.is_running()) {
        None => Change::default(),
        Some(row) => Change {
            put: vec![Standing {
                lifecycle: Lifecycle::Failed,
                before: row.lifecycle,
                failure: Some(failure),
                ..row.clone()
            }],
            remove: Vec::new(),
        },
    }
}
