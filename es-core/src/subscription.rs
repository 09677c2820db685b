//! A live stream of events. It stores nothing; with a checkpoint it would be a projection.

use std::{collections::VecDeque, sync::Arc};

use futures::{Stream, stream};

use crate::{EventStore, Filter, Position, ReadError, RecordedEvent};

/// How many events are read ahead.
const PAGE: u32 = 500;

/// Every event after `after` that matches `filter`, in log order, then each new one as it settles.
/// Never ends; after an error it goes on where it was.
///
/// ```
/// use std::sync::Arc;
/// use es_core::{EventStore, ExpectedVersion, Filter, Json, MemoryStore, NewEvent, Position, StreamId, subscribe};
/// use futures::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Arc::new(MemoryStore::new());
/// let mut events = Box::pin(subscribe(store.clone(), Filter::All, Position::START));
///
/// let stream = StreamId::new("lamp", uuid::Uuid::now_v7());
/// let switched = NewEvent::new("switched", Json::parse("{}")?);
/// store.append(&stream, ExpectedVersion::Any, &[switched]).await?;
///
/// let event = events.next().await.expect("it never ends")?;
/// assert_eq!(event.event_type, "switched");
/// # Ok(())
/// # }
/// ```
pub fn subscribe(
    store: Arc<dyn EventStore>,
    filter: Filter,
    after: Position,
) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
    let start = (store, filter, after, VecDeque::new());
    stream::unfold(start, |(store, filter, mut after, mut ahead)| async move {
        loop {
            if let Some(event) = ahead.pop_front() {
                return Some((Ok(event), (store, filter, after, ahead)));
            }
            let page = match store.read_log(&filter, after, PAGE).await {
                Ok(page) => page,
                Err(error) => return Some((Err(error), (store, filter, after, ahead))),
            };
            after = page.covered;
            if page.events.is_empty()
                && let Err(error) = store.wait_for_events(after).await
            {
                return Some((Err(error), (store, filter, after, ahead)));
            }
            ahead.extend(page.events);
        }
    })
}
