//! Parameters of types and constants, where-clauses, and events that mention only some of them.
#![deny(warnings)]

use es_core::{Aggregate, Apply, Event, EventSet, IntoEvents, Projection, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Opened;

#[derive(Event, Serialize, Deserialize)]
struct Sent<T>
where
    T: Clone,
{
    body: T,
}

#[derive(Event, Serialize, Deserialize)]
#[event(name = "sized")]
struct Sized<const N: u32>;

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Opened), events(Sent<T>))]
struct Chat<T: Clone, U: Default = u8>
where
    Option<T>: Clone,
    T: Into<U>,
{
    last: Option<T>,
    other: U,
}

impl<T: Clone + Into<U>, U: Default> Start<Opened> for Chat<T, U> {
    fn start(_: &Opened) -> Self {
        Chat {
            last: None,
            other: U::default(),
        }
    }
}
impl<T: Clone + Into<U>, U: Default> Apply<Sent<T>> for Chat<T, U>
where
    Sent<T>: Event,
{
    fn apply(&mut self, event: &Sent<T>) {
        self.last = Some(event.body.clone());
        self.other = event.body.clone().into();
    }
}

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Sized<N>))]
struct Box1<const N: u32>;

impl<const N: u32> Start<Sized<N>> for Box1<N> {
    fn start(_: &Sized<N>) -> Self {
        Box1
    }
}

#[derive(Projection)]
#[projection(events(Opened, Sent<u8>))]
struct Count<C> {
    clock: C,
}

fn fold<A: Aggregate>(start: A::Event, next: impl IntoEvents<A>) -> A {
    let mut state = A::begin(&start).unwrap();
    for event in next.into_events() {
        state.evolve(&event).unwrap();
    }
    state
}

fn main() {
    let chat: Chat<u8, u16> = fold(Opened.into(), Sent { body: 3_u8 });
    assert_eq!((chat.last, chat.other), (Some(3), 3));
    let chat: Chat<u8> = fold(Opened.into(), ChatEvent::Sent(Sent { body: 4 }));
    assert_eq!(chat.last, Some(4));

    assert_eq!(ChatEvent::<String>::EVENT_TYPES[1].name, "sent");
    assert_eq!(Box1Event::<2>::EVENT_TYPES[0].name, "sized");
    assert_eq!(<Count<u8> as Projection>::NAME, "count");
    assert_eq!(format!("{:?}", CountEvent::from(Opened)), "opened");
    assert_eq!(Count { clock: 1 }.clock, 1);
}
