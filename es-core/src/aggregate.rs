//! Aggregates: state folded from one stream.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Event, EventSet};

/// A thing with a history: its state is what its events say.
///
/// Derive it, list its events, and write [`Start`] for the events that begin a history and
/// [`Apply`] for those that continue it. The derive generates the event enum and the dispatch.
///
/// ```
/// use es_core::{Aggregate, Apply, Event, Start};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// struct LampInstalled;
/// #[derive(Event, Serialize, Deserialize)]
/// struct LampSwitched { on: bool }
///
/// #[derive(Aggregate, Serialize, Deserialize)]
/// #[aggregate(starts(LampInstalled), events(LampSwitched))]
/// struct Lamp { on: bool }
///
/// impl Start<LampInstalled> for Lamp {
///     fn start(_: &LampInstalled) -> Self { Lamp { on: false } }
/// }
/// impl Apply<LampSwitched> for Lamp {
///     fn apply(&mut self, event: &LampSwitched) { self.on = event.on; }
/// }
///
/// let mut lamp = Lamp::begin(&LampInstalled.into()).unwrap();
/// lamp.evolve(&LampEvent::LampSwitched(LampSwitched { on: true })).unwrap();
/// assert!(lamp.on);
/// ```
pub trait Aggregate: Serialize + DeserializeOwned + Send + Sync + Sized + 'static {
    /// The stored name of this kind of aggregate, for example `"player"`. At most 255 bytes.
    const AGGREGATE_TYPE: &'static str;

    /// A fingerprint of the state's fields. A snapshot with another one is not used.
    const STATE_FINGERPRINT: u64;

    /// Everything that can happen to it.
    type Event: EventSet;

    /// The state after the first event of a history.
    ///
    /// # Errors
    ///
    /// [`Misplaced`] if no history begins with this event.
    fn begin(event: &Self::Event) -> Result<Self, Misplaced>;

    /// The state after one more event.
    ///
    /// # Errors
    ///
    /// [`Misplaced`] if the event can only begin a history.
    fn evolve(&mut self, event: &Self::Event) -> Result<(), Misplaced>;
}

/// The state right after an event that begins a history. Cannot fail: the event has happened.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how a history starts with `{E}`",
    label = "`impl Start<{E}> for {Self}` is missing",
    note = "write: impl Start<{E}> for {Self} {{ fn start(event: &{E}) -> Self {{ … }} }}"
)]
pub trait Start<E: Event>: Sized {
    /// The state after `event`.
    fn start(event: &E) -> Self;
}

/// How the state changes with one more event. Cannot fail: the event has happened.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how `{E}` changes it",
    label = "`impl Apply<{E}> for {Self}` is missing",
    note = "write: impl Apply<{E}> for {Self} {{ fn apply(&mut self, event: &{E}) {{ … }} }}"
)]
pub trait Apply<E: Event> {
    /// Changes the state.
    fn apply(&mut self, event: &E);
}

/// An event stands where it cannot: a history begins with it and should not, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misplaced {
    /// The first event is not one of `starts(…)`.
    #[error(
        "a history of `{aggregate_type}` cannot begin with `{event_type}`; it begins with one of `starts(…)`"
    )]
    NotAStart {
        /// The kind of aggregate.
        aggregate_type: &'static str,
        /// The offending event.
        event_type: &'static str,
    },
    /// An event of `starts(…)` stands in the middle.
    #[error(
        "`{event_type}` begins a history of `{aggregate_type}`, but this one has begun; use an event of `events(…)`"
    )]
    StartedTwice {
        /// The kind of aggregate.
        aggregate_type: &'static str,
        /// The offending event.
        event_type: &'static str,
    },
}
