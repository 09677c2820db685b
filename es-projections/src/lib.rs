//! Runs projections: catch up, follow, and keep each read model exactly in step with the log.
//!
//! Each batch of events and its checkpoint are written in one transaction, so every event takes
//! effect exactly once, whatever is killed and however many daemons run.
//!
//! ```
//! # use std::{collections::HashMap, error::Error};
//! use es_core::{
//!     BoxError, Event, EventStore, ExpectedVersion, MemoryModels, MemoryStore, NewEvent, Project,
//!     Projection, Recorded, StreamId,
//! };
//! use es_projections::Daemon;
//! use serde::{Deserialize, Serialize};
//! use uuid::Uuid;
//!
//! #[derive(Event, Serialize, Deserialize)]
//! struct PlayerMoved { to_room: String }
//!
//! #[derive(Projection)]
//! #[projection(name = "room_visits", version = 1, events(PlayerMoved))]
//! struct RoomVisits;
//!
//! impl Project<MemoryModels> for RoomVisits {
//!     async fn project(
//!         &self,
//!         models: &mut MemoryModels,
//!         events: &[Recorded<RoomVisitsEvent>],
//!     ) -> Result<(), BoxError> {
//!         let visits = models.model_mut::<HashMap<String, u32>>();
//!         for Recorded { event: RoomVisitsEvent::PlayerMoved(moved), .. } in events {
//!             *visits.entry(moved.to_room.clone()).or_default() += 1;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! let store = MemoryStore::new();
//! let daemon = Daemon::new(store.clone()).run(RoomVisits).start().await?;
//!
//! let player = StreamId::new("player", Uuid::now_v7());
//! let moved = NewEvent::encode(&PlayerMoved { to_room: "cellar".into() })?;
//! let appended = store.append(&player, ExpectedVersion::Any, &[moved]).await?;
//!
//! daemon.wait_until("room_visits", appended.position).await?; // read your own writes
//! assert_eq!(store.model::<HashMap<String, u32>>().await["cellar"], 1);
//! daemon.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # When something fails
//!
//! - **The store does not answer**, also inside of a handler (a lost connection, a deadlock): the
//!   projection tries for ever, with growing pauses, each time from the stored checkpoint. A commit whose
//!   acknowledgement was lost is not applied twice.
//! - **A daemon dies, or freezes**: another one takes its projections over within two seconds. One that
//!   wakes up finds itself fenced and keeps nothing of its batch.
//! - **The handler fails, or an event cannot be read**: the batch is rolled back and tried again; if that
//!   does not help, what stands before the bad event is committed, and then the projection
//!   [stops, parks the aggregate, or skips the event](OnFailure), as its [`Options`] say. Other
//!   projections go on.
//! - **The checkpoint belongs to another log**, as after a backup was restored: the projection stops.
//!
//! [`Status`] tells which of these it is, [`Failure`] where and why, [`Health`] whether anything is wrong.
//!
//! # When something is decided
//!
//! [`Projections`] pauses, resumes, resets, rewinds, divides, lists and retries dead letters, from any
//! process. To build a read model anew without downtime, raise the version, let it have tables of its own,
//! and start it beside the old one:
//!
//! 1. The new version reads the log from the start, without [effects](es_core::Project::emit), at or
//!    below the place where the old one is.
//! 2. When it has caught up it takes over, unless events of the old one are parked: the old version stops,
//!    and effects go on exactly where it stopped.
//! 3. As soon as its read model is not older than the old one, [`activate`](es_core::Project::activate)
//!    makes it the one that is served, in the transaction that makes it the active version.
//!
//! The way back is [`Projections::resume`] and [`Projections::promote`] of the old version, whose tables are
//! still there.
//!
//! Readers read a view, which `activate` points at the tables of its version:
//!
//! ```
//! # use std::{error::Error, time::Duration};
//! # use es_core::{BoxError, Event, EventStore, ExpectedVersion, NewEvent, Project, Projection, Recorded, StreamId};
//! # use es_projections::Daemon;
//! # use es_sqlx::SqliteStore;
//! # use serde::{Deserialize, Serialize};
//! use sqlx::SqliteConnection;
//! # #[derive(Event, Serialize, Deserialize)]
//! # struct PlayerMoved { to_room: String }
//! # mod v1 {
//! #     use super::*;
//! #     #[derive(Projection)]
//! #     #[projection(name = "room_visits", version = 1, events(PlayerMoved))]
//! #     pub struct RoomVisits;
//! #     impl Project<SqliteConnection> for RoomVisits {
//! #         async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
//! #             sqlx::raw_sql("CREATE TABLE IF NOT EXISTS room_visits_v1 (room TEXT PRIMARY KEY, visits INTEGER NOT NULL)")
//! #                 .execute(db).await?;
//! #             Ok(())
//! #         }
//! #         async fn project(&self, db: &mut SqliteConnection, events: &[Recorded<RoomVisitsEvent>]) -> Result<(), BoxError> {
//! #             for Recorded { event: RoomVisitsEvent::PlayerMoved(moved), .. } in events {
//! #                 sqlx::query("INSERT INTO room_visits_v1 VALUES ($1, 1) ON CONFLICT DO UPDATE SET visits = visits + 1")
//! #                     .bind(&moved.to_room).execute(&mut *db).await?;
//! #             }
//! #             Ok(())
//! #         }
//! #         async fn activate(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
//! #             sqlx::raw_sql("DROP VIEW IF EXISTS room_visits; CREATE VIEW room_visits AS SELECT * FROM room_visits_v1")
//! #                 .execute(db).await?;
//! #             Ok(())
//! #         }
//! #     }
//! # }
//!
//! #[derive(Projection)]
//! #[projection(name = "room_visits", version = 2, events(PlayerMoved))]
//! struct RoomVisits;
//!
//! impl Project<SqliteConnection> for RoomVisits {
//!     async fn set_up(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
//!         let table = "CREATE TABLE IF NOT EXISTS room_visits_v2 (
//!             room TEXT PRIMARY KEY, visits INTEGER NOT NULL, last TEXT NOT NULL)";
//!         sqlx::raw_sql(table).execute(db).await?;
//!         Ok(())
//!     }
//!
//!     async fn project(
//!         &self,
//!         db: &mut SqliteConnection,
//!         events: &[Recorded<RoomVisitsEvent>],
//!     ) -> Result<(), BoxError> {
//!         let upsert = "INSERT INTO room_visits_v2 VALUES ($1, 1, $2)
//!             ON CONFLICT DO UPDATE SET visits = visits + 1, last = excluded.last";
//!         for Recorded { event: RoomVisitsEvent::PlayerMoved(moved), record } in events {
//!             sqlx::query(upsert)
//!                 .bind(&moved.to_room)
//!                 .bind(record.created_at.to_rfc3339())
//!                 .execute(&mut *db)
//!                 .await?;
//!         }
//!         Ok(())
//!     }
//!
//!     async fn activate(&self, db: &mut SqliteConnection) -> Result<(), BoxError> {
//!         let view = "DROP VIEW IF EXISTS room_visits;
//!             CREATE VIEW room_visits AS SELECT * FROM room_visits_v2";
//!         sqlx::raw_sql(view).execute(db).await?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let store = SqliteStore::open(folder.path().join("log.db").to_str().unwrap_or_default()).await?;
//! # let moved = NewEvent::encode(&PlayerMoved { to_room: "cellar".into() })?;
//! # let player = StreamId::new("player", uuid::Uuid::now_v7());
//! # let appended = store.append(&player, ExpectedVersion::Any, &[moved]).await?;
//! # let old = Daemon::new(store.clone()).run(v1::RoomVisits).start().await?;
//! # old.wait_until("room_visits", appended.position).await?;
//! # let count: i64 = sqlx::query_scalar("SELECT count(*) FROM room_visits").fetch_one(store.pool()).await?;
//! # assert_eq!(count, 1);
//! // Deployed beside the program that runs version 1, which then may go:
//! let daemon = Daemon::new(store.clone()).run(RoomVisits).start().await?;
//! while !daemon.status("room_visits v2").is_some_and(|status| status.active) {
//!     tokio::time::sleep(Duration::from_millis(10)).await;
//! }
//! let (visits, last): (i64, String) =
//!     sqlx::query_as("SELECT visits, last FROM room_visits WHERE room = 'cellar'")
//!         .fetch_one(store.pool())
//!         .await?;
//! # assert!(visits == 1 && !last.is_empty());
//! # daemon.shutdown().await?;
//! # old.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Watching
//!
//! Batches are `tracing` spans. The program's `metrics` recorder gets `es_projection_events_total`,
//! `es_projection_errors_total`, `es_projection_batch_seconds`, `es_projection_position`,
//! `es_projection_head`, `es_projection_lag`, `es_projection_behind_seconds`, `es_projection_parked`,
//! `es_projection_failed`, each by `projection`, and `es_projection_horizon_blocked_seconds`.

mod ahead;
mod assign;
mod backoff;
mod batch;
mod board;
mod caught;
mod change;
mod daemon;
mod error;
mod feed;
mod handle;
mod health;
mod lifecycle;
mod member;
mod metrics;
mod moment;
mod node;
mod parked;
mod policy;
mod projections;
mod repair;
mod runner;
mod settings;
mod signals;
mod status;
mod succession;
mod target;
mod token;
mod turn;
mod view;
mod wait;
mod work;

pub use es_core::{Failure, FailureKind};

pub use self::{
    daemon::Daemon,
    error::{ShutdownError, StartError, WaitError},
    handle::DaemonHandle,
    health::{Complaint, Health},
    lifecycle::CommandError,
    projections::Projections,
    settings::{OnFailure, Options, Settings},
    signals::told_to_stop,
    status::{ShardStatus, State, Status},
    target::External,
    token::{Token, TokenError},
    view::View,
    wait::Monitor,
};
