//! The pages that are kept for those who come later.

use std::{collections::VecDeque, sync::Arc};

use es_core::{Position, RecordedEvent};

use super::{Page, Types};

/// What an event costs beside its content: the record, its metadata, the pointers to it.
const EVENT_BYTES: usize = 512;

pub(super) fn weight(event: &RecordedEvent) -> usize {
    event.event_data.as_str().len() + EVENT_BYTES
}

/// Pages in the order in which they were read; the first goes when there are too many.
pub(super) struct Window {
    pages: VecDeque<Kept>,
    bytes: usize,
    bytes_max: usize,
    page_events: u32,
    /// The weight of an event, by the newest page.
    event_bytes: usize,
}

/// An answer of the store: all events of `types` after `after`, at or before `covered`.
pub(super) struct Kept {
    pub(super) after: Position,
    pub(super) covered: Position,
    pub(super) types: Types,
    pub(super) events: Vec<Arc<RecordedEvent>>,
    /// There were more when it was read.
    pub(super) full: bool,
    pub(super) bytes: usize,
}

impl Window {
    pub(super) fn new(bytes_max: usize, page_events: u32) -> Self {
        Self {
            pages: VecDeque::new(),
            bytes: 0,
            bytes_max,
            page_events,
            event_bytes: EVENT_BYTES,
        }
    }

    /// How many events to read at once, so that several pages fit.
    pub(super) fn page_events(&self) -> u32 {
        let fit = self.bytes_max / 8 / self.event_bytes;
        let fit = u32::try_from(fit).unwrap_or(u32::MAX);
        self.page_events.min(fit).max(1)
    }

    pub(super) fn keep(&mut self, mut page: Kept) {
        if let Some(event_bytes) = page.bytes.checked_div(page.events.len()) {
            self.event_bytes = event_bytes;
        }
        if page.covered <= page.after {
            return;
        }
        // An empty page is not for nothing.
        page.bytes += EVENT_BYTES;
        self.bytes += page.bytes;
        // Live pages have few events each: they would be many.
        match self.pages.iter_mut().find(|last| last.goes_on_with(&page)) {
            Some(last)
                if last.events.len() + page.events.len() <= self.page_events as usize
                    && last.bytes + page.bytes <= self.bytes_max / 8 =>
            {
                last.extend(page);
            }
            _ => self.pages.push_back(page),
        }
        while self.bytes > self.bytes_max {
            self.drop_first();
        }
    }

    /// Whether someone at `at` has passed the first page.
    pub(super) fn begins_before(&self, at: Position) -> bool {
        self.pages.front().is_some_and(|first| first.covered <= at)
    }

    /// Drops the first pages, as far as nobody stands before their end.
    pub(super) fn trim(&mut self, lowest: Option<Position>) {
        while lowest.map_or(!self.pages.is_empty(), |lowest| self.begins_before(lowest)) {
            self.drop_first();
        }
    }

    /// Moves `page` on through all that is kept of `types`, up to `limit` events. Returns how many bytes
    /// were passed.
    pub(super) fn take(&self, types: &Types, page: &mut Page, limit: usize) -> usize {
        let mut passed = 0;
        while page.events.len() < limit {
            let kept = self
                .pages
                .iter()
                .filter(|kept| kept.leads_on(page.covered, types));
            let Some(kept) = kept.max_by_key(|kept| kept.covered) else {
                break;
            };
            passed += kept.take(types, page, limit);
        }
        passed
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.pages.pop_front() {
            self.bytes -= first.bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }
}

impl Kept {
    fn goes_on_with(&self, next: &Self) -> bool {
        self.covered == next.after && self.types == next.types
    }

    fn extend(&mut self, next: Self) {
        self.covered = next.covered;
        self.full = next.full;
        self.bytes += next.bytes;
        self.events.extend(next.events);
    }

    /// Whether it says what comes after `after` of these types.
    fn leads_on(&self, after: Position, types: &Types) -> bool {
        self.after <= after && after < self.covered && types.is_subset(&self.types)
    }

    fn take(&self, types: &Types, page: &mut Page, limit: usize) -> usize {
        let after = page.covered;
        let first = self.events.partition_point(|event| event.position <= after);
        let mut passed = 0;
        for event in &self.events[first..] {
            passed += weight(event);
            if types.contains(&event.event_type) {
                page.events.push(Arc::clone(event));
                if page.events.len() >= limit {
                    page.covered = event.position;
                    page.full = true;
                    return passed;
                }
            }
        }
        page.covered = self.covered;
        page.full = self.full;
        passed
    }
}
