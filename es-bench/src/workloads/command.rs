//! One caller, whose commands go round a few aggregates.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use fastrand::Rng;
use uuid::Uuid;

use crate::{
    measure::{self, Operation, Round, Until},
    player,
    side::{Result, Side},
};

/// How many aggregates are in use at the same time.
const STREAMS: usize = 8;

pub(crate) struct Command {
    side: Arc<dyn Side>,
    /// How many events a stream has at first.
    length: u32,
    /// Each stream with the number of commands it has had.
    streams: VecDeque<(Uuid, u32)>,
    current: Uuid,
    room: Uuid,
    rng: Rng,
}

impl Command {
    pub(crate) fn new(side: &Arc<dyn Side>, length: u32, seed: u64) -> Self {
        Self {
            side: Arc::clone(side),
            length,
            streams: VecDeque::new(),
            current: Uuid::nil(),
            room: Uuid::nil(),
            rng: Rng::with_seed(seed),
        }
    }

    /// A stream is retired for a new one after this many commands, so that it stays about as long
    /// as it was, and the first load of each is seen.
    fn commands_max(&self) -> u32 {
        self.length.min(100)
    }
}

impl Operation for Command {
    async fn prepare(&mut self) -> Result<()> {
        while self.streams.len() < STREAMS {
            let id = seed(&self.side, self.length, &mut self.rng).await?;
            self.streams.push_back((id, 0));
        }
        if let Some((id, commands)) = self.streams.pop_front() {
            self.current = id;
            if commands + 1 < self.commands_max() {
                self.streams.push_back((id, commands + 1));
            }
        }
        self.room = player::room(&mut self.rng);
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        self.side.command(self.current, self.room).await
    }
}

/// Records a new stream of `length` events.
pub(crate) async fn seed(side: &Arc<dyn Side>, length: u32, rng: &mut Rng) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let created = player::created(rng);
    let moves = (1..length).map(|_| player::moved(rng)).collect();
    side.seed(id, created, moves).await?;
    Ok(id)
}

pub(crate) async fn round(
    side: &Arc<dyn Side>,
    length: u32,
    time: Duration,
    seed: u64,
) -> Result<Round> {
    measure::run(vec![Command::new(side, length, seed)], Until::Busy(time)).await
}
