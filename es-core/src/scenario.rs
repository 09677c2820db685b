//! Given, when, then: tests of decisions, without a store.
//!
//! ```
//! use es_core::{Aggregate, Apply, Event, Start, scenario};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
//! struct OrderPlaced { sku: String }
//! #[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
//! struct OrderShipped;
//!
//! #[derive(Aggregate, Serialize, Deserialize)]
//! #[aggregate(starts(OrderPlaced), events(OrderShipped))]
//! struct Order { shipped: bool }
//!
//! impl Start<OrderPlaced> for Order {
//!     fn start(_: &OrderPlaced) -> Self { Order { shipped: false } }
//! }
//! impl Apply<OrderShipped> for Order {
//!     fn apply(&mut self, _: &OrderShipped) { self.shipped = true; }
//! }
//! impl Order {
//!     fn ship(&self) -> Result<OrderShipped, &'static str> {
//!         if self.shipped { Err("already shipped") } else { Ok(OrderShipped) }
//!     }
//! }
//!
//! let placed = || OrderPlaced { sku: "tea".into() };
//!
//! scenario::started_by::<Order, _>(placed()).when(Order::ship).then([OrderShipped]);
//! scenario::started_by::<Order, _>(placed())
//!     .given(OrderShipped)
//!     .when(Order::ship)
//!     .then_err("already shipped");
//! ```

use std::fmt;

use serde_json::Value;

use crate::{Aggregate, Apply, Event, EventSet, IntoEvents, Start};

/// A history that begins with `event`.
#[must_use]
pub fn started_by<A, E>(event: E) -> Given<A>
where
    A: Aggregate + Start<E>,
    E: Event,
{
    Given {
        state: A::start(&event),
    }
}

/// What has happened.
#[derive(Debug)]
pub struct Given<A> {
    state: A,
}

impl<A: Aggregate> Given<A> {
    /// One more thing that has happened.
    #[must_use]
    pub fn given<E: Event>(mut self, event: E) -> Self
    where
        A: Apply<E>,
    {
        self.state.apply(&event);
        self
    }

    /// What is decided now.
    pub fn when<I, E>(self, decide: impl FnOnce(&A) -> Result<I, E>) -> Decided<A, E>
    where
        I: IntoEvents<A>,
    {
        let outcome = decide(&self.state).map(IntoEvents::into_events);
        Decided {
            state: self.state,
            outcome,
        }
    }

    /// Checks the state after what has happened.
    #[track_caller]
    pub fn then_state(self, check: impl FnOnce(&A)) {
        check(&self.state);
    }
}

/// What was decided, to be checked.
pub struct Decided<A: Aggregate, E> {
    state: A,
    outcome: Result<Vec<A::Event>, E>,
}

impl<A: Aggregate, E: fmt::Debug> Decided<A, E> {
    /// Checks that exactly these events happen; they are compared as they would be stored.
    ///
    /// # Panics
    ///
    /// If something else happens: this is a test.
    #[track_caller]
    pub fn then(self, expected: impl IntoEvents<A>) {
        let expected = stored(&expected.into_events());
        match self.outcome {
            Ok(events) => {
                let happened = stored(&events);
                assert!(
                    happened == expected,
                    "expected these events:\n{}\nbut these happened:\n{}",
                    Lines(&expected),
                    Lines(&happened),
                );
            }
            Err(error) => panic!(
                "expected these events:\n{}\nbut it was refused: {error:?}",
                Lines(&expected)
            ),
        }
    }

    /// Checks that the decision is refused with this error.
    ///
    /// # Panics
    ///
    /// If it is not: this is a test.
    #[track_caller]
    pub fn then_err<X: fmt::Debug>(self, expected: X)
    where
        E: PartialEq<X>,
    {
        match self.outcome {
            Ok(events) => panic!(
                "expected a refusal: {expected:?}\nbut these happened:\n{}",
                Lines(&stored(&events))
            ),
            Err(error) => assert!(
                error == expected,
                "expected a refusal: {expected:?}\nbut it was another: {error:?}"
            ),
        }
    }

    /// Checks the state after the decided events.
    ///
    /// # Panics
    ///
    /// If the decision is refused, or its events cannot happen next: this is a test.
    #[track_caller]
    pub fn then_state(mut self, check: impl FnOnce(&A)) {
        match self.outcome {
            Ok(events) => {
                for event in &events {
                    if let Err(misplaced) = self.state.evolve(event) {
                        panic!("{misplaced}");
                    }
                }
                check(&self.state);
            }
            Err(error) => panic!("expected events, but it was refused: {error:?}"),
        }
    }
}

impl<A: Aggregate, E> fmt::Debug for Decided<A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decided").finish_non_exhaustive()
    }
}

/// Name and content, as they would be stored.
#[track_caller]
fn stored<S: EventSet>(events: &[S]) -> Vec<(&'static str, Value)> {
    events
        .iter()
        .map(|event| {
            let name = event.event_type().name;
            match event.encode().and_then(|json| json.decode()) {
                Ok(value) => (name, value),
                Err(error) => panic!("`{name}` cannot be written as JSON: {error}"),
            }
        })
        .collect()
}

struct Lines<'a>(&'a [(&'static str, Value)]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("  (none)");
        }
        for (index, (name, value)) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}  {name} {value}")?;
        }
        Ok(())
    }
}
