//! Waiting after an error, with jitter, and cut short by a stop.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// Exponential back-off with jitter: many daemons that lost one database do not come back in step, and
/// none comes back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    start: Duration,
    limit: Duration,
    errors: u32,
}

impl Backoff {
    pub(crate) fn new(start: Duration, limit: Duration) -> Self {
        Self {
            start,
            limit,
            errors: 0,
        }
    }

    /// Something worked: the next pause is a short one.
    pub(crate) fn reset(&mut self) {
        self.errors = 0;
    }

    /// Waits, longer each time. `false` if it was told to stop.
    pub(crate) async fn pause(&mut self, stop: &CancellationToken) -> bool {
        pause(self.next(), stop).await
    }

    /// How long to wait this time.
    pub(crate) fn next(&mut self) -> Duration {
        let most = self.most();
        self.errors = self.errors.saturating_add(1);
        jitter(most)
    }

    fn most(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.errors);
        self.start.saturating_mul(factor).min(self.limit)
    }
}

/// Waits for `time`. `false` if it was told to stop.
async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Somewhere between half of `most` and all of it. Each `RandomState` has keys of its own: random enough
/// here.
fn jitter(most: Duration) -> Duration {
    let share = RandomState::new().build_hasher().finish() % 1001;
    let half = most / 2;
    half + half.mul_f64(f64::from(u32::try_from(share).unwrap_or(1000)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let mut most = Vec::new();

        for errors in [0, 1, 2, 3, 200] {
            backoff.errors = errors;
            most.push(backoff.most().as_millis());
        }

        assert_eq!(most, [100, 200, 350, 350, 350]);
    }

    #[test]
    fn jitter_is_between_half_and_all() {
        let most = Duration::from_millis(10);
        let times: Vec<_> = (0..5000).map(|_| jitter(most)).collect();
        assert!(times.iter().all(|time| (most / 2..=most).contains(time)));
        assert!(times.iter().any(|time| *time != times[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_cuts_the_pause_short() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(!pause(Duration::from_secs(3600), &stop).await);
    }
}
