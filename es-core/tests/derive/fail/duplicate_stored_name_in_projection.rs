use es_core::{Event, Projection};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Opened;

mod windows {
    #[derive(es_core::Event, serde::Serialize, serde::Deserialize)]
    pub struct Opened;
}

#[derive(Projection)]
#[projection(events(Opened, windows::Opened as WindowOpened))]
struct Openings;

fn main() {}
