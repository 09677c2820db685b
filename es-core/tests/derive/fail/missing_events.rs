use es_core::{Event, Projection};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Opened;

#[derive(Projection)]
struct Openings;

fn main() {
    let _ = OpeningsEvent::from(Opened);
    let _ = (Openings::NAME, Opened::EVENT_TYPE);
}
