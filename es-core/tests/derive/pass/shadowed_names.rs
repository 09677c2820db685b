//! A module named `es_core`, and the user's own `Result`, `Vec`, `Ok`, `str`, `event` …; no prelude at all
#![deny(warnings)]
#![allow(dead_code, non_camel_case_types, non_upper_case_globals)]

mod es_core {}
mod core {}
mod std {}
struct Result;
struct Option;
struct Vec;
struct String;
struct Box;
struct str;
struct u32;
struct u64;
struct Ok;
struct Err;
struct Some;
struct None;
trait Send {}
trait Sync {}
trait Debug {}
trait From {}
trait EventSet {}
trait EventType {}
const event: u8 = 1;
const data: u8 = 1;

use ::es_core::{Aggregate, Apply, Event, Projection, Start};
use ::serde::{Deserialize, Serialize};

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
impl Apply<Opened> for Door {
    fn apply(&mut self, _: &Opened) {}
}

#[derive(Projection)]
#[projection(events(Opened))]
struct Openings;

mod without_prelude {
    #![no_implicit_prelude]

    use ::es_core::{Aggregate, Event, Projection, Start};
    use ::serde::{Deserialize, Serialize};

    #[derive(Event, Serialize, Deserialize)]
    struct Built;

    #[derive(Aggregate, Serialize, Deserialize)]
    #[aggregate(starts(Built))]
    struct Wall;

    impl Start<Built> for Wall {
        fn start(_: &Built) -> Self {
            Wall
        }
    }

    #[derive(Projection)]
    #[projection(events(Built))]
    struct Walls;
}

fn main() {
    assert!(Door::begin(&DoorEvent::Built(Built)).is_ok());
}
