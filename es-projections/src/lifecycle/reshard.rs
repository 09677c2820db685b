//! A version is divided into another number of parts.

use es_core::{Lifecycle, Marks, Position, ProjectionId, Shard, Standing};

use super::{Change, CommandError, MAX_SHARDS, emits, marks, version};

/// Divides a version anew. A part that is cut into smaller ones goes on where it stood. Otherwise all begin
/// at the lowest position and pass over what the old parts had applied.
pub(crate) fn reshard(
    standings: &[Standing],
    id: &ProjectionId,
    shards: u32,
) -> Result<Change, CommandError> {
    let old = version(standings, id)?;
    if shards == 0 || shards > MAX_SHARDS {
        return Err(CommandError::Shards {
            projection: id.clone(),
            shards,
        });
    }
    if old.iter().all(|row| row.shards == shards) {
        return Ok(Change::default());
    }
    let stood = old
        .iter()
        .map(|row| marks::applied(row).ok_or_else(|| CommandError::settling(row)))
        .collect::<Result<Vec<_>, _>>()?;
    let silent = Silent::of(&old, &stood)?;
    let mut after: Vec<_> = standings
        .iter()
        .filter(|row| row.shard.projection != *id)
        .cloned()
        .collect();
    after.extend((0..shards).filter_map(|index| part(index, shards, &old, &stood, &silent)));
    Ok(Change::between(standings, after))
}

fn part(
    index: u32,
    shards: u32,
    old: &[&Standing],
    stood: &[Position],
    silent: &Silent,
) -> Option<Standing> {
    let lowest = (0..stood.len()).min_by_key(|part| stood[*part])?;
    let source = marks::source(index, shards, stood.len());
    let begin = source.unwrap_or(lowest);
    // A part that failed, or its heirs, would run into the same event again.
    let state = old.iter().find(|row| row.lifecycle == Lifecycle::Failed);
    let state = state.or(old.first())?;
    Some(Standing {
        shard: Shard::new(state.shard.projection.clone(), index),
        shards,
        position: *stood.get(begin)?,
        anchor: old.get(begin)?.anchor,
        // A part that went away and comes back must not meet its old owner's epoch.
        epoch: old.iter().map(|row| row.epoch).max()?,
        owner: None,
        applied: match source {
            Some(_) => Marks::default(),
            None => Marks::new(stood.iter().copied()),
        },
        silent: match silent {
            Silent::Nothing => Marks::default(),
            Silent::Kept(marks) => marks.clone(),
            Silent::Emitted(positions) => marks::inherited(index, shards, positions),
        },
        ..Standing::clone(state)
    })
}

/// Which effects, beyond what is applied, have been emitted.
enum Silent {
    Nothing,
    /// By an older division: it speaks for every aggregate, whatever the present division.
    Kept(Marks),
    /// By the present division.
    Emitted(Vec<Position>),
}

impl Silent {
    fn of(old: &[&Standing], stood: &[Position]) -> Result<Self, CommandError> {
        let ahead = |row: &&&Standing| row.silent.highest() > row.position;
        let Some(first) = old.iter().filter(|row| emits(row)).find(ahead) else {
            return Ok(Self::Nothing);
        };
        let emitted: Option<Vec<_>> = old.iter().map(|row| marks::emitted(row)).collect();
        match emitted {
            Some(emitted) if emitted == stood => Ok(Self::Nothing),
            Some(emitted) => Ok(Self::Emitted(emitted)),
            None => {
                let kept = &first.silent;
                let speaks_for =
                    |row: &&Standing| row.silent == *kept || row.position >= kept.highest();
                match old.iter().all(speaks_for) {
                    true => Ok(Self::Kept(kept.clone())),
                    false => Err(CommandError::settling(first)),
                }
            }
        }
    }
}
