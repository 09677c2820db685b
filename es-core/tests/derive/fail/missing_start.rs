use es_core::{Aggregate, Apply, Event};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Built;
#[derive(Event, Serialize, Deserialize)]
struct Opened;

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Built), events(Opened))]
struct Door;

impl Apply<Opened> for Door {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
