//! What each derive generates, as files beside this one.

use insta::assert_snapshot;
use quote::quote;

use super::pretty;
use crate::expand;

#[test]
fn event() {
    assert_snapshot!(pretty(expand::event(quote! {
        pub struct PlayerMoved { to_room: Uuid }
    })));
}

#[test]
fn event_with_options() {
    assert_snapshot!(pretty(expand::event(quote! {
        #[event(name = "sent", schema_version = 2, crate = my::es_core)]
        struct r#Move<T: Clone = u8, const N: usize = 1>([T; N]) where T: Default;
    })));
}

#[test]
fn aggregate() {
    assert_snapshot!(pretty(expand::aggregate(quote! {
        #[aggregate(starts(PlayerCreated), events(PlayerMoved, rooms::Moved as RoomMoved))]
        pub struct Player { name: String, health: u32 }
    })));
}

#[test]
fn aggregate_with_options() {
    assert_snapshot!(pretty(expand::aggregate(quote! {
        #[aggregate(name = "gate", starts(Built, r#Move), crate = my::es_core)]
        #[aggregate(enum(pub(crate) GateFact, derive(Debug, Clone, PartialEq)))]
        enum Gate { Open, Shut }
    })));
}

#[test]
fn generic_aggregate() {
    assert_snapshot!(pretty(expand::aggregate(quote! {
        #[aggregate(starts(Opened), events(Sent<T>))]
        pub struct Chat<T: Text, U> where T: Into<U> { last: Option<T>, other: U }
    })));
}

#[test]
fn projection() {
    assert_snapshot!(pretty(expand::projection(quote! {
        #[projection(version = 2, events(PlayerCreated, PlayerMoved))]
        struct RoomOccupancy;
    })));
}

#[test]
fn repeatable_projection() {
    assert_snapshot!(pretty(expand::projection(quote! {
        #[projection(name = "rooms", repeatable, events(PlayerMoved))]
        struct RoomOccupancy;
    })));
}
