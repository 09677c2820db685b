use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
enum DoorEvent {
    Opened,
    Shut,
}

fn main() {
    let _ = DoorEvent::EVENT_TYPE;
}
