//! The parallel parts of a projection: each aggregate belongs to one of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Position, ProjectionId};

/// One of the parallel parts of a projection. Shown as `room_occupancy v1/0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// The projection.
    pub projection: ProjectionId,
    /// Which part: 0, 1, 2, and so on.
    pub index: u32,
}

impl Shard {
    /// A part of a projection.
    #[must_use]
    pub fn new(projection: ProjectionId, index: u32) -> Self {
        Self { projection, index }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.projection, self.index)
    }
}

/// The part of `shards` that an aggregate belongs to: the same on every machine and in every release.
/// (XXH3 of the id's bytes, modulo the number of parts.)
///
/// ```
/// use es_core::shard_of;
/// use uuid::Uuid;
///
/// let player = Uuid::from_u128(7);
/// assert_eq!(shard_of(player, 1), 0);
/// assert!(shard_of(player, 4) < 4);
/// ```
#[must_use]
pub fn shard_of(aggregate_id: Uuid, shards: u32) -> u32 {
    let index = xxh3_64(aggregate_id.as_bytes()) % u64::from(shards.max(1));
    u32::try_from(index).unwrap_or_default()
}

/// How far each part of an earlier division of a projection had come. An event is covered if the part
/// its aggregate belonged to had passed it.
///
/// ```
/// use es_core::{Marks, Position};
/// use uuid::Uuid;
///
/// let marks = Marks::new([Position::new(10)]);
/// let player = Uuid::from_u128(7);
/// assert!(marks.cover(player, Position::new(10)));
/// assert!(!marks.cover(player, Position::new(11)));
/// assert!(!Marks::default().cover(player, Position::new(1)));
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Marks(Vec<Position>);

impl Marks {
    /// The positions of the parts, in their order.
    pub fn new(positions: impl IntoIterator<Item = Position>) -> Self {
        Self(positions.into_iter().collect())
    }

    /// Whether the event of this aggregate at this position had been passed.
    #[must_use]
    pub fn cover(&self, aggregate_id: Uuid, position: Position) -> bool {
        position <= self.of(aggregate_id) && !self.0.is_empty()
    }

    /// The mark of the part that this aggregate belonged to.
    #[must_use]
    pub fn of(&self, aggregate_id: Uuid) -> Position {
        // Most projections were never divided otherwise: do not hash for nothing.
        match self.0.as_slice() {
            [] => Position::START,
            [one] => *one,
            many => {
                let shards = u32::try_from(many.len()).unwrap_or(u32::MAX);
                let part = shard_of(aggregate_id, shards) as usize;
                many.get(part).copied().unwrap_or_default()
            }
        }
    }

    /// Beyond this position no event is covered.
    #[must_use]
    pub fn highest(&self) -> Position {
        self.0.iter().copied().max().unwrap_or(Position::START)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints depend on it: another answer would lose and double events.
    #[test]
    fn an_aggregate_stays_in_its_shard_for_ever() {
        let shards: Vec<_> = (0..8).map(|id| shard_of(Uuid::from_u128(id), 4)).collect();
        assert_eq!(shards, [0, 3, 3, 3, 0, 1, 3, 0]);
    }

    #[test]
    fn each_aggregate_has_the_mark_of_its_part() {
        let marks = Marks::new([5, 9, 7, 8].map(Position::new));
        for id in (0..100).map(Uuid::from_u128) {
            let mark = [5, 9, 7, 8][shard_of(id, 4) as usize];
            assert!(marks.cover(id, Position::new(mark)));
            assert!(!marks.cover(id, Position::new(mark + 1)));
        }
        assert_eq!(marks.highest(), Position::new(9));
    }
}
