use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event = "opened"]
struct Opened;

fn main() {
    let _ = Opened::EVENT_TYPE;
}
