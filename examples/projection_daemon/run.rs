//! The long-running process.

use std::time::Duration;

use es_core::{Project, ProjectionStore};
use es_projections::{Daemon, Settings};
use examples::RoomOccupancy;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::Failure;

/// Runs the daemon and prints a line each second in which something happened.
pub(crate) async fn until_stopped<S>(store: S, lease: Duration) -> Result<(), Failure>
where
    S: ProjectionStore + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let daemon = Daemon::new(store)
        .settings(
            Settings::default()
                .with_lease_ttl(lease)
                .with_lease_retry(lease / 2),
        )
        .run(RoomOccupancy)
        .start()
        .await?;
    println!("running; stop with Ctrl-C");
    let mut shown = String::new();
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = second.tick() => {
                for status in daemon.statuses() {
                    let line = status.to_string();
                    if line != shown {
                        println!("{line}");
                        shown = line;
                    }
                }
            }
        }
    }
    println!("stopping: finishing the batch in hand");
    daemon.shutdown().await?;
    println!("stopped");
    Ok(())
}
