//! The contract of an event store as tests that any backend can run.
//!
//! One line gives a backend a test for each sentence of the contract, with a fresh store for each:
//!
//! ```
//! es_conformance::store_tests!(async { es_core::MemoryStore::new() });
//! # fn main() {}
//! ```
//!
//! One line more tries [histories made up at random](property_tests) against a simple model:
//!
//! ```
//! es_conformance::property_tests!(async { es_core::MemoryStore::new() });
//! # fn main() {}
//! ```
//!
//! A check is a plain `pub async fn` whose name is the claim; it panics if the claim does not hold.
//! Two stores that are tested in one file go into modules of their own. The checks are not covered
//! by semantic versioning: a new one may show an old mistake.

mod claims;
mod fixtures;
mod list;
mod property;
mod runner;

pub mod acquire;
pub mod append;
pub mod append_all;
pub mod cancellation;
pub mod change;
pub mod checkpoint;
pub mod erasure;
pub mod horizon;
pub mod idempotency;
pub mod letters;
pub mod log;
pub mod names;
pub mod nodes;
pub mod order;
pub mod read;
pub mod scan;
pub mod snapshot;
pub mod standings;
pub mod visit;

#[doc(hidden)]
pub use self::runner::test;
pub use self::{
    list::checks,
    property::check_histories,
    runner::{Check, Failure, Store, TIME_LIMIT},
};
