//! One reader of the log for all projections of a daemon and their shards.
//!
//! Readers that stand close together share what is read: one page, with the types of all of them, is
//! read once and kept in a window of bounded size until all have passed or newer pages push it out.
//! A reader that stands alone reads for itself, its own types only. So a hundred live projections cost
//! what one costs, and a sparse one that catches up does not read what it does not want.
//!
//! Close together means: less than half a window has been read between them. Whatever is decided about
//! who reads with whom changes only how much is read. What a reader is given is right because a kept
//! page is an answer of the store: all events of some types between two positions, and
//! [`EventStore`] promises that nothing appears there later.
//!
//! What nobody here wants wakes nobody, unless somebody has asked for that position: the readers hear of it
//! some time later, all at once. So a writer pays little for a hundred projections that do not want what it
//! writes.
//!
//! A shared read is a task: it goes on when whoever began it is not polled any more, and the steps on
//! its way wake nobody but itself. It is aborted when nobody is left who wants it.

mod flight;
mod places;
mod reader;
#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use es_core::{EventStore, Filter, Name, Position, ReadError};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::reader::{Page, Reader};
use self::{
    flight::{Flight, Underway},
    places::Places,
    window::{Kept, Window, weight},
};

type Types = HashSet<Name>;

/// How long those who wait are left alone while only foreign events come in.
const FOREIGN: Duration = Duration::from_millis(100);

/// How much is read and kept for those who share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedLimits {
    /// At most this many events in one shared page.
    pub(crate) page_events: u32,
    /// At most this much is kept, whatever the number of readers: the contents of the events and a
    /// constant for each.
    pub(crate) window_bytes: usize,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            page_events: 1000,
            window_bytes: 16 << 20,
        }
    }
}

/// Reads the log of one store for many [`Reader`]s. Belongs on a tokio runtime.
pub(crate) struct Feed<S> {
    store: Arc<S>,
    limits: FeedLimits,
    state: Mutex<State>,
}

struct State {
    places: Places,
    window: Window,
    /// The highest position that any page has covered.
    settled: Position,
    /// Up to here somebody wants to hear of foreign events at once.
    wanted: Position,
    /// Shared reads, at most one at each place.
    reads: Vec<Underway>,
    /// The wait for new events.
    wait: Option<Underway>,
}

impl State {
    /// A reader has come to `at`: what all have passed can go.
    fn trim(&mut self, at: Position) {
        if self.window.begins_before(at) {
            self.window.trim(self.places.lowest());
        }
    }
}

impl<S: EventStore + 'static> Feed<S> {
    pub(crate) fn new(store: Arc<S>, limits: FeedLimits) -> Arc<Self> {
        Arc::new(Self {
            store,
            limits,
            state: Mutex::new(State {
                places: Places::new(limits.window_bytes / 4),
                window: Window::new(limits.window_bytes, limits.page_events),
                settled: Position::START,
                wanted: Position::START,
                reads: Vec::new(),
                wait: None,
            }),
        })
    }

    /// A reader of these types. It counts for others from its first call to its drop.
    pub(crate) fn reader<N: Into<Name>>(
        self: &Arc<Self>,
        event_types: impl IntoIterator<Item = N>,
    ) -> Reader<S> {
        let types: Arc<Types> = Arc::new(event_types.into_iter().map(Into::into).collect());
        let id = self.state().places.enter(Arc::clone(&types));
        Reader::new(Arc::clone(self), id, types)
    }

    /// The settled horizon, as far as it is known here.
    pub(crate) fn settled(&self) -> Position {
        self.state().settled
    }

    /// Somebody waits for everybody to have come to `position`.
    pub(crate) fn want(&self, position: Position) {
        let mut state = self.state();
        state.wanted = state.wanted.max(position);
    }

    /// The read at `after` that is under way, or a new one for all who stand there.
    fn read_together(self: &Arc<Self>, state: &mut State, after: Position) -> Flight {
        state.reads.retain(|read| read.flight().is_some());
        let at_place = state.reads.iter().find(|read| read.after == after);
        if let Some(flight) = at_place.and_then(Underway::flight) {
            return flight;
        }
        let (feed, types) = (Arc::clone(self), state.places.types_at(after));
        let flight = flight::start(async move { Ok(feed.read(types, after).await?.0) });
        state.reads.extend(Underway::new(after, &flight));
        flight
    }

    /// A wait for events after `after` that is under way, or a new one. It brings the events along, so
    /// that those who wake up find them.
    fn wait_together(self: &Arc<Self>, state: &mut State, after: Position) -> Flight {
        // One that waits for a lower position ends sooner. It could not stand in if it waited for a
        // higher one.
        let lower = state.wait.as_ref().filter(|wait| wait.after <= after);
        if let Some(flight) = lower.and_then(Underway::flight) {
            return flight;
        }
        let feed = Arc::clone(self);
        let flight = flight::start(async move { feed.wait_for_wanted(after).await });
        state.wait = Underway::new(after, &flight);
        flight
    }

    /// Reads what comes after `after` until there is something that one who waits wants.
    async fn wait_for_wanted(&self, after: Position) -> Result<Position, ReadError> {
        let (mut at, mut end) = (after, None);
        loop {
            let events = self.store.wait_for_events(at);
            match end {
                None => events.await?,
                Some(end) => match timeout_at(end, events).await {
                    Ok(come) => come?,
                    Err(_) => return Ok(at),
                },
            }
            // Only now: meanwhile others may have come, or have gone further by themselves.
            let types = self.state().places.types_from(after);
            let (covered, found) = self.read(types, at).await?;
            if found || (covered > at && self.state().wanted > after) {
                return Ok(covered);
            }
            if covered > at {
                at = covered;
                let end = *end.get_or_insert_with(|| Instant::now() + FOREIGN);
                if Instant::now() >= end {
                    return Ok(at);
                }
            }
        }
    }

    /// Reads a page and keeps it. How far it came, and whether there was anything on it.
    async fn read(&self, types: Types, after: Position) -> Result<(Position, bool), ReadError> {
        let limit = self.state().window.page_events();
        let filter = Filter::EventTypes(types.iter().cloned().collect());
        let page = self.store.read_log(&filter, after, limit).await?;
        let (covered, found) = (page.covered, !page.events.is_empty());
        let kept = Kept {
            after,
            covered,
            full: page.events.len() >= limit as usize,
            bytes: page.events.iter().map(weight).sum(),
            events: page.events.into_iter().map(Arc::new).collect(),
            types,
        };
        let mut state = self.state();
        state.settled = state.settled.max(covered);
        state.window.keep(kept);
        Ok((covered, found))
    }
}

impl<S> Feed<S> {
    /// A panic elsewhere leaves at worst a window that lacks a page.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
