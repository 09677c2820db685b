//! New events: pushed inside the process, looked for where other processes write.

use es_core::{EventStore, Position, ReadError};
use tokio::time::timeout;

use super::SqliteStore;

/// Returns when the log goes beyond `after`.
pub(super) async fn wait(store: &SqliteStore, after: Position) -> Result<(), ReadError> {
    let mut head = store.0.writer.head.subscribe();
    loop {
        // In this order: a push after the look is still to come, one before it has been seen.
        head.mark_unchanged();
        if store.settled().await? > after {
            return Ok(());
        }
        // Either way the loop looks again.
        let _ = timeout(store.0.poll, head.changed()).await;
    }
}
