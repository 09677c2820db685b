//! Many callers who all want the same aggregate.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use uuid::Uuid;

use super::command;
use crate::{
    measure::{self, Operation, Round, Until},
    player,
    side::{Result, Side},
};

/// How many events the aggregate has at first.
const LENGTH: u32 = 10;
/// How many commands each caller has for one aggregate. Fixed, because a history that grows makes
/// each command dearer: a faster side must not be measured on a longer one.
const COMMANDS: u32 = 25;

struct Caller {
    side: Arc<dyn Side>,
    aggregate: Uuid,
    rng: Rng,
}

impl Operation for Caller {
    async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        let room = player::room(&mut self.rng);
        self.side.command(self.aggregate, room).await
    }
}

pub(crate) async fn round(
    side: &Arc<dyn Side>,
    tasks: usize,
    time: Duration,
    seed: u64,
) -> Result<Round> {
    let mut rng = Rng::with_seed(seed);
    let mut round = Round::default();
    while round.elapsed < time {
        let aggregate = command::seed(side, LENGTH, &mut rng).await?;
        let callers = (0..tasks).map(|_| Caller {
            side: Arc::clone(side),
            aggregate,
            rng: rng.fork(),
        });
        round.add(measure::run(callers.collect(), Until::Runs(COMMANDS as usize)).await?);
        let moves = side.load(aggregate).await?.moves;
        let expected = LENGTH - 1 + COMMANDS * u32::try_from(tasks)?;
        if moves != expected {
            return Err(format!("{} lost commands: {moves} of {expected}", side.name()).into());
        }
    }
    Ok(round)
}
