//! Which checks must fail with which fault.

pub(crate) mod append;
pub(crate) mod append_all;
pub(crate) mod erasure;
pub(crate) mod letters;
pub(crate) mod read;
pub(crate) mod running;
pub(crate) mod snapshot;
pub(crate) mod standing;

use crate::fault::Fault;

/// Faults, each with the checks that must see it.
pub(crate) type Caught = &'static [(Fault, &'static [&'static str])];

pub(crate) const ALL: [Caught; 8] = [
    append::CASES,
    append_all::CASES,
    erasure::CASES,
    read::CASES,
    snapshot::CASES,
    running::CASES,
    standing::CASES,
    letters::CASES,
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
    (
        Fault::NeverForgetsNodes,
        "nodes::a_silent_node_is_no_longer_seen",
    ),
    (
        Fault::NeverForgetsNodes,
        "nodes::a_node_that_stops_beating_loses_its_shards_after_its_time_and_not_before",
    ),
    (
        Fault::BeatsWaitForBatches,
        "nodes::a_beat_does_not_wait_for_an_open_batch",
    ),
];
