//! From a time to a place in the log.

use chrono::{DateTime, Utc};
use es_core::{Name, Position, ProjectionStore, ReadError, Scan};

/// How many events are looked at in one statement.
const PAGE: u32 = 1_000;

/// The last position before all events of these types that were created at or after `time`. Times and
/// positions do not run quite in step, so all of them are looked at: as many as will be applied anew.
pub(crate) async fn position_before<S: ProjectionStore>(
    store: &S,
    types: &[String],
    time: DateTime<Utc>,
) -> Result<Position, ReadError> {
    let mut first = store.settled().await?;
    for event_type in types {
        let mut scan = Scan::of(Name::from(event_type.clone()));
        scan.from = Some(time);
        loop {
            let page = store.scan(&scan, PAGE).await?;
            for event in &page {
                let before = Position::new(event.position.get().saturating_sub(1));
                first = first.min(before);
            }
            match page.last() {
                Some(last) => scan = scan.after(last),
                None => break,
            }
        }
    }
    Ok(first)
}
