use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(version = 2)]
struct Opened;

fn main() {
    let _ = Opened::EVENT_TYPE;
}
