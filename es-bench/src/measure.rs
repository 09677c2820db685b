//! Taking times.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::side::Result;

/// Something one task does again and again.
pub(crate) trait Operation: Send + 'static {
    /// Gets ready for the next run, off the clock.
    fn prepare(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Does it once, on the clock.
    fn run(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What one side did in one round.
#[derive(Default)]
pub(crate) struct Round {
    /// Time on the clock.
    pub(crate) elapsed: Duration,
    /// How long each operation took.
    pub(crate) latencies: Vec<Duration>,
}

impl Round {
    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.latencies.len()) / self.elapsed.as_secs_f64()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.latencies.extend(other.latencies);
    }
}

/// When a task has done enough.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// It has been on the clock for so long.
    Busy(Duration),
    /// It has run so often. The time is that of the slowest task, so `prepare` should be quick.
    Runs(usize),
}

/// Runs each operation in a task of its own.
pub(crate) async fn run<O: Operation>(operations: Vec<O>, until: Until) -> Result<Round> {
    let tasks = u32::try_from(operations.len().max(1))?;
    let started = Instant::now();
    let mut running: JoinSet<Result<Round>> = operations
        .into_iter()
        .map(|operation| repeat(operation, until))
        .collect();
    let mut all = Round::default();
    while let Some(round) = running.join_next().await {
        all.add(round??);
    }
    all.elapsed = match until {
        Until::Busy(_) => all.elapsed / tasks,
        Until::Runs(_) => started.elapsed(),
    };
    Ok(all)
}

async fn repeat<O: Operation>(mut operation: O, until: Until) -> Result<Round> {
    let mut round = Round::default();
    while match until {
        Until::Busy(time) => round.elapsed < time,
        Until::Runs(runs) => round.latencies.len() < runs,
    } {
        operation.prepare().await?;
        let started = Instant::now();
        operation.run().await?;
        let latency = started.elapsed();
        round.elapsed += latency;
        round.latencies.push(latency);
    }
    Ok(round)
}

/// The rounds of one side.
#[derive(Default)]
pub(crate) struct Summary {
    rates: Vec<f64>,
    latencies: Vec<Duration>,
}

impl Summary {
    pub(crate) fn add(&mut self, round: Round) {
        self.rates.push(round.rate());
        self.latencies.extend(round.latencies);
    }

    /// The median of the rounds' rates.
    pub(crate) fn rate(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_unstable_by(f64::total_cmp);
        match rates.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => rates[odd / 2],
            even => f64::midpoint(rates[even / 2 - 1], rates[even / 2]),
        }
    }

    /// The rate of the best round: what other work on the machine disturbed least.
    pub(crate) fn best(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// The latencies, over all rounds, that 50 % and 99 % of the operations stay within.
    pub(crate) fn percentiles(&mut self) -> [Duration; 2] {
        self.within([50, 99])
    }

    /// The latencies that so many per cent of the operations stay within.
    pub(crate) fn within<const N: usize>(&mut self, percents: [usize; N]) -> [Duration; N] {
        self.latencies.sort_unstable();
        percents.map(|percent| {
            let rank = (self.latencies.len() * percent).div_ceil(100).max(1);
            self.latencies.get(rank - 1).copied().unwrap_or_default()
        })
    }
}

/// Exact: nothing here is counted up to 2³².
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(latencies: &[u64]) -> Round {
        let latencies: Vec<_> = latencies
            .iter()
            .copied()
            .map(Duration::from_millis)
            .collect();
        Round {
            elapsed: latencies.iter().sum(),
            latencies,
        }
    }

    #[test]
    fn the_rate_is_the_median_of_the_rounds() {
        let mut summary = Summary::default();
        for millis in [1, 1000, 2] {
            summary.add(round(&[millis]));
        }
        assert!((summary.rate() - 500.0).abs() < 1e-9);
        summary.add(round(&[4]));
        assert!((summary.rate() - 375.0).abs() < 1e-9);
        assert!((summary.best() - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_ranks_over_all_rounds() {
        let mut summary = Summary::default();
        summary.add(round(&(51..=200).collect::<Vec<_>>()));
        summary.add(round(&(1..=50).collect::<Vec<_>>()));
        assert_eq!(summary.percentiles(), [100, 198].map(Duration::from_millis));
    }
}
