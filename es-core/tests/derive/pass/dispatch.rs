//! A history is folded, and events out of place are refused.
#![deny(warnings)]

use es_core::{Aggregate, Apply, DecodeError, Event, EventSet, IntoEvents, Misplaced, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Built;
#[derive(Event, Serialize, Deserialize)]
struct Inherited {
    open: bool,
}
#[derive(Event, Serialize, Deserialize)]
struct Swung(bool);

#[derive(Aggregate, Serialize, Deserialize, PartialEq, Debug)]
#[aggregate(starts(Built, Inherited), events(Swung))]
enum Door {
    Open,
    Shut,
}

fn door(open: bool) -> Door {
    if open { Door::Open } else { Door::Shut }
}

impl Start<Built> for Door {
    fn start(_: &Built) -> Self {
        Door::Shut
    }
}
impl Start<Inherited> for Door {
    fn start(event: &Inherited) -> Self {
        door(event.open)
    }
}
impl Apply<Swung> for Door {
    fn apply(&mut self, event: &Swung) {
        *self = door(event.0);
    }
}

fn main() {
    let mut state = Door::begin(&Inherited { open: true }.into()).unwrap();
    assert_eq!(state, Door::Open);
    state.evolve(&DoorEvent::Swung(Swung(false))).unwrap();
    assert_eq!(state, Door::Shut);

    assert!(matches!(
        Door::begin(&Swung(true).into()),
        Err(Misplaced::NotAStart {
            aggregate_type: "door",
            event_type: "swung",
            ..
        })
    ));
    assert!(matches!(
        state.evolve(&Built.into()),
        Err(Misplaced::StartedTwice {
            aggregate_type: "door",
            event_type: "built",
            ..
        })
    ));

    let event = DoorEvent::from(Swung(true));
    assert_eq!(event.event_type().name, "swung");
    assert_eq!(event.encode().unwrap().as_str(), "true");
    assert!(matches!(
        DoorEvent::decode("swung", 1, "false"),
        Ok(DoorEvent::Swung(Swung(false)))
    ));
    assert!(matches!(
        DoorEvent::decode("swung", 2, "false"),
        Err(DecodeError::NewerSchema { .. })
    ));
    assert!(matches!(
        DoorEvent::decode("painted", 1, "null"),
        Err(DecodeError::UnknownType { .. })
    ));
    assert!(matches!(
        DoorEvent::decode("swung", 1, "7"),
        Err(DecodeError::Undecodable { .. })
    ));

    let decision: Vec<DoorEvent> = IntoEvents::<Door>::into_events(event);
    assert_eq!(format!("{decision:?}"), "[swung]", "only the name is shown");
}
