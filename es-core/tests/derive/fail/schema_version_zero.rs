use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(schema_version = 0)]
struct Opened;

fn main() {
    let _ = Opened::EVENT_TYPE;
}
