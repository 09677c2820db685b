//! What only Postgres can show: writers that overlap, and databases that are not ours.
#![cfg(feature = "postgres")]

#[path = "torture/node.rs"]
mod node;
mod postgres_server;

#[path = "postgres/addresses.rs"]
mod addresses;
#[path = "postgres/batches.rs"]
mod batches;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/groups.rs"]
mod groups;
#[path = "postgres/horizon.rs"]
mod horizon;
#[path = "postgres/inline.rs"]
mod inline;
#[path = "postgres/notify.rs"]
mod notify;
#[path = "postgres/projections.rs"]
mod projections;
#[path = "postgres/roles.rs"]
mod roles;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/transactions.rs"]
mod transactions;
#[path = "postgres/writers.rs"]
mod writers;
