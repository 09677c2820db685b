//! One version takes over from another.

use es_core::{Lifecycle, Position, ProjectionId, Standing};

use super::{Change, CommandError, emits, in_charge, marks, pause::retire_row, rows_of, version};

/// The position that a version which is being rebuilt must not pass: beyond it effects are not emitted yet,
/// and it could not take over without losing them. `None` if nobody else is in charge.
pub(crate) fn ceiling(standings: &[Standing], id: &ProjectionId) -> Option<Position> {
    let from = in_charge(standings).filter(|from| *from != id)?;
    standings
        .iter()
        .filter(|row| row.shard.projection == *from)
        .map(|row| marks::emitted(row).unwrap_or(row.position))
        .min()
}

/// It may take over as soon as it has caught up.
pub(crate) fn promote(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    let rows = version(standings, id)?;
    if let Some(row) = rows.iter().find(|row| row.lifecycle == Lifecycle::Retired) {
        return Err(CommandError::state(row, "promoted", "resume it first"));
    }
    let mut after = standings.to_vec();
    for row in rows_of(&mut after, id) {
        row.promote = true;
    }
    Ok(Change::between(standings, after))
}

/// `to` takes charge: from here on it emits what the old version has not passed, and nothing else does. The
/// old version stays active, and its read model is served, until [`activate`].
///
/// `within` says how close is close enough, in positions.
pub(crate) fn hand_over(
    standings: &[Standing],
    to: &ProjectionId,
    within: u64,
) -> Result<Change, CommandError> {
    let heirs = version(standings, to)?;
    if let Some(row) = heirs
        .iter()
        .find(|row| row.lifecycle != Lifecycle::Rebuilding)
    {
        let next = "only a version that is being rebuilt can; resume it if it waits";
        return Err(CommandError::state(row, "put in charge", next));
    }
    if !heirs.iter().all(|row| row.promote) {
        return Err(CommandError::NotPromoted {
            projection: to.clone(),
        });
    }
    let from = in_charge(standings).filter(|from| *from != to);
    let emitted = match from {
        None => Vec::new(),
        Some(from) => version(standings, from)?
            .into_iter()
            .map(|row| marks::emitted(row).ok_or_else(|| CommandError::settling(row)))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if let Some(lowest) = emitted.iter().copied().min() {
        fits(&heirs, to, lowest, within)?;
    }

    let mut after = standings.to_vec();
    for row in &mut after {
        let id = &row.shard.projection;
        if id == to {
            row.lifecycle = Lifecycle::Running;
            row.before = Lifecycle::Running;
            row.silent = marks::inherited(row.shard.index, row.shards, &emitted);
        } else if Some(id) == from {
            retire_row(row);
        } else if id.version < to.version {
            // It was on its way up when a newer one overtook it.
            row.promote = false;
        }
    }
    Ok(Change::between(standings, after))
}

fn fits(
    heirs: &[&Standing],
    to: &ProjectionId,
    lowest: Position,
    within: u64,
) -> Result<(), CommandError> {
    let ahead = heirs
        .iter()
        .map(|row| row.position.max(row.applied.highest()))
        .find(|position| *position > lowest);
    if let Some(position) = ahead {
        return Err(CommandError::Ahead {
            projection: to.clone(),
            position,
            limit: lowest,
        });
    }
    let enough = Position::new(lowest.get().saturating_sub(within));
    behind(heirs, to, enough)
}

fn behind(
    rows: &[&Standing],
    projection: &ProjectionId,
    needed: Position,
) -> Result<(), CommandError> {
    let slowest = rows.iter().map(|row| row.position).min();
    match slowest.filter(|position| *position < needed) {
        None => Ok(()),
        Some(position) => Err(CommandError::Behind {
            projection: projection.clone(),
            position,
            needed,
        }),
    }
}

/// The read model of the version in charge is served, once it is not older than the one it replaces.
pub(crate) fn activate(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    let rows = version(standings, id)?;
    if let Some(row) = rows.iter().find(|row| !emits(row)) {
        let next = "promote it, and wait until it has taken over";
        return Err(CommandError::state(row, "made the active version", next));
    }
    let silent = rows.iter().map(|row| row.silent.highest()).max();
    behind(&rows, id, silent.unwrap_or(Position::START))?;
    let mut after = standings.to_vec();
    for row in &mut after {
        row.active = row.shard.projection == *id;
    }
    Ok(Change::between(standings, after))
}
