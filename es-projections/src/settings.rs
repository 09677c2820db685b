//! How a daemon behaves; the defaults suit most.

use std::time::Duration;

/// How a daemon behaves. Start from [`Settings::default`] and change what does not suit.
///
/// ```
/// use std::time::Duration;
/// use es_projections::Settings;
///
/// let settings = Settings::default()
///     .with_batch_events(200)
///     .with_lease_ttl(Duration::from_secs(30));
/// assert_eq!(settings.batch_events, 200);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// At most this many events in one transaction. Default: 1000.
    pub batch_events: u32,
    /// How long a daemon that was killed keeps others from taking its projections over.
    /// Default: 10 seconds. A running daemon renews after a third of it.
    pub lease_ttl: Duration,
    /// How often a daemon that does not run a projection asks whether it may. Default: 1 second.
    pub lease_retry: Duration,
    /// How often a batch is tried again after its handler failed, before the projection stops.
    /// Default: 3.
    pub handler_retries: u32,
    /// The longest first pause after an error; it doubles with each further one.
    /// Default: 100 milliseconds.
    pub backoff_start: Duration,
    /// The longest pause after an error. Default: 5 seconds.
    pub backoff_limit: Duration,
    /// While only foreign events come in, write the checkpoint at most this often.
    /// Default: 1 second.
    pub checkpoint_interval: Duration,
    /// While only foreign events come in, write the checkpoint also after this many positions.
    /// Default: 10 000.
    pub checkpoint_positions: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_events: 1000,
            lease_ttl: Duration::from_secs(10),
            lease_retry: Duration::from_secs(1),
            handler_retries: 3,
            backoff_start: Duration::from_millis(100),
            backoff_limit: Duration::from_secs(5),
            checkpoint_interval: Duration::from_secs(1),
            checkpoint_positions: 10_000,
        }
    }
}

impl Settings {
    /// At most this many events in one transaction. Zero counts as one.
    #[must_use]
    pub fn with_batch_events(mut self, events: u32) -> Self {
        self.batch_events = events.max(1);
        self
    }

    /// How long a killed daemon keeps others from taking over.
    #[must_use]
    pub fn with_lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// How often a daemon in waiting asks for the lease.
    #[must_use]
    pub fn with_lease_retry(mut self, pause: Duration) -> Self {
        self.lease_retry = pause;
        self
    }

    /// How often a batch is tried again after its handler failed.
    #[must_use]
    pub fn with_handler_retries(mut self, retries: u32) -> Self {
        self.handler_retries = retries;
        self
    }

    /// The pauses after errors: the longest first one, and the longest of all.
    #[must_use]
    pub fn with_backoff(mut self, start: Duration, limit: Duration) -> Self {
        self.backoff_start = start;
        self.backoff_limit = limit;
        self
    }

    /// How often the checkpoint is written while only foreign events come in.
    #[must_use]
    pub fn with_checkpoint_every(mut self, interval: Duration, positions: u64) -> Self {
        self.checkpoint_interval = interval;
        self.checkpoint_positions = positions;
        self
    }
}
