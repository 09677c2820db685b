//! Names, events, visibilities and literals that come from a `macro_rules!`.
#![deny(warnings)]
#![allow(dead_code)]

use es_core::{Aggregate, Apply, Event, EventSet, Projection, Start};

macro_rules! thing {
    ($vis:vis $thing:ident, $fact:ident, $start:ident, $next:path, $listed:ty, $name:literal, $number:expr) => {
        #[derive(Event, serde::Serialize, serde::Deserialize)]
        #[event(name = $name, schema_version = $number)]
        $vis struct $start;

        #[derive(Event, serde::Serialize, serde::Deserialize)]
        $vis struct Hidden;

        #[derive(Aggregate, serde::Serialize, serde::Deserialize)]
        #[aggregate(starts($start), events($next, Hidden), enum($vis $fact, derive(Clone)))]
        #[derive(Clone)]
        $vis struct $thing {
            $vis at: $listed,
        }

        impl Clone for $start {
            fn clone(&self) -> Self {
                $start
            }
        }
        impl Clone for Hidden {
            fn clone(&self) -> Self {
                Hidden
            }
        }
        impl Start<$start> for $thing {
            fn start(_: &$start) -> Self {
                $thing { at: <$listed>::default() }
            }
        }
        impl Apply<$next> for $thing {
            fn apply(&mut self, _: &$next) {}
        }
        impl Apply<Hidden> for $thing {
            fn apply(&mut self, _: &Hidden) {}
        }

        #[derive(Projection)]
        #[projection(events($listed, $next))]
        struct View;
    };
}

mod inner {
    #[derive(es_core::Event, serde::Serialize, serde::Deserialize, Clone, Default)]
    pub struct Opened;
    #[derive(es_core::Event, serde::Serialize, serde::Deserialize, Clone, Default)]
    pub struct Seen;
}

thing!(pub(crate) Door, DoorFact, Built, inner::Opened, inner::Seen, "door_built", 2);

mod private {
    use super::inner;
    use es_core::{Aggregate, Apply, Event, Projection, Start};

    thing!(
        Gate,
        GateFact,
        Made,
        inner::Opened,
        inner::Seen,
        "gate_made",
        1
    );

    #[test]
    fn used() {
        let _ = View;
    }
}

fn main() {
    assert_eq!(DoorFact::EVENT_TYPES[0].name, "door_built");
    assert_eq!(DoorFact::EVENT_TYPES[0].schema_version, 2);
    assert_eq!(ViewEvent::EVENT_TYPES[0].name, "seen");
    let door = Door::begin(&DoorFact::Built(Built)).unwrap();
    let _ = (
        door.clone().at,
        DoorFact::Opened(inner::Opened).clone(),
        View,
    );
}
