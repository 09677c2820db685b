//! What this process knows of its nodes and batches while the write lock is taken.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use es_core::{Claim, Fleet, Node, Shard, Standing};
use sqlx::{SqliteConnection, types::Json};
use uuid::Uuid;

use crate::sqlite::row::now;

const ANNOUNCE: &str = concat!(
    "INSERT INTO projection_nodes (node, name, runs, alive_until) VALUES (?1, ?2, ?3, ",
    now!(),
    " + ?4) ON CONFLICT (node) DO UPDATE SET name = excluded.name, runs = excluded.runs,
     alive_until = excluded.alive_until"
);
const LEAVE: &str = "DELETE FROM projection_nodes WHERE node = ?1";

/// News of nodes that could not be written at once, and the batch that may be the reason.
#[derive(Debug, Default)]
pub(in crate::sqlite) struct Leases {
    /// The next transaction of this process that ends writes them, whether it is committed or not. One
    /// of each node.
    waiting: Mutex<Vec<News>>,
    /// Of one writer's connection there is one batch at most.
    at_work: Mutex<Weak<AtWork>>,
}

/// That a node is alive, or that it is gone.
#[derive(Debug, Clone)]
struct News {
    node: Uuid,
    alive: Option<(Node, Duration)>,
    made: Instant,
}

impl News {
    /// For how long the node has still to live.
    fn alive(&self) -> Option<(&Node, Duration)> {
        let (node, ttl) = self.alive.as_ref()?;
        Some((node, ttl.saturating_sub(self.made.elapsed())))
    }
}

/// News that are in a transaction.
pub(in crate::sqlite) struct Written(Vec<(Uuid, Instant)>);

/// A batch or a change that is open.
#[derive(Debug)]
pub(super) struct AtWork {
    /// The shard whose checkpoint it moves, and for whom.
    batch: Option<(Shard, Uuid)>,
    /// What was committed when it began, where nobody can read that now.
    committed: Option<Committed>,
}

/// Who had announced himself, and where everything stood, be the owners alive or not.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub(super) nodes: Vec<(Node, Duration)>,
    pub(super) standings: Vec<Standing>,
    pub(super) read: Instant,
}

impl Leases {
    /// Whether there is anything to write.
    pub(in crate::sqlite) fn is_waiting(&self) -> bool {
        !self.waiting().is_empty()
    }

    pub(in crate::sqlite) async fn write(
        &self,
        db: &mut SqliteConnection,
    ) -> Result<Written, sqlx::Error> {
        let waiting = self.waiting().clone();
        for news in &waiting {
            write(db, news).await?;
        }
        let written = waiting.iter().map(|news| (news.node, news.made));
        Ok(Written(written.collect()))
    }

    /// Once it is committed.
    pub(in crate::sqlite) fn forget(&self, Written(written): &Written) {
        self.waiting()
            .retain(|news| !written.contains(&(news.node, news.made)));
    }

    pub(super) fn announce(&self, node: &Node, ttl: Duration) {
        self.add(node.id, Some((node.clone(), ttl)));
    }

    pub(super) fn say_farewell(&self, node: Uuid) {
        self.add(node, None);
    }

    fn add(&self, node: Uuid, alive: Option<(Node, Duration)>) {
        let mut waiting = self.waiting();
        waiting.retain(|news| news.node != node);
        waiting.push(News {
            node,
            alive,
            made: Instant::now(),
        });
    }

    /// With the news that wait.
    pub(super) fn bring_up_to_date(&self, mut committed: Committed) -> Fleet {
        let age = committed.read.elapsed();
        for (_, rest) in &mut committed.nodes {
            *rest = rest.saturating_sub(age);
        }
        for news in &*self.waiting() {
            committed.nodes.retain(|(node, _)| node.id != news.node);
            if let Some((node, rest)) = news.alive() {
                committed.nodes.push((node.clone(), rest));
            }
        }
        committed.nodes.retain(|(_, rest)| !rest.is_zero());
        committed.nodes.sort_unstable_by_key(|(node, _)| node.id);
        committed.into_fleet()
    }

    pub(super) fn begin_work(
        &self,
        claim: Option<&Claim>,
        committed: Option<Committed>,
    ) -> Arc<AtWork> {
        let at_work = Arc::new(AtWork {
            batch: claim.map(|claim| (claim.shard.clone(), claim.owner)),
            committed,
        });
        *self.at_work() = Arc::downgrade(&at_work);
        at_work
    }

    /// Who has a batch of this shard open, in this process.
    pub(super) fn holder(&self, shard: &Shard) -> Option<Uuid> {
        let at_work = self.at_work().upgrade()?;
        let (of, owner) = at_work.batch.as_ref()?;
        (of == shard).then_some(*owner)
    }

    /// What was committed before the batch that is open.
    pub(super) fn committed(&self) -> Option<Committed> {
        self.at_work().upgrade()?.committed.clone()
    }

    // Nothing in between could panic.
    fn waiting(&self) -> MutexGuard<'_, Vec<News>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_work(&self) -> MutexGuard<'_, Weak<AtWork>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Committed {
    /// What a node that is dead owns, nobody owns.
    pub(super) fn into_fleet(mut self) -> Fleet {
        for standing in &mut self.standings {
            let is_alive = |owner: &Uuid| self.nodes.iter().any(|(node, _)| node.id == *owner);
            standing.owner = standing.owner.filter(is_alive);
        }
        Fleet {
            nodes: self.nodes,
            standings: self.standings,
        }
    }
}

async fn write(db: &mut SqliteConnection, news: &News) -> Result<(), sqlx::Error> {
    let query = match news.alive() {
        Some((node, rest)) => {
            let runs: Vec<_> = node.runs.iter().map(|id| (&id.name, id.version)).collect();
            sqlx::query(ANNOUNCE)
                .bind(node.id)
                .bind(&node.name)
                .bind(Json(runs))
                .bind(millis(rest))
        }
        None => sqlx::query(LEAVE).bind(news.node),
    };
    query.execute(db).await.map(drop)
}

/// At most half of what SQLite's integers hold, so that it can be added to the time.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX)
        .min(i64::MAX / 2)
}
