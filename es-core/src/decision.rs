//! Decisions: what a command makes happen.

use crate::{Aggregate, Apply, Event};

/// What a decision may return: one event, an `Option`, a `Vec`, an array, a tuple, `()` for nothing,
/// or the generated event enum.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event of `{A}`, nor a collection of them",
    label = "not what `{A}` can do next",
    note = "return an event listed in `#[aggregate(events(…))]` of `{A}`, or a Vec, Option, array or tuple of them"
)]
pub trait IntoEvents<A: Aggregate> {
    /// The events in the order in which they happened.
    fn into_events(self) -> Vec<A::Event>;
}

impl<A, E> IntoEvents<A> for E
where
    A: Aggregate + Apply<E>,
    E: Event + Into<A::Event>,
{
    fn into_events(self) -> Vec<A::Event> {
        vec![self.into()]
    }
}

impl<A: Aggregate, T: IntoEvents<A>> IntoEvents<A> for Vec<T> {
    fn into_events(self) -> Vec<A::Event> {
        self.into_iter().flat_map(T::into_events).collect()
    }
}

impl<A: Aggregate, T: IntoEvents<A>> IntoEvents<A> for Option<T> {
    fn into_events(self) -> Vec<A::Event> {
        self.map(T::into_events).unwrap_or_default()
    }
}

impl<A: Aggregate, T: IntoEvents<A>, const N: usize> IntoEvents<A> for [T; N] {
    fn into_events(self) -> Vec<A::Event> {
        self.into_iter().flat_map(T::into_events).collect()
    }
}

impl<A: Aggregate> IntoEvents<A> for () {
    fn into_events(self) -> Vec<A::Event> {
        Vec::new()
    }
}

impl<A: Aggregate, T: IntoEvents<A>, U: IntoEvents<A>> IntoEvents<A> for (T, U) {
    fn into_events(self) -> Vec<A::Event> {
        let mut events = self.0.into_events();
        events.extend(self.1.into_events());
        events
    }
}

impl<A: Aggregate, T: IntoEvents<A>, U: IntoEvents<A>, V: IntoEvents<A>> IntoEvents<A>
    for (T, U, V)
{
    fn into_events(self) -> Vec<A::Event> {
        let mut events = self.0.into_events();
        events.extend(self.1.into_events());
        events.extend(self.2.into_events());
        events
    }
}

/// How an aggregate answers a command of type `C`; run it with
/// [`Repository::execute`](crate::Repository::execute).
///
/// ```
/// use es_core::{Aggregate, Apply, Event, Handle, Start};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// struct DoorBuilt;
/// #[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
/// struct DoorOpened;
///
/// #[derive(Aggregate, Serialize, Deserialize)]
/// #[aggregate(starts(DoorBuilt), events(DoorOpened))]
/// struct Door { open: bool }
///
/// impl Start<DoorBuilt> for Door { fn start(_: &DoorBuilt) -> Self { Door { open: false } } }
/// impl Apply<DoorOpened> for Door { fn apply(&mut self, _: &DoorOpened) { self.open = true; } }
///
/// struct Open;
/// impl Handle<Open> for Door {
///     type Events = DoorOpened;
///     type Error = &'static str;
///
///     fn handle(&self, _: &Open) -> Result<DoorOpened, &'static str> {
///         if self.open { return Err("it is open"); }
///         Ok(DoorOpened)
///     }
/// }
///
/// assert_eq!(Door { open: false }.handle(&Open), Ok(DoorOpened));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handler for the command `{C}`",
    note = "write: impl Handle<{C}> for {Self} {{ type Events = …; type Error = …; fn handle(&self, command: &{C}) -> Result<…> }}"
)]
pub trait Handle<C>: Aggregate {
    /// What happens: an event, or several (see [`IntoEvents`]).
    type Events: IntoEvents<Self>;
    /// Why it may be refused.
    type Error;

    /// Decides. Pure: it may run again after a conflict.
    ///
    /// # Errors
    ///
    /// The reason why the command is refused; nothing is recorded then.
    fn handle(&self, command: &C) -> Result<Self::Events, Self::Error>;
}
