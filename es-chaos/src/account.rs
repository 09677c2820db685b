//! The events, and the aggregates they happen to.

use es_core::{BoxError, Event, NewEvent, Projection, StreamId};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const AGGREGATES: usize = 200;

#[derive(Event, Serialize, Deserialize)]
pub(crate) struct Credited {
    amount: u32,
}

#[derive(Event, Serialize, Deserialize)]
pub(crate) struct Debited {
    amount: u32,
}

#[derive(Event, Serialize, Deserialize)]
pub(crate) struct Noted {
    text: String,
}

/// Gives the set of all events its name; the projections are elsewhere.
#[derive(Projection)]
#[projection(name = "all", events(Credited, Debited, Noted))]
pub(crate) struct All;

/// The same for the events that move money.
#[derive(Projection)]
#[projection(name = "money", events(Credited, Debited))]
pub(crate) struct Money;

/// The aggregates of a run.
pub(crate) fn accounts(seed: u64) -> Vec<StreamId> {
    let mut rng = Rng::with_seed(seed);
    let id = |_| StreamId::new("account", Uuid::from_u128(rng.u128(1..)));
    (0..AGGREGATES).map(id).collect()
}

/// Several events whose ids follow each other from `base`.
pub(crate) fn events(rng: &mut Rng, base: u128, count: u32) -> Result<Vec<NewEvent>, BoxError> {
    let event = |index| {
        let amount = rng.u32(..1000);
        let mut event = match rng.u8(..4) {
            0 => NewEvent::encode(&Credited { amount })?,
            1 => NewEvent::encode(&Debited { amount })?,
            _ => {
                let text = "x".repeat(rng.usize(..200));
                NewEvent::encode(&Noted { text })?
            }
        };
        event.event_id = Uuid::from_u128(base + u128::from(index));
        Ok(event)
    };
    (0..count).map(event).collect()
}
