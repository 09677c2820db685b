//! The in-memory store keeps the contract.

use es_core::MemoryStore;

es_conformance::store_tests!(async { MemoryStore::new() });

es_conformance::property_tests!(async { MemoryStore::new() });
