//! One projection's, or shard's, way through the log.

use std::{fmt, sync::Arc};

use es_core::{EventStore, Filter, Position, ReadError, RecordedEvent};

use super::{
    Feed, Types,
    flight::{Flight, shared},
    window::weight,
};

/// A call of [`Reader::next`] goes through at most this many shared reads, so that one who wants few
/// events among many hears how far it has come.
const READS_MAX: u32 = 16;

/// After so many shared reads that did not help, a reader reads alone. The first may have been under way
/// without its types; the second fails it only if the page did not stay in the window.
const MISSES_MAX: u32 = 2;

/// Reads the events of some types.
pub(crate) struct Reader<S> {
    feed: Arc<Feed<S>>,
    id: u64,
    types: Arc<Types>,
    filter: Filter,
}

/// A page of the log, for one reader.
#[derive(Debug)]
pub(crate) struct Page {
    /// The reader's events, in log order. Others may hold the same: `Arc::unwrap_or_clone` copies them
    /// only then.
    pub(crate) events: Vec<Arc<RecordedEvent>>,
    /// Everything at or before it has been considered: the next `after`. Never above the settled
    /// horizon.
    pub(crate) covered: Position,
    /// There may be more right now. Otherwise [`Reader::wait`], which also finds what has come since.
    pub(crate) full: bool,
}

impl<S: EventStore + 'static> Reader<S> {
    pub(super) fn new(feed: Arc<Feed<S>>, id: u64, types: Arc<Types>) -> Self {
        Self {
            feed,
            id,
            filter: Filter::EventTypes(types.iter().cloned().collect()),
            types,
        }
    }

    /// At most `limit` events after `after`, in order. The future may be dropped at any await, and
    /// `after` may be any position, also one that was asked for before.
    ///
    /// # Errors
    ///
    /// What the store said to this reader or to one that asked for the same. The next call asks again.
    pub(crate) async fn next(&mut self, after: Position, limit: u32) -> Result<Page, ReadError> {
        let limit = limit.max(1) as usize;
        let mut page = Page {
            events: Vec::new(),
            covered: after,
            full: true,
        };
        let (mut reads, mut misses) = (0, 0);
        loop {
            let moved = self.take(&mut page, limit);
            let enough = page.events.len() >= limit || !page.full;
            if enough || (reads >= READS_MAX && page.covered > after) {
                break;
            }
            if moved {
                misses = 0;
            }
            let flight = match misses < MISSES_MAX {
                true => self.join(page.covered),
                false => None,
            };
            let Some(flight) = flight else {
                self.read_alone(&mut page, limit, after).await?;
                break;
            };
            reads += 1;
            misses += 1;
            match flight.await {
                Ok(covered) if covered > page.covered => {}
                Ok(_) => {
                    page.full = false;
                    break;
                }
                // What there is first. The next call will hear of it if it lasts.
                Err(_) if page.covered > after => break,
                Err(error) => return Err(shared(&error)),
            }
        }
        page.full |= page.covered < self.feed.settled();
        Ok(page)
    }

    /// Waits until the log may have settled events after `after` that are wanted here; of what nobody wants it
    /// hears some time later, or at once up to where somebody [wants](Feed::want) to.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub(crate) async fn wait(&self, after: Position) -> Result<(), ReadError> {
        loop {
            let flight = {
                let mut state = self.feed.state();
                if state.settled > after {
                    return Ok(());
                }
                state.places.stand(self.id, after);
                self.feed.wait_together(&mut state, after)
            };
            flight.await.map_err(|error| shared(&error))?;
        }
    }

    /// Goes on through what is kept. Whether that helped.
    fn take(&self, page: &mut Page, limit: usize) -> bool {
        let before = page.covered;
        let mut state = self.feed.state();
        state.places.stand(self.id, before);
        let passed = state.window.take(&self.types, page, limit);
        state.places.advance(self.id, page.covered, passed);
        state.trim(page.covered);
        page.covered > before
    }

    /// `None` if nobody else would want what is read here.
    fn join(&self, after: Position) -> Option<Flight> {
        let mut state = self.feed.state();
        let alone = state.places.is_alone(self.id, after);
        (!alone).then(|| self.feed.read_together(&mut state, after))
    }

    /// Fills the page with one read of this reader's own types.
    async fn read_alone(
        &self,
        page: &mut Page,
        limit: usize,
        after: Position,
    ) -> Result<(), ReadError> {
        let missing = u32::try_from(limit - page.events.len()).unwrap_or(u32::MAX);
        let read = self
            .feed
            .store
            .read_log(&self.filter, page.covered, missing);
        let read = match read.await {
            Ok(read) => read,
            Err(_) if page.covered > after => return Ok(()),
            Err(error) => return Err(error),
        };
        page.covered = read.covered;
        page.full = read.events.len() >= missing as usize;
        let passed = read.events.iter().map(weight).sum();
        page.events.extend(read.events.into_iter().map(Arc::new));

        let mut state = self.feed.state();
        state.settled = state.settled.max(page.covered);
        state.places.advance(self.id, page.covered, passed);
        state.trim(page.covered);
        Ok(())
    }
}

impl<S> Drop for Reader<S> {
    fn drop(&mut self) {
        let mut state = self.feed.state();
        state.places.leave(self.id);
        state.trim(Position::new(u64::MAX));
    }
}

impl<S> fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("types", &self.types)
            .finish_non_exhaustive()
    }
}
