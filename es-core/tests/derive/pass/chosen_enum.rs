//! The enum's name, visibility and derives; names of variants.
#![deny(warnings)]

pub mod rooms {
    #[derive(es_core::Event, serde::Serialize, serde::Deserialize, Debug, Clone, PartialEq)]
    #[event(name = "room_moved")]
    pub struct Moved(pub u8);
}

mod game {
    use super::rooms;
    use es_core::{Aggregate, Apply, Event, Projection, Start};
    use serde::{Deserialize, Serialize};

    #[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
    pub struct Moved;

    #[derive(Aggregate, Serialize, Deserialize)]
    #[aggregate(starts(Moved), events(rooms::Moved as RoomMoved))]
    #[aggregate(enum(pub(crate) PlayerFact, derive(Debug, Clone, PartialEq,)))]
    pub(crate) struct Player;

    impl Start<Moved> for Player {
        fn start(_: &Moved) -> Self {
            Player
        }
    }
    impl Apply<rooms::Moved> for Player {
        fn apply(&mut self, _: &rooms::Moved) {}
    }

    #[derive(Projection)]
    #[projection(events(rooms::Moved), enum(pub(super)))]
    pub(super) struct Moves;

    #[derive(Projection)]
    #[projection(events(rooms::Moved), enum(derive(Clone)))]
    pub(super) struct Copies;

    #[derive(Projection)]
    #[projection(events(rooms::Moved), enum(Other))]
    pub(super) struct Named;
}

fn main() {
    let fact = game::PlayerFact::RoomMoved(rooms::Moved(3));
    assert_eq!(fact.clone(), fact);
    assert_eq!(format!("{fact:?}"), "RoomMoved(Moved(3))");
    assert_ne!(fact, game::PlayerFact::Moved(game::Moved));

    assert_eq!(
        format!("{:?}", game::MovesEvent::Moved(rooms::Moved(1))),
        "room_moved"
    );
    let _ = game::CopiesEvent::Moved(rooms::Moved(1)).clone();
    let _ = game::Other::Moved(rooms::Moved(1));
    let _ = (game::Moves, game::Copies, game::Named);
}
