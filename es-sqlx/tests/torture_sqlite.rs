//! The torture tests on SQLite.
#![cfg(feature = "sqlite")]

mod oracle;
mod torture;

#[path = "torture_sqlite/busy.rs"]
mod busy;
#[path = "torture_sqlite/file.rs"]
mod file;
#[path = "torture_sqlite/kills.rs"]
mod kills;
#[path = "torture_sqlite/log.rs"]
mod log;
#[path = "torture_sqlite/schema.rs"]
mod schema;
#[path = "torture_sqlite/soak.rs"]
mod soak;
