//! Where the readers stand, and which of them stand close together.

use std::{collections::HashMap, sync::Arc};

use es_core::Position;

use super::Types;

/// Who reads what, and where.
pub(super) struct Places {
    readers: HashMap<u64, Place>,
    entered: u64,
    /// A trail is this many bytes long, up to twice as many.
    trail_bytes: usize,
}

struct Place {
    types: Arc<Types>,
    /// `None` before the first call.
    trail: Option<Trail>,
}

/// Where a reader stands and the way it came last. Whoever stands on it will soon be here: what is read
/// here is worth reading for him too.
#[derive(Clone, Copy)]
struct Trail {
    from: Position,
    /// Where it begins when it has become too long.
    middle: Position,
    at: Position,
    /// What has been passed since the middle.
    bytes: usize,
}

impl Places {
    pub(super) fn new(trail_bytes: usize) -> Self {
        Self {
            readers: HashMap::new(),
            entered: 0,
            trail_bytes,
        }
    }

    pub(super) fn enter(&mut self, types: Arc<Types>) -> u64 {
        self.entered += 1;
        let place = Place { types, trail: None };
        self.readers.insert(self.entered, place);
        self.entered
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.readers.remove(&id);
    }

    /// A reader asks for what comes after `at`, be it for the second time or somewhere else.
    pub(super) fn stand(&mut self, id: u64, at: Position) {
        let Some(place) = self.readers.get_mut(&id) else {
            return;
        };
        let trail = match place.trail {
            Some(trail) if trail.from <= at && at <= trail.at => Trail {
                middle: trail.middle.min(at),
                at,
                ..trail
            },
            _ => Trail {
                from: at,
                middle: at,
                at,
                bytes: 0,
            },
        };
        place.trail = Some(trail);
    }

    /// A reader has passed `bytes` of events, its own and others', on the way to `to`.
    pub(super) fn advance(&mut self, id: u64, to: Position, bytes: usize) {
        let place = self.readers.get_mut(&id);
        let Some(trail) = place.and_then(|place| place.trail.as_mut()) else {
            return;
        };
        trail.at = to;
        trail.bytes += bytes;
        if trail.bytes > self.trail_bytes {
            trail.from = trail.middle;
            trail.middle = to;
            trail.bytes = 0;
        }
    }

    /// Whether nobody but `id` stands at `at` or on the way there.
    pub(super) fn is_alone(&self, id: u64, at: Position) -> bool {
        self.company(at).all(|(other, _)| other == id)
    }

    /// The types of all who stand at `at` or on the way there.
    pub(super) fn types_at(&self, at: Position) -> Types {
        self.company(at)
            .flat_map(|(_, types)| types.iter().cloned())
            .collect()
    }

    /// The types of all who stand at `at` or have come further.
    pub(super) fn types_from(&self, at: Position) -> Types {
        self.standing()
            .filter(|(_, _, trail)| at <= trail.at)
            .flat_map(|(_, types, _)| types.iter().cloned())
            .collect()
    }

    /// Nobody stands before this position.
    pub(super) fn lowest(&self) -> Option<Position> {
        self.standing().map(|(_, _, trail)| trail.at).min()
    }

    /// Who stands at `at`, or on a trail that leads there. Not who is ahead: nobody goes back.
    fn company(&self, at: Position) -> impl Iterator<Item = (u64, &Types)> {
        let trails = self.standing().filter(|(_, _, trail)| trail.at == at);
        let from = trails.map(|(_, _, trail)| trail.from).min().unwrap_or(at);
        self.standing()
            .filter(move |(_, _, trail)| from <= trail.at && trail.at <= at)
            .map(|(id, types, _)| (id, types))
    }

    fn standing(&self) -> impl Iterator<Item = (u64, &Types, Trail)> {
        self.readers
            .iter()
            .filter_map(|(id, place)| Some((*id, &*place.types, place.trail?)))
    }
}
