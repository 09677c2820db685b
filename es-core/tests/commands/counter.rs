//! An aggregate on which an event applied twice, left out or too early shows.

use es_core::{Aggregate, Apply, Event, Repository, Start};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::watched::Watched;

#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub(crate) struct Opened {
    pub(crate) limit: u32,
}

#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub(crate) struct Counted {
    pub(crate) by: u32,
}

#[derive(Event, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub(crate) struct LimitSet {
    pub(crate) limit: u32,
}

#[derive(Aggregate, Serialize, Deserialize, Debug, PartialEq)]
#[aggregate(starts(Opened), events(Counted, LimitSet))]
pub(crate) struct Counter {
    pub(crate) limit: u32,
    pub(crate) total: u32,
    /// In their order.
    pub(crate) steps: Vec<u32>,
}

impl Start<Opened> for Counter {
    fn start(event: &Opened) -> Self {
        Self {
            limit: event.limit,
            total: 0,
            steps: Vec::new(),
        }
    }
}

impl Apply<Counted> for Counter {
    fn apply(&mut self, event: &Counted) {
        self.total = self.total.checked_add(event.by).expect("a total in range");
        self.steps.push(event.by);
    }
}

impl Apply<LimitSet> for Counter {
    fn apply(&mut self, event: &LimitSet) {
        self.limit = event.limit;
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Full;

impl Counter {
    pub(crate) fn count(&self, by: u32) -> Result<Counted, Full> {
        if self.total + by > self.limit {
            return Err(Full);
        }
        Ok(Counted { by })
    }

    /// Nothing, if it is so already.
    pub(crate) fn set_limit(&self, limit: u32) -> Result<Option<LimitSet>, Full> {
        Ok((self.limit != limit).then_some(LimitSet { limit }))
    }
}

/// A counter up to `limit` that has counted to 2, is kept in memory by the repository returned, and
/// whose store counts from here.
pub(crate) async fn hot(store: &Watched, limit: u32) -> (Repository<Counter>, Uuid) {
    let counters = Repository::<Counter>::new(store.clone());
    let id = Uuid::now_v7();
    counters.create(id, Opened { limit }).await.unwrap();
    for _ in 0..2 {
        counters.update(id, |c| c.count(1)).await.unwrap();
    }
    store.forget();
    (counters, id)
}

/// A repository as another process has one: it shares nothing but the store.
pub(crate) fn elsewhere(store: &Watched) -> Repository<Counter> {
    Repository::new(store.unwatched())
}
