//! A checkpoint is moved by hand.

use es_core::{Lifecycle, Marks, Position, ProjectionId, Standing};

use super::{Change, CommandError, emits, marks, rows_of, version};

/// Moves all shards to `to`. Forward passes events over, with their effects, for good. Back applies events
/// a second time, without their effects.
pub(crate) fn set_checkpoint(
    standings: &[Standing],
    id: &ProjectionId,
    to: Position,
    end_of_log: Position,
) -> Result<Change, CommandError> {
    let rows = movable(standings, id)?;
    if to > end_of_log {
        return Err(CommandError::BeyondLog {
            projection: id.clone(),
            position: to,
            end: end_of_log,
        });
    }
    let applied = rows
        .iter()
        .map(|row| row.position.max(row.applied.highest()));
    let reached = applied.max().unwrap_or(Position::START);
    if to < reached && !rows.iter().all(|row| row.repeatable) {
        return Err(CommandError::NotRepeatable {
            projection: id.clone(),
            position: to,
            reached,
        });
    }
    move_to(standings, id, to)
}

/// Moves all shards to the start. The caller clears the read model in the same transaction.
pub(crate) fn reset(standings: &[Standing], id: &ProjectionId) -> Result<Change, CommandError> {
    movable(standings, id)?;
    move_to(standings, id, Position::START)
}

fn movable<'a>(
    standings: &'a [Standing],
    id: &ProjectionId,
) -> Result<Vec<&'a Standing>, CommandError> {
    let rows = version(standings, id)?;
    for row in &rows {
        if row.lifecycle == Lifecycle::Retired {
            return Err(CommandError::state(
                row,
                "moved",
                "resume and pause it first",
            ));
        }
        if let Some(owner) = row.owner.filter(|_| row.lifecycle.is_running()) {
            return Err(CommandError::Busy {
                projection: id.clone(),
                owner,
            });
        }
    }
    Ok(rows)
}

fn move_to(
    standings: &[Standing],
    id: &ProjectionId,
    to: Position,
) -> Result<Change, CommandError> {
    let mut after = standings.to_vec();
    for row in rows_of(&mut after, id) {
        // Whoever is not in charge gets its marks when it takes over.
        if emits(row) && row.position.max(row.applied.highest()) > to {
            let emitted = marks::emitted(row).ok_or_else(|| CommandError::settling(row))?;
            row.silent = Marks::new([emitted]);
        }
        if row.position != to {
            row.position = to;
            row.anchor = None;
        }
        row.applied = Marks::default();
    }
    Ok(Change::between(standings, after))
}
