//! How far one row has come, as a single position.
//!
//! Marks follow the division of the time they were made. A row may have marks of its own: with a single
//! mark they speak of all its aggregates, whatever the division. Two divisions cannot be laid over each
//! other, so that rules which would have to refuse while marks of several parts are still ahead.

use es_core::{Marks, Position, Standing};

/// Up to here, and nowhere beyond, everything of this row is applied. `None` while that differs from one
/// aggregate to the next.
pub(super) fn applied(row: &Standing) -> Option<Position> {
    reached(row.position, &[&row.applied])
}

/// Up to here, and nowhere beyond, the effects of everything of this row are emitted or given up, if it is
/// in charge. `None` while that differs from one aggregate to the next.
pub(super) fn emitted(row: &Standing) -> Option<Position> {
    reached(row.position, &[&row.applied, &row.silent])
}

fn reached(position: Position, marks: &[&Marks]) -> Option<Position> {
    let single = marks.iter().filter_map(|marks| single(marks));
    let reached = single.fold(position, Ord::max);
    marks
        .iter()
        .all(|marks| marks.highest() <= reached)
        .then_some(reached)
}

fn single(marks: &Marks) -> Option<Position> {
    let highest = marks.highest();
    (*marks == Marks::new([highest])).then_some(highest)
}

/// The marks of part `index` of `shards` after parts that stood at `positions`. A part of a part has a
/// single mark: the remainder by a multiple tells the remainder.
pub(super) fn inherited(index: u32, shards: u32, positions: &[Position]) -> Marks {
    match source(index, shards, positions.len()) {
        Some(source) => Marks::new(positions.get(source).copied()),
        None => Marks::new(positions.iter().copied()),
    }
}

/// The one of `parts` in which all aggregates of part `index` of `shards` were, if it is one.
pub(super) fn source(index: u32, shards: u32, parts: usize) -> Option<usize> {
    let (index, shards) = (index as usize, shards as usize);
    (parts > 0 && shards.is_multiple_of(parts)).then(|| index % parts)
}
