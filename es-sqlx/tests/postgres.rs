//! What only Postgres can show: writers that overlap, and databases that are not ours.
#![cfg(feature = "postgres")]

mod postgres_server;

#[path = "postgres/addresses.rs"]
mod addresses;
#[path = "postgres/batches.rs"]
mod batches;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/horizon.rs"]
mod horizon;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/writers.rs"]
mod writers;
