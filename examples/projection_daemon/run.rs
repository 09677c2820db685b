//! The long-running process.

use std::time::Duration;

use es_core::{Project, ProjectionStore};
use es_projections::{Daemon, OnFailure, Options, Settings};
use examples::{Explorers, RoomOccupancy};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Failure, table::Table};

/// How long the batches in hand may take after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the table is drawn.
const REFRESH: Duration = Duration::from_millis(250);

/// Runs the daemon and shows how it is doing, until Ctrl-C or SIGTERM.
pub(crate) async fn until_stopped<S>(store: S, lease: Duration) -> Result<(), Failure>
where
    S: ProjectionStore + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
    Explorers: Project<S::Connection>,
{
    let patient = Options::default().on_failure(OnFailure::Park);
    let daemon = Daemon::new(store)
        .settings(Settings::default().with_lease_ttl(lease))
        .run(RoomOccupancy)
        .run_with(Explorers, patient.with_shards(4))
        .start()
        .await?;
    println!("running; stop with Ctrl-C");

    let mut table = Table::new();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let told_to_stop = es_projections::told_to_stop();
    tokio::pin!(told_to_stop);
    loop {
        tokio::select! {
            () = &mut told_to_stop => break,
            _ = refresh.tick() => table.show(&daemon.statuses(), &daemon.health())?,
        }
    }
    println!("stopping: finishing the batches in hand");
    daemon.shutdown_within(DRAIN).await?;
    println!("stopped");
    Ok(())
}
