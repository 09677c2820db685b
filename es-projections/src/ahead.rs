//! The next page: read and sorted while the one in hand is applied.

use std::sync::Arc;

use es_core::{EventSet, EventStore, Position};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::Problem,
    feed::{Feed, Reader},
    work::{Sorter, Work},
};

/// What a fetch gives back: the reader, and what it has read.
type Fetched<S, E> = (Reader<S>, Sorter, Result<Work<E>, Problem>);

/// Reads pages and sorts them, in a task of its own, so that reading and decoding run beside applying.
pub(crate) struct Pages<S, E> {
    feed: Arc<Feed<S>>,
    reader: Option<Reader<S>>,
    ahead: Option<Ahead<S, E>>,
}

struct Ahead<S, E> {
    after: Position,
    task: AbortOnDropHandle<Fetched<S, E>>,
}

impl<S: EventStore + 'static, E: EventSet + 'static> Pages<S, E> {
    pub(crate) fn new(feed: Arc<Feed<S>>) -> Self {
        Self {
            feed,
            reader: None,
            ahead: None,
        }
    }

    /// Begins to read what comes after `after`.
    pub(crate) fn begin(&mut self, after: Position, limit: u32, sorter: &Sorter) {
        let mut reader = self.reader();
        let mut sorter = sorter.clone();
        let task = tokio::spawn(async move {
            let page = reader.next(after, limit).await;
            let work = page
                .map(|page| sorter.sort(page, after))
                .map_err(Problem::from);
            (reader, sorter, work)
        });
        let task = AbortOnDropHandle::new(task);
        self.ahead = Some(Ahead { after, task });
    }

    /// What was begun is of no use any more.
    pub(crate) fn forget(&mut self) {
        self.ahead = None;
    }

    /// What comes after `after`: begun already, or read now. The sorter has learnt which aggregates the
    /// page parks. Safe to drop; the page is then read again.
    pub(crate) async fn next(
        &mut self,
        after: Position,
        limit: u32,
        sorter: &mut Sorter,
    ) -> Result<Work<E>, Problem> {
        if self.ahead.as_ref().is_none_or(|ahead| ahead.after != after) {
            self.begin(after, limit, sorter);
        }
        let Some(ahead) = &mut self.ahead else {
            return Err(Problem::Unavailable("nothing was read".to_owned()));
        };
        let fetched = (&mut ahead.task).await;
        self.ahead = None;
        match fetched {
            Ok((reader, learnt, work)) => {
                self.reader = Some(reader);
                *sorter = learnt;
                work
            }
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(stopped) => Err(Problem::Unavailable(stopped.to_string())),
            },
        }
    }

    /// Waits until there may be more. If somebody has asked for a later position, also for foreign events.
    pub(crate) async fn wait(&mut self, after: Position, asked: Position) -> Result<(), Problem> {
        if asked > after {
            self.feed.want(asked);
        }
        let reader = self.reader();
        // Kept also if this future is dropped.
        let reader = self.reader.insert(reader);
        Ok(reader.wait(after).await?)
    }

    fn reader(&mut self) -> Reader<S> {
        let types = || E::EVENT_TYPES.iter().map(|event| event.name);
        self.reader
            .take()
            .unwrap_or_else(|| self.feed.reader(types()))
    }
}
