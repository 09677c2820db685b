//! How far the log has come, as this process has heard.

use es_core::Position;
use tokio::sync::watch;

/// Wakes those who watch, if it is news. Never goes back.
pub(crate) fn raise(known: &watch::Sender<Position>, position: Position) {
    known.send_if_modified(|known| {
        let newer = position > *known;
        *known = position.max(*known);
        newer
    });
}
