//! Read models that keep up: a batch of events in two statements for each table.
//!
//! A projection that sends an UPDATE for each event spends nearly all of its time waiting for answers. The
//! events of a batch arrive together, though: their rows can be loaded together, changed in memory one
//! event after the other, and written back together. That is several times as fast, and ten times and
//! more where the database is another process; and it is plain Rust, the same for Postgres and SQLite:
//!
//! ```
//! use es_core::{BoxError, Event, Project, Projection, Recorded};
//! use es_sqlx::rows::{HasTable, Rows};
//! use serde::{Deserialize, Serialize};
//! use uuid::Uuid;
//! # #[derive(Event, Serialize, Deserialize)]
//! # struct PlayerCreated { name: String, room_id: Uuid }
//! # #[derive(Event, Serialize, Deserialize)]
//! # struct PlayerMoved { to_room_id: Uuid }
//!
//! es_sqlx::read_model! {
//!     /// Who is where.
//!     #[derive(Debug, Clone, PartialEq)]
//!     pub struct Occupant in "room_occupancy" {
//!         #[key]
//!         pub player_id: Uuid,
//!         pub name: String,
//!         pub room_id: Uuid,
//!         pub moves: i32,
//!     }
//! }
//!
//! #[derive(Projection)]
//! #[projection(events(PlayerCreated, PlayerMoved))]
//! struct RoomOccupancy;
//!
//! impl<C: HasTable<Occupant>> Project<C> for RoomOccupancy {
//!     async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
//!         db.run(
//!             "CREATE TABLE IF NOT EXISTS room_occupancy (
//!                player_id UUID PRIMARY KEY, name TEXT NOT NULL, room_id UUID NOT NULL, moves INT NOT NULL)",
//!         )
//!         .await?;
//!         Ok(())
//!     }
//!
//!     async fn project(
//!         &self,
//!         db: &mut C,
//!         events: &[Recorded<RoomOccupancyEvent>],
//!     ) -> Result<(), BoxError> {
//!         let players = events.iter().map(|event| event.record.aggregate_id);
//!         let mut occupants = Rows::<Occupant>::load(db, players).await?;
//!         for Recorded { event, record } in events {
//!             match event {
//!                 RoomOccupancyEvent::PlayerCreated(created) => occupants.insert(Occupant {
//!                     player_id: record.aggregate_id,
//!                     name: created.name.clone(),
//!                     room_id: created.room_id,
//!                     moves: 0,
//!                 })?,
//!                 RoomOccupancyEvent::PlayerMoved(moved) => {
//!                     let occupant = occupants.update(&record.aggregate_id)?;
//!                     occupant.room_id = moved.to_room_id;
//!                     occupant.moves += 1;
//!                 }
//!             }
//!         }
//!         occupants.save(db).await?;
//!         Ok(())
//!     }
//! }
//! # fn projects<C: Send>() where RoomOccupancy: Project<C> {}
//! # #[cfg(feature = "postgres")]
//! # projects::<sqlx::PgConnection>();
//! # #[cfg(feature = "sqlite")]
//! # projects::<sqlx::SqliteConnection>();
//! ```
//!
//! A projection of several tables asks for each, `C: HasTable<Occupant> + HasTable<Room>`, and loads and
//! saves each. What does not fit, such as the removal of many rows by another column, is SQL on the
//! database's own connection: `impl Project<sqlx::PgConnection> for …`.

mod batch;
mod error;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;

pub use self::{
    batch::Rows,
    error::RowsError,
    model::{ReadModel, Stored},
    table::{HasTable, RunSql},
};

/// What the code of [`read_model!`](crate::read_model) names.
#[doc(hidden)]
pub mod __private {
    pub use sqlx::Error;
    #[cfg(feature = "postgres")]
    pub use sqlx::{
        Postgres,
        postgres::{PgArguments, PgRow},
    };
    #[cfg(feature = "sqlite")]
    pub use sqlx::{
        Sqlite,
        sqlite::{SqliteArguments, SqliteRow},
    };

    pub use super::model::Columns;

    /// Adds one parameter.
    ///
    /// # Errors
    ///
    /// If the value cannot be encoded.
    pub fn add<'t, A, T>(parameters: &mut A, value: T) -> Result<(), Error>
    where
        A: sqlx::Arguments,
        T: sqlx::Encode<'t, A::Database> + sqlx::Type<A::Database>,
    {
        parameters.add(value).map_err(Error::Encode)
    }
}

/// Without its feature a database takes no part.
#[cfg(not(feature = "postgres"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __postgres_row {
    ($($row:tt)*) => {};
}

/// Without its feature a database takes no part.
#[cfg(not(feature = "sqlite"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __sqlite_row {
    ($($row:tt)*) => {};
}
