use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Opened {
    #[event(name = "who")]
    by: String,
}

fn main() {}
