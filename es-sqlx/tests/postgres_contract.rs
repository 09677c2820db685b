//! The contract on Postgres: a schema for each check.
#![cfg(feature = "postgres")]

mod postgres_server;

es_conformance::store_tests!(postgres_server::fresh_store());
es_conformance::property_tests!(postgres_server::fresh_store());
