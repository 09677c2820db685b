//! `r#` is spelling, not part of a name.
#![deny(warnings)]
#![allow(non_camel_case_types)]

use es_core::{Aggregate, Apply, Event, EventSet, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct r#Move {
    r#type: u8,
}
#[derive(Event, Serialize, Deserialize)]
struct r#match;

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(r#Move), events(r#match), r#enum(r#enum))]
struct r#struct {
    r#type: u8,
}

impl Start<r#Move> for r#struct {
    fn start(event: &r#Move) -> Self {
        r#struct {
            r#type: event.r#type,
        }
    }
}
impl Apply<r#match> for r#struct {
    fn apply(&mut self, _: &r#match) {}
}

fn main() {
    assert_eq!(r#struct::AGGREGATE_TYPE, "struct");
    assert_eq!(r#enum::EVENT_TYPES[0].name, "move");
    assert_eq!(r#enum::EVENT_TYPES[1].name, "match");
    assert!(r#struct::begin(&r#enum::r#Move(r#Move { r#type: 1 })).is_ok());
}
