//! Commands through a repository: what they cost, how they queue, and that what is kept in memory is
//! never believed where the store knows better.

mod bounds;
mod counter;
mod faults;
mod hot;
mod stale;
mod together;
mod watched;
