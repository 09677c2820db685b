//! Writers that know the version of their stream, and add to its end.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use uuid::Uuid;

use crate::{
    measure::{self, Operation, Round, Until},
    player::{self, PlayerMoved},
    side::{Result, Side},
};

/// A writer goes on to a new stream when this one has so many events.
const STREAM_MAX: u32 = 1_000;

pub(crate) struct Append {
    side: Arc<dyn Side>,
    stream: Uuid,
    version: u32,
    batch: u32,
    events: Vec<PlayerMoved>,
    rng: Rng,
}

impl Append {
    pub(crate) fn new(side: &Arc<dyn Side>, batch: u32, seed: u64) -> Self {
        Self {
            side: Arc::clone(side),
            stream: Uuid::now_v7(),
            version: 0,
            batch,
            events: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }
}

impl Operation for Append {
    async fn prepare(&mut self) -> Result<()> {
        if self.version >= STREAM_MAX {
            self.stream = Uuid::now_v7();
            self.version = 0;
        }
        self.events.clear();
        let rng = &mut self.rng;
        self.events
            .extend((0..self.batch).map(|_| player::moved(rng)));
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        self.side
            .append(self.stream, self.version, &self.events)
            .await?;
        self.version += self.batch;
        Ok(())
    }
}

pub(crate) async fn round(
    side: &Arc<dyn Side>,
    tasks: usize,
    batch: u32,
    time: Duration,
    seed: u64,
) -> Result<Round> {
    let writers = (seed..)
        .take(tasks)
        .map(|seed| Append::new(side, batch, seed));
    measure::run(writers.collect(), Until::Busy(time)).await
}
