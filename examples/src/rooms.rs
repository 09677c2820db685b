//! The rooms of the castle. Their ids are fixed, so that a story can be told twice.

use uuid::{Uuid, uuid};

/// Where everyone begins.
pub const HALL: Uuid = uuid!("a42f8bee-e2c9-4598-bf99-b4e1c394d6ab");
/// Below the hall.
pub const CELLAR: Uuid = uuid!("f88c7e21-a235-4829-a698-7eab2b2bbc6d");
/// Above the hall.
pub const TOWER: Uuid = uuid!("0b1f7d52-3c6e-4f0a-9d57-6f2f0c1a7e44");
/// Behind the hall.
pub const GARDEN: Uuid = uuid!("5d2a9c38-71b4-4e8d-8a63-1c9e5b7f2a10");

/// All rooms with their names, in the order of a walk.
pub const ALL: [(Uuid, &str); 4] = [
    (HALL, "hall"),
    (CELLAR, "cellar"),
    (TOWER, "tower"),
    (GARDEN, "garden"),
];

/// The name of a room.
#[must_use]
pub fn name(room: Uuid) -> &'static str {
    ALL.iter()
        .find(|(id, _)| *id == room)
        .map_or("somewhere", |(_, name)| name)
}

/// The room after this one on the walk, which goes in a circle.
#[must_use]
pub fn next(room: Uuid) -> Uuid {
    let here = ALL.iter().position(|(id, _)| *id == room);
    here.map_or(HALL, |here| ALL[(here + 1) % ALL.len()].0)
}
