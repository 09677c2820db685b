//! `crate = …` says where es-core is, for facades.
#![deny(warnings)]

mod my {
    pub use es_core;
}

use my::es_core::{Aggregate, Apply, Event, EventSet, Projection, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = my::es_core)]
struct Built<T>(T);
#[derive(Event, Serialize, Deserialize)]
#[event(crate = crate::my::es_core)]
struct Opened;

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(crate = my::es_core, starts(Built<u8>), events(Opened))]
struct Door;

impl Start<Built<u8>> for Door {
    fn start(_: &Built<u8>) -> Self {
        Door
    }
}
impl Apply<Opened> for Door {
    fn apply(&mut self, _: &Opened) {}
}

#[derive(Projection)]
#[projection(crate = my::es_core, events(Opened))]
struct Openings;

fn main() {
    assert_eq!(DoorEvent::EVENT_TYPES.len(), 2);
    assert_eq!(Openings::NAME, "openings");
}
