//! The torture tests on Postgres. Those about the horizon and the schema alone are in `postgres/`.
#![cfg(feature = "postgres")]

mod oracle;
mod postgres_server;
mod torture;

#[path = "torture_postgres/cluster.rs"]
mod cluster;
#[path = "torture_postgres/crashes.rs"]
mod crashes;
#[path = "torture_postgres/cuts.rs"]
mod cuts;
#[path = "torture_postgres/ddl.rs"]
mod ddl;
#[path = "torture_postgres/dump.rs"]
mod dump;
#[path = "torture_postgres/log.rs"]
mod log;
#[path = "torture_postgres/proxy.rs"]
mod proxy;
#[path = "torture_postgres/races.rs"]
mod races;
#[path = "torture_postgres/schema.rs"]
mod schema;
#[path = "torture_postgres/tricks.rs"]
mod tricks;
