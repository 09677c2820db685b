//! Which checks must fail with which fault.

pub(crate) mod append;
pub(crate) mod append_all;
pub(crate) mod erasure;
pub(crate) mod projection;
pub(crate) mod read;
pub(crate) mod snapshot;

use crate::fault::Fault;

/// Faults, each with the checks that must see it.
pub(crate) type Caught = &'static [(Fault, &'static [&'static str])];

pub(crate) const ALL: [Caught; 6] = [
    append::CASES,
    append_all::CASES,
    erasure::CASES,
    read::CASES,
    snapshot::CASES,
    projection::CASES,
];

/// Faults that let a check wait for ever.
pub(crate) const HANGS: &[(Fault, &str)] = &[
    (
        Fault::NeverWakes,
        "order::waiting_for_what_is_there_ends_at_once",
    ),
    (
        Fault::NeverWakes,
        "order::waiting_ends_with_an_append_of_another_handle",
    ),
    (Fault::NeverSettles, "order::an_acknowledged_append_settles"),
    (
        Fault::NeverSettles,
        "cancellation::a_dropped_append_does_not_hold_the_log_back",
    ),
    (
        Fault::WaitsWithALock,
        "order::a_dropped_wait_leaves_the_store_usable",
    ),
];
