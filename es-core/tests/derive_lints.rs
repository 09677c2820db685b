//! Generated code survives the strictest lints of its user.

#![cfg(feature = "derive")]
#![deny(
    warnings,
    future_incompatible,
    let_underscore,
    nonstandard_style,
    rust_2018_idioms,
    unused,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_ascii_idents,
    redundant_imports,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    unreachable_pub,
    unsafe_code,
    unused_crate_dependencies,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]
// The other tests of this package use them.
#![allow(unused_crate_dependencies)]

pub mod game {
    //! Names that lints for enums dislike, sizes that differ, everything imported.

    use std::fmt::Debug;

    use es_core::{
        Aggregate, Apply, Event, EventSet, EventType, IntoEvents, Json, Projection, Start,
    };
    use serde::{Deserialize, Serialize};

    /// An event.
    #[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
    pub struct PlayerCreated {
        /// A field.
        pub text: String,
        /// Many bytes.
        pub bytes: ([u64; 32], [u64; 32]),
    }

    /// An event.
    #[derive(Event, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
    #[event(schema_version = 2)]
    pub struct PlayerMoved;

    /// An event of former times.
    #[deprecated]
    #[derive(Event, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PlayerJumped(pub u8);

    /// An aggregate.
    #[derive(Aggregate, Serialize, Deserialize, Debug, Default)]
    #[aggregate(starts(PlayerCreated), events(PlayerMoved, PlayerJumped))]
    pub struct Player {
        text: String,
    }

    impl Start<PlayerCreated> for Player {
        fn start(event: &PlayerCreated) -> Self {
            Self {
                text: event.text.clone(),
            }
        }
    }
    impl Apply<PlayerMoved> for Player {
        fn apply(&mut self, _: &PlayerMoved) {}
    }

    #[allow(deprecated)]
    impl Apply<PlayerJumped> for Player {
        fn apply(&mut self, _: &PlayerJumped) {}
    }

    /// A projection.
    #[derive(Projection, Debug, Clone, Copy)]
    #[projection(
        events(PlayerCreated, PlayerMoved),
        enum(pub MovesFact, derive(Debug, Clone, PartialEq, Eq))
    )]
    pub struct Moves;

    /// A projection of one small event.
    #[derive(Projection, Debug, Clone, Copy)]
    #[projection(events(PlayerMoved))]
    pub struct Steps;

    /// Something with parameters.
    #[derive(Aggregate, Serialize, Deserialize, Debug)]
    #[aggregate(starts(Held<T>))]
    pub struct Hand<T: Debug>(T);

    /// An event with parameters.
    #[derive(Event, Serialize, Deserialize, Debug)]
    pub struct Held<T: Debug>(pub T);

    impl<T: Debug + Clone> Start<Held<T>> for Hand<T>
    where
        Held<T>: Event,
    {
        fn start(event: &Held<T>) -> Self {
            Self(event.0.clone())
        }
    }

    mod private {
        use super::{Event, PlayerMoved, Projection};
        use serde::{Deserialize, Serialize};

        #[derive(Event, Serialize, Deserialize)]
        struct Hidden;

        #[derive(Projection)]
        #[projection(events(Hidden, PlayerMoved))]
        struct Views;

        #[test]
        fn a_private_set_is_used_by_name() {
            let set: Vec<ViewsEvent> = vec![Hidden.into(), PlayerMoved.into()];

            assert_eq!(format!("{set:?}"), "[hidden, player_moved]");
            assert_eq!(Views::NAME, "views");
        }
    }

    /// What is imported is also what the generated code names by full path.
    #[must_use]
    pub fn first(event: PlayerEvent) -> (EventType, Option<Json>) {
        let event = IntoEvents::<Player>::into_events(event).remove(0);
        (event.event_type(), event.encode().ok())
    }
}

#[test]
fn a_generated_enum_shows_no_content() {
    let event = game::PlayerEvent::from(game::PlayerCreated {
        text: "secret".to_owned(),
        bytes: ([0; 32], [0; 32]),
    });

    assert_eq!(format!("{event:?}"), "player_created");
    assert_eq!(game::first(event).0.name, "player_created");
}
