//! Our side of a replay, in a process of its own.

use std::time::{Duration, Instant};

use es_core::{Position, Project, ProjectionStore};
use es_projections::{Daemon, Options};
use serde::{Deserialize, Serialize};

use super::{Handler, Order};
use crate::{
    child::{self, Other, Task},
    place::{Opened, Place},
    rooms::{RoomOccupancy, RoomOccupancyByEvent, RoomOccupancyInOne},
    side::Result,
};

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Replayed {
    pub(crate) time: Duration,
    /// In KiB.
    pub(crate) memory: Option<u32>,
}

/// One turn.
pub(crate) async fn turn(place: &Place, order: Order) -> Result<Replayed> {
    place.reset().await?;
    Other::start(&Task::Replay(place.clone(), order))?
        .hear()
        .await
}

/// In the other process.
pub(crate) async fn run(place: &Place, order: Order) -> Result<()> {
    let time = match place.open().await? {
        Opened::Postgres(store) => replay(store, order).await?,
        Opened::Sqlite(store) => replay(store, order).await?,
    };
    child::say(&Replayed {
        time,
        memory: child::peak_memory(),
    })
}

pub(super) async fn replay<S>(store: S, order: Order) -> Result<Duration>
where
    S: ProjectionStore + 'static,
    RoomOccupancy: Project<S::Connection>,
    RoomOccupancyInOne: Project<S::Connection>,
    RoomOccupancyByEvent: Project<S::Connection>,
{
    let daemon = Daemon::new(store);
    match order.handler {
        Handler::Rows => projected(daemon, RoomOccupancy, order).await,
        Handler::InOne => projected(daemon, RoomOccupancyInOne, order).await,
        Handler::ByEvent => projected(daemon, RoomOccupancyByEvent, order).await,
    }
}

async fn projected<S, P>(daemon: Daemon<S>, projection: P, order: Order) -> Result<Duration>
where
    S: ProjectionStore + 'static,
    P: Project<S::Connection>,
{
    let options = Options::default().with_shards(order.shards);
    let started = Instant::now();
    let daemon = daemon.run_with(projection, options).start().await?;
    daemon
        .wait_until(P::NAME, Position::new(order.end.into()))
        .await?;
    let time = started.elapsed();
    daemon.shutdown().await?;
    Ok(time)
}
