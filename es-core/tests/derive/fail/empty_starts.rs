use es_core::{Aggregate, Apply, Event, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Built;
#[derive(Event, Serialize, Deserialize)]
struct Opened;

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(), events(Opened))]
struct Door;

impl Start<Built> for Door {
    fn start(_: &Built) -> Self {
        Door
    }
}
impl Apply<Opened> for Door {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {
    let _: DoorEvent = Opened.into();
    let _ = Door::begin(&Built.into());
}
