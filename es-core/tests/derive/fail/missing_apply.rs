use es_core::{Aggregate, Event, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Built;
#[derive(Event, Serialize, Deserialize)]
struct Opened;

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Built), events(Opened))]
struct Door;

impl Start<Built> for Door {
    fn start(_: &Built) -> Self {
        Door
    }
}

fn main() {}
