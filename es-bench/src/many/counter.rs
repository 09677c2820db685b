//! Projections that each count all events, in a table of their own.

use es_core::{BoxError, Project, Projection, ProjectionStore, Recorded};
use es_projections::Daemon;
use es_sqlx::rows::RunSql;
use sqlx::AssertSqlSafe;

use crate::rooms::RoomOccupancyEvent;

pub(super) const MOST: usize = 100;

/// Adds the first `number` of them.
pub(super) fn with_counters<S>(mut daemon: Daemon<S>, number: usize) -> Daemon<S>
where
    S: ProjectionStore + 'static,
    S::Connection: RunSql,
{
    // A projection's name is a constant of its type: these are a hundred types.
    macro_rules! run {
        ($($index:literal)*) => {
            $(if $index < number {
                daemon = daemon.run(Counter::<$index>);
            })*
        };
    }
    run! {
        0 1 2 3 4 5 6 7 8 9
        10 11 12 13 14 15 16 17 18 19
        20 21 22 23 24 25 26 27 28 29
        30 31 32 33 34 35 36 37 38 39
        40 41 42 43 44 45 46 47 48 49
        50 51 52 53 54 55 56 57 58 59
        60 61 62 63 64 65 66 67 68 69
        70 71 72 73 74 75 76 77 78 79
        80 81 82 83 84 85 86 87 88 89
        90 91 92 93 94 95 96 97 98 99
    }
    daemon
}

pub(super) fn table(number: usize) -> String {
    format!("counter_{number:02}")
}

struct Counter<const N: usize>;

impl<const N: usize> Counter<N> {
    const DIGITS: [u8; 2] = [b"0123456789"[N / 10], b"0123456789"[N % 10]];
}

impl<const N: usize> Projection for Counter<N> {
    const NAME: &'static str = match str::from_utf8(&Self::DIGITS) {
        Ok(digits) => digits,
        Err(_) => panic!("digits are text"),
    };
    type Event = RoomOccupancyEvent;
}

impl<C: RunSql, const N: usize> Project<C> for Counter<N> {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        let table = table(N);
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {table} (events BIGINT NOT NULL);
             INSERT INTO {table} SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM {table})"
        );
        Ok(db.run(AssertSqlSafe(create)).await?)
    }

    async fn project(
        &self,
        db: &mut C,
        events: &[Recorded<RoomOccupancyEvent>],
    ) -> Result<(), BoxError> {
        let (table, more) = (table(N), events.len());
        let count = format!("UPDATE {table} SET events = events + {more}");
        Ok(db.run(AssertSqlSafe(count)).await?)
    }
}
