//! The adventure world that the example programs share.

pub mod database;
pub mod explorers;
pub mod player;
pub mod room_occupancy;
pub mod rooms;

pub use self::{explorers::Explorers, player::Player, room_occupancy::RoomOccupancy};

/// The program in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
