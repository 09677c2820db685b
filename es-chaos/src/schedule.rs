//! What happens next, decided by the seed alone.

use std::time::Duration;

use es_core::StreamId;
use fastrand::Rng;

use crate::{
    account::accounts,
    args::Backend,
    projections::{FOLDED, ORACLE, SHARDED},
};

/// Something that is done to the system.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    KillDaemon(usize),
    KillWriter(usize),
    FreezeDaemon(usize, Duration),
    FreezeWriter(usize, Duration),
    DrainDaemon(usize),
    /// A daemon is restarted with one more version of the oracle, and perhaps killed soon.
    NewVersion {
        daemon: usize,
        kill_after: Option<Duration>,
    },
    /// An old version of the oracle comes back: the `nth` of those that are retired.
    WayBack {
        nth: usize,
    },
    Pause(&'static str, Duration),
    Divide(&'static str, u32),
    /// Back to so many thousandths of where it is.
    Rewind {
        permille: u64,
    },
    Reset,
    RebuildAggregate(&'static str, StreamId),
    /// Handlers fail at some aggregates for a while.
    Poison(Vec<StreamId>, Duration),
    /// Of so many sessions of the server, chosen by `salt`.
    EndSessions {
        count: u32,
        salt: u32,
    },
    CrashServer(Duration),
    Checkpoint,
}

/// The source of all acts.
pub(crate) struct Schedule {
    rng: Rng,
    /// Of processes, which start when they may: the acts do not depend on when that is.
    processes: Rng,
    backend: Backend,
    streams: Vec<StreamId>,
}

const DAEMONS: usize = 3;
const WRITERS: usize = 2;

impl Schedule {
    pub(crate) const DAEMONS: usize = DAEMONS;
    pub(crate) const WRITERS: usize = WRITERS;

    pub(crate) fn new(seed: u64, backend: Backend) -> Self {
        // Not the numbers that the aggregates' ids are made of.
        let mut rng = Rng::with_seed(!seed);
        Self {
            processes: rng.fork(),
            rng,
            backend,
            streams: accounts(seed),
        }
    }

    /// For a process that is about to start.
    pub(crate) fn seed(&mut self) -> u64 {
        self.processes.u64(..)
    }

    /// How long something that died stays dead.
    pub(crate) fn absence(&mut self) -> Duration {
        Duration::from_millis(self.processes.u64(..=1_500))
    }

    /// How long until the next act.
    pub(crate) fn pause(&mut self) -> Duration {
        self.between(50, 900)
    }

    pub(crate) fn act(&mut self) -> Act {
        let daemon = self.rng.usize(..DAEMONS);
        let writer = self.rng.usize(..WRITERS);
        match self.rng.u8(..100) {
            0..16 => Act::KillDaemon(daemon),
            16..21 => Act::KillWriter(writer),
            21..29 => Act::FreezeDaemon(daemon, self.between(2_000, 4_000)),
            29..31 => Act::FreezeWriter(writer, self.between(500, 2_000)),
            31..38 => Act::DrainDaemon(daemon),
            38..44 => Act::NewVersion {
                daemon,
                kill_after: self.rng.bool().then(|| self.between(100, 1_500)),
            },
            44..50 => Act::WayBack {
                nth: self.rng.usize(..4),
            },
            50..56 => Act::Pause(self.projection(), self.between(200, 2_000)),
            56..64 => Act::Divide(SHARDED, self.shards(&[1, 2, 3, 4, 5])),
            64..67 => Act::Divide(ORACLE, self.shards(&[1, 1, 2, 3])),
            67..70 => Act::Divide(FOLDED, self.shards(&[1, 2])),
            70..75 => Act::Rewind {
                permille: self.rng.u64(..1000),
            },
            75..77 => Act::Reset,
            77..82 => Act::RebuildAggregate(self.projection(), self.stream()),
            82..88 => {
                let poisoned = (0..self.rng.usize(1..=3)).map(|_| self.stream()).collect();
                Act::Poison(poisoned, self.between(500, 5_000))
            }
            88..90 => Act::Checkpoint,
            90.. => self.database(),
        }
    }

    fn database(&mut self) -> Act {
        match (self.backend, self.rng.u8(..5)) {
            (Backend::Sqlite, _) => Act::Checkpoint,
            (Backend::Postgres, 0) => Act::CrashServer(self.between(0, 1_500)),
            (Backend::Postgres, _) => Act::EndSessions {
                count: self.rng.u32(1..=6),
                salt: self.rng.u32(..1_000_000),
            },
        }
    }

    fn shards(&mut self, among: &[u32]) -> u32 {
        among[self.rng.usize(..among.len())]
    }

    fn projection(&mut self) -> &'static str {
        [ORACLE, SHARDED, FOLDED][self.rng.usize(..3)]
    }

    fn stream(&mut self) -> StreamId {
        self.streams[self.rng.usize(..self.streams.len())].clone()
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from..=to))
    }
}
