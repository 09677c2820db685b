//! One caller, who folds a whole history again and again.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use uuid::Uuid;

use super::command;
use crate::{
    measure::{self, Operation, Round, Until},
    side::{Result, Side},
};

struct Rehydrate {
    side: Arc<dyn Side>,
    streams: Vec<Uuid>,
    length: u32,
    rng: Rng,
}

impl Operation for Rehydrate {
    async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        let Some(id) = self.rng.choice(&self.streams) else {
            return Ok(());
        };
        let player = self.side.load(*id).await?;
        if player.moves + 1 != self.length {
            return Err(format!("loaded {} moves of {}", player.moves, self.length).into());
        }
        Ok(())
    }
}

/// Loads any of `streams`, which have `length` events each.
pub(crate) async fn loads(
    side: &Arc<dyn Side>,
    streams: Vec<Uuid>,
    length: u32,
    time: Duration,
    seed: u64,
) -> Result<Round> {
    let rehydrate = Rehydrate {
        side: Arc::clone(side),
        streams,
        length,
        rng: Rng::with_seed(seed),
    };
    measure::run(vec![rehydrate], Until::Busy(time)).await
}

pub(crate) async fn round(
    side: &Arc<dyn Side>,
    length: u32,
    time: Duration,
    seed: u64,
) -> Result<Round> {
    let stream = command::seed(side, length, &mut Rng::with_seed(seed)).await?;
    loads(side, vec![stream], length, time, seed).await
}
