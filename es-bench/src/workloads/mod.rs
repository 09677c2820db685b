//! The workloads with two sides that can do the same. W6 is in `replay`, W7 in `live`.

pub(crate) mod append;
pub(crate) mod command;
pub(crate) mod contention;
pub(crate) mod rehydrate;

use std::{sync::Arc, time::Duration};

use crate::{
    backend::Backend,
    measure::Round,
    side::{Result, Side},
    table::whole,
};

/// What is measured, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Appends of `batch` events by `tasks` writers, each on streams of its own.
    Append { tasks: usize, batch: u32 },
    /// Commands on streams of about `length` events.
    Command { length: u32 },
    /// Rehydrating a stream of `length` events.
    Rehydrate { length: u32 },
    /// Commands of `tasks` callers on one aggregate.
    Contention { tasks: usize },
}

pub(crate) const ALL: [Workload; 7] = [
    Workload::Append { tasks: 1, batch: 1 },
    Workload::Append {
        tasks: 16,
        batch: 1,
    },
    Workload::Append {
        tasks: 1,
        batch: 100,
    },
    Workload::Command { length: 10 },
    Workload::Command { length: 1_000 },
    Workload::Rehydrate { length: 10_000 },
    Workload::Contention { tasks: 16 },
];

impl Workload {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Append { batch: 100, .. } => "W3",
            Self::Append { tasks: 1, .. } => "W1",
            Self::Append { .. } => "W2",
            Self::Command { .. } => "W4",
            Self::Rehydrate { .. } => "W5",
            Self::Contention { .. } => "W8",
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Append { tasks: 1, batch: 1 } => "append 1 event, one writer".to_owned(),
            Self::Append { tasks, batch: 1 } => format!("append 1 event, {tasks} tasks"),
            Self::Append { batch, .. } => format!("append {batch} events (events/s)"),
            Self::Command { length } => format!("command, stream of {}", whole(length)),
            Self::Rehydrate { length } => format!("rehydrate {} events (events/s)", whole(length)),
            Self::Contention { tasks } => format!("{tasks} tasks on one aggregate"),
        }
    }

    /// How many events one operation is about: rates are given in them.
    pub(crate) fn events_per_operation(self) -> f64 {
        match self {
            Self::Append { batch, .. } => batch.into(),
            Self::Rehydrate { length } => length.into(),
            Self::Command { .. } | Self::Contention { .. } => 1.0,
        }
    }

    /// What our repository is told; 0 is its default, no snapshots.
    pub(crate) fn snapshot_every(self) -> u32 {
        match self {
            Self::Command { length: 1_000 } => 100,
            _ => 0,
        }
    }

    /// The ratio to the first floor that the design asks for.
    pub(crate) fn to_reach(self, backend: Backend) -> &'static str {
        match (self, backend) {
            (Self::Append { batch: 100, .. }, Backend::Postgres) => "≥ 1.0",
            (Self::Append { batch: 100, .. }, Backend::Sqlite) => "≥ 0.75",
            (Self::Append { tasks: 1, .. }, Backend::Postgres) => "≥ 0.95",
            (Self::Append { tasks: 1, .. }, Backend::Sqlite) => "≥ 0.4",
            (Self::Append { .. }, Backend::Postgres) => "≥ 1.5",
            (Self::Append { .. }, Backend::Sqlite) => "≥ 1.1",
            (Self::Command { length: 1_000 }, Backend::Postgres) => "as on a stream of 10",
            (Self::Command { length: 1_000 }, Backend::Sqlite) => "≥ 3",
            (Self::Command { .. }, Backend::Postgres) => "≥ 2",
            (Self::Command { .. }, Backend::Sqlite) => "≥ 0.5",
            (Self::Rehydrate { .. }, Backend::Postgres) => "≥ 1.0",
            (Self::Rehydrate { .. }, Backend::Sqlite) => "≥ 0.5",
            (Self::Contention { .. }, Backend::Postgres) => "≥ 3",
            (Self::Contention { .. }, Backend::Sqlite) => "≥ 1.0",
        }
    }

    /// One round of `side`, of about `time`. Each round has streams of its own.
    pub(crate) async fn round(
        self,
        side: &Arc<dyn Side>,
        time: Duration,
        seed: u64,
    ) -> Result<Round> {
        match self {
            Self::Append { tasks, batch } => append::round(side, tasks, batch, time, seed).await,
            Self::Command { length } => command::round(side, length, time, seed).await,
            Self::Rehydrate { length } => rehydrate::round(side, length, time, seed).await,
            Self::Contention { tasks } => contention::round(side, tasks, time, seed).await,
        }
    }
}
