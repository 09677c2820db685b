//! Writers who get in each other's way.

use std::time::{Duration, Instant};

use es_core::{AppendError, EventStore, ExpectedVersion, StreamId, Version};
use uuid::Uuid;

use super::oracle::{below, several};

/// Appends to one of eight streams at the version seen last, with pauses of less than `pause`
/// milliseconds; tells how many events, and how often another was faster.
pub(crate) async fn compete(store: &impl EventStore, end: Instant, pause: u64) -> (i64, i64) {
    let mut versions = [Version::EMPTY; 8];
    let (mut written, mut conflicts) = (0, 0);
    while Instant::now() < end {
        let n = usize::try_from(below(8)).unwrap();
        let stream = StreamId::new("lamp", Uuid::from_u128(n as u128 + 1));
        let expected = ExpectedVersion::Exact(versions[n]);
        versions[n] = match store.append(&stream, expected, &several(2)).await {
            Ok(appended) => {
                written += 2;
                appended.version
            }
            Err(AppendError::Conflict { actual, .. }) => {
                conflicts += 1;
                actual
            }
            Err(error) => panic!("{error:?}"),
        };
        tokio::time::sleep(Duration::from_millis(below(pause))).await;
    }
    (written, conflicts)
}
