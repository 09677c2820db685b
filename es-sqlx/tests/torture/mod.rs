//! The torture tests that are the same on every backend. How to meddle with the tables and the clock
//! is the caller's part.

pub(crate) mod appends;
pub(crate) mod checkpoints;
pub(crate) mod node;
pub(crate) mod paging;
pub(crate) mod times;
