use es_core::{Event, Projection};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Opened;

#[derive(Projection)]
#[projection(events(Opened), repeatable = true)]
struct Openings;

fn main() {
    let _ = (Openings::NAME, Opened::EVENT_TYPE);
}
