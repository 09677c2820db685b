//! The settled horizon: up to which position nothing can appear late.
//!
//! A position is drawn when a row is inserted and seen when its transaction commits, so a reader of
//! positions alone would step over a slow writer. Postgres takes a `RowExclusiveLock` on the table
//! before the position is drawn and keeps it until the transaction is visible or gone. So:
//!
//! - Positions without a hole below them are settled.
//! - A hole is decided when every transaction that held the lock when the hole was seen has ended.
//!
//! Nothing is decided by the clock, and idle sessions, dumps and long reports do not matter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use es_core::ReadError;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Mutex;

use super::read::{alive, failed};

/// Above this many new rows the search for holes is left out, and the locks alone decide.
const WINDOW: i64 = 5_000;

/// Waiting samples; more would only settle in finer steps.
const SAMPLES_MAX: usize = 256;

/// From here on a writer that holds the horizon back is worth a line in the log.
const SLOW: Duration = Duration::from_secs(5);

/// One statement: `high` is from its snapshot, and the locks are looked at after that. Every position
/// at or below `high` was drawn by a transaction that is visible, aborted, in `writers`, or ended in
/// between. `OFFSET 0` keeps the planner from moving the look at the locks forward.
pub(super) fn sql(schema: &str) -> String {
    format!(
        "SELECT q.high, q.prefix,
                CASE WHEN q.prefix = q.high THEN '{{}}'::text[] ELSE array(
                  SELECT DISTINCT l.virtualtransaction FROM pg_locks l
                   WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND l.relation IN (SELECT relid FROM pg_partition_tree('{schema}.events'::regclass)
                                        UNION ALL SELECT '{schema}.events'::regclass)
                     AND l.pid IS DISTINCT FROM pg_backend_pid()) END AS writers
           FROM (SELECT h.high,
                   CASE WHEN h.high - $1 <= {WINDOW} THEN
                     (SELECT coalesce(max(position) FILTER (WHERE position - rn = $1), $1)
                        FROM (SELECT position, row_number() OVER (ORDER BY position) AS rn
                                FROM {schema}.events
                               WHERE position > $1 AND position <= h.high) w)
                   ELSE $1 END AS prefix
                 FROM (SELECT coalesce(max(position), 0) AS high FROM {schema}.events) h
                 OFFSET 0) q"
    )
}

/// The horizon of a store. It looks only when asked, and callers who come together share one look.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// How often it was asked.
    asked: AtomicU64,
    state: Mutex<State>,
}

impl Horizon {
    /// The settled position by a look that began after this call. The look is a task of its own: others
    /// wait for it, and whoever asked may not be polled any more.
    pub(super) async fn look(
        self: &Arc<Self>,
        pool: &PgPool,
        sql: &Arc<str>,
    ) -> Result<i64, ReadError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst);
        let (horizon, pool, sql) = (Arc::clone(self), pool.clone(), Arc::clone(sql));
        let looking = tokio::spawn(async move { horizon.answer(ticket, &pool, sql).await });
        match looking.await {
            Ok(settled) => settled,
            Err(stopped) => Err(failed(
                "the end of the log",
                std::io::Error::other(stopped).into(),
            )),
        }
    }

    async fn answer(&self, ticket: u64, pool: &PgPool, sql: Arc<str>) -> Result<i64, ReadError> {
        let mut state = self.state.lock().await;
        if ticket < state.answered {
            return Ok(state.settled);
        }
        // Whoever has a ticket below this one asked before the look begins.
        let answers = self.asked.load(Ordering::SeqCst);
        let known = state.settled;
        let look = || {
            sqlx::query_as(AssertSqlSafe(Arc::clone(&sql)))
                .bind(known)
                .fetch_one(pool)
        };
        let (high, prefix, writers): (i64, i64, Vec<String>) = alive(look)
            .await
            .map_err(|error| failed("the end of the log", error))?;
        let settled = state.learn(high, prefix, &writers);
        state.answered = answers;
        state.complain();
        Ok(settled)
    }

    /// Whether a hole is being waited for.
    pub(super) async fn is_waiting(&self) -> bool {
        !self.state.lock().await.samples.is_empty()
    }

    /// Who has been waited for longest, by virtual transaction, and how long by now.
    pub(super) async fn held_by(&self) -> Option<(Vec<String>, Duration)> {
        let state = self.state.lock().await;
        let oldest = state.samples.first()?;
        Some((oldest.writers.clone(), oldest.since.elapsed()))
    }
}

/// What is known so far. It may be thrown away at any time: the next looks find it again.
#[derive(Debug, Default)]
struct State {
    settled: i64,
    samples: Vec<Sample>,
    /// Callers with a ticket below this have their answer in `settled`.
    answered: u64,
    complained: Option<Instant>,
}

/// Up to `high` everything is decided once these writers have ended.
#[derive(Debug)]
struct Sample {
    high: i64,
    writers: Vec<String>,
    since: Instant,
}

impl State {
    /// Nothing is skipped for being slow, but somebody should know.
    fn complain(&mut self) {
        let Some(oldest) = self.samples.first() else {
            self.complained = None;
            return;
        };
        let recently = self
            .complained
            .is_some_and(|last| last.elapsed() < SLOW * 6);
        if oldest.since.elapsed() < SLOW || recently {
            return;
        }
        self.complained = Some(Instant::now());
        tracing::warn!(
            settled = self.settled,
            virtual_transactions = ?oldest.writers,
            "readers wait for transactions that write events and have not ended; find them in \
             pg_locks by virtualtransaction; idle_in_transaction_session_timeout would end them"
        );
    }

    fn learn(&mut self, high: i64, prefix: i64, writers: &[String]) -> i64 {
        self.settled = self.settled.max(prefix);
        if self.settled >= high || writers.is_empty() {
            self.settled = self.settled.max(high);
            self.samples.clear();
            return self.settled;
        }
        for sample in &mut self.samples {
            // After a restart a prepared transaction goes by another name: "-1/…" may be anyone.
            let renamed = writers.iter().filter(|writer| writer.starts_with("-1/"));
            let mut left: Vec<String> = renamed.cloned().collect();
            left.extend(
                sample
                    .writers
                    .drain(..)
                    .filter(|writer| writers.contains(writer) && !writer.starts_with("-1/")),
            );
            sample.writers = left;
        }
        let ended = self
            .samples
            .iter()
            .rposition(|sample| sample.writers.is_empty());
        if let Some(last) = ended {
            self.settled = self.settled.max(self.samples[last].high);
        }
        let settled = self.settled;
        self.samples.retain(|sample| sample.high > settled);
        let newest = self.samples.last().map_or(settled, |sample| sample.high);
        if high > newest && self.samples.len() < SAMPLES_MAX {
            self.samples.push(Sample {
                high,
                writers: writers.to_vec(),
                since: Instant::now(),
            });
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn without_holes_all_is_settled_at_once() {
        let mut state = State::default();
        assert_eq!(state.learn(7, 7, &[]), 7);
    }

    #[test]
    fn a_hole_waits_for_those_who_could_fill_it() {
        let mut state = State::default();
        assert_eq!(state.learn(5, 2, &writers(&["3/1", "4/1"])), 2);
        assert_eq!(state.learn(5, 2, &writers(&["4/1"])), 2);
        assert_eq!(state.learn(9, 2, &writers(&["5/1"])), 5);
        assert_eq!(state.samples.len(), 1);
        assert_eq!(state.learn(9, 5, &[]), 9);
    }

    #[test]
    fn those_who_came_later_do_not_hold_it() {
        let mut state = State::default();
        state.learn(5, 2, &writers(&["3/1"]));
        assert_eq!(state.learn(8, 2, &writers(&["6/1"])), 5);
    }

    #[test]
    fn a_filled_hole_settles_without_waiting() {
        let mut state = State::default();
        state.learn(5, 2, &writers(&["3/1"]));
        assert_eq!(state.learn(5, 5, &writers(&["3/1"])), 5);
    }

    #[test]
    fn a_prepared_transaction_holds_under_its_new_name() {
        let mut state = State::default();
        state.learn(5, 2, &writers(&["3/1"]));
        assert_eq!(state.learn(5, 2, &writers(&["-1/77"])), 2);
        assert_eq!(state.learn(5, 2, &[]), 5);
    }

    #[test]
    fn samples_are_bounded() {
        let mut state = State::default();
        for high in 1..10_000 {
            state.learn(high, 0, &writers(&["3/1"]));
        }
        assert!(state.samples.len() <= SAMPLES_MAX);
    }
}
