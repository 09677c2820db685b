//! How a daemon behaves; the defaults suit most.

use std::time::Duration;

/// How a daemon behaves. Start from [`Settings::default`] and change what does not suit.
///
/// ```
/// use std::time::Duration;
/// use es_projections::{Options, Settings};
///
/// let settings = Settings::default()
///     .with_lease_ttl(Duration::from_secs(5))
///     .with_options(Options::default().with_batch_events(200));
/// assert_eq!(settings.options.batch_events, 200);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long a daemon that was killed keeps others from taking its projections over. Default: 1.5
    /// seconds. A running daemon says that it is alive four times as often.
    pub lease_ttl: Duration,
    /// The longest first pause after an error; it doubles with each further one.
    /// Default: 100 milliseconds.
    pub backoff_start: Duration,
    /// The longest pause after an error. Default: 5 seconds.
    pub backoff_limit: Duration,
    /// How much memory the pages that projections share may take, in bytes of event content.
    /// Default: 16 MiB.
    pub shared_pages_bytes: usize,
    /// A loop that has not come round for this long is reported as [unhealthy](crate::Health).
    /// Longer than the longest batch. Default: 30 seconds.
    pub stall_after: Duration,
    /// What this node is called in the database and in other nodes' statuses. Default: host and
    /// process.
    pub node_name: String,
    /// How projections behave that are started without options of their own.
    pub options: Options,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_millis(1500),
            backoff_start: Duration::from_millis(100),
            backoff_limit: Duration::from_secs(5),
            shared_pages_bytes: 16 << 20,
            stall_after: Duration::from_secs(30),
            node_name: node_name(),
            options: Options::default(),
        }
    }
}

fn node_name() -> String {
    let host = std::env::var("HOSTNAME").ok();
    let host = host.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let host = host
        .as_deref()
        .map(str::trim)
        .filter(|host| !host.is_empty());
    format!("{}/{}", host.unwrap_or("node"), std::process::id())
}

impl Settings {
    /// How long a killed daemon keeps others from taking over.
    #[must_use]
    pub fn with_lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// The pauses after errors: the longest first one, and the longest of all.
    #[must_use]
    pub fn with_backoff(mut self, start: Duration, limit: Duration) -> Self {
        self.backoff_start = start;
        self.backoff_limit = limit;
        self
    }

    /// How much memory shared pages may take, in bytes.
    #[must_use]
    pub fn with_shared_pages_bytes(mut self, bytes: usize) -> Self {
        self.shared_pages_bytes = bytes;
        self
    }

    /// From when on a loop that stands still is unhealthy.
    #[must_use]
    pub fn with_stall_after(mut self, time: Duration) -> Self {
        self.stall_after = time;
        self
    }

    /// What this node is called.
    #[must_use]
    pub fn with_node_name(mut self, name: impl Into<String>) -> Self {
        self.node_name = name.into();
        self
    }

    /// How projections behave that have no options of their own.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

/// How one projection behaves.
///
/// ```
/// use es_projections::{OnFailure, Options};
///
/// let careful = Options::default().with_shards(4).on_failure(OnFailure::Park);
/// assert_eq!(careful.on_undecodable, OnFailure::Park);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// At most this many events in one transaction. Default: 5000.
    pub batch_events: u32,
    /// At most this many bytes of event content in one transaction, if it is more than one event.
    /// Default: 4 MiB.
    pub batch_bytes: usize,
    /// Batches get smaller when one takes longer than this, and larger again when they are quick. On
    /// SQLite nobody can append while a batch is open. Default: 100 milliseconds.
    pub batch_time: Duration,
    /// Into how many parts a projection is divided when it is started for the first time; they run in
    /// parallel, and each aggregate belongs to one. Only for projections that do not combine
    /// aggregates. Later the number is changed by [`Projections::divide`](crate::Projections::divide).
    /// Default: 1.
    pub shards: u32,
    /// How often a batch is tried again after its handler failed. Errors that the store knows as passing
    /// (a deadlock, a lost connection) do not count: they are tried again for ever. Default: 3.
    pub handler_retries: u32,
    /// What happens when the handler fails for good at an event. Default: stop.
    pub on_handler_error: OnFailure,
    /// What happens at an event whose content cannot be read. Default: stop.
    pub on_undecodable: OnFailure,
    /// What happens at an event of a type or schema version that this program does not know.
    /// Default: stop.
    pub on_unknown: OnFailure,
    /// With [`OnFailure::Park`]: stop when this many aggregates are parked. Default: 1000.
    pub parked_limit: u32,
    /// Whether a new version takes over by itself once it has caught up with the one that is served.
    /// Default: yes.
    pub promote: bool,
    /// Whether starting a daemon is taken as the repair of a projection that has failed. Otherwise it
    /// stays failed until it is [resumed](crate::Projections::resume). Default: yes.
    pub resume_failed: bool,
    /// While only foreign events come in, write the checkpoint at most this often.
    /// Default: 1 second.
    pub checkpoint_interval: Duration,
    /// While only foreign events come in, write the checkpoint also after this many positions.
    /// Default: 10 000.
    pub checkpoint_positions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_events: 5000,
            batch_bytes: 4 << 20,
            batch_time: Duration::from_millis(100),
            shards: 1,
            handler_retries: 3,
            on_handler_error: OnFailure::Stop,
            on_undecodable: OnFailure::Stop,
            on_unknown: OnFailure::Stop,
            parked_limit: 1000,
            promote: true,
            resume_failed: true,
            checkpoint_interval: Duration::from_secs(1),
            checkpoint_positions: 10_000,
        }
    }
}

/// What happens when a projection cannot apply an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// The projection stops before it and is [failed](es_core::Lifecycle::Failed).
    Stop,
    /// The event is put aside, and later events of its aggregate behind it: their order holds. All other
    /// aggregates go on. See [`Projections::retry`](crate::Projections::retry).
    Park,
    /// The event is passed over and noted down. Its aggregate goes on without it.
    Skip,
}

impl Options {
    /// At most this many events in one transaction. Zero counts as one.
    #[must_use]
    pub fn with_batch_events(mut self, events: u32) -> Self {
        self.batch_events = events.max(1);
        self
    }

    /// At most this many bytes of event content in one transaction.
    #[must_use]
    pub fn with_batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// How long a batch should take at most.
    #[must_use]
    pub fn with_batch_time(mut self, time: Duration) -> Self {
        self.batch_time = time;
        self
    }

    /// Into how many parts it is divided at its first start. Zero counts as one.
    #[must_use]
    pub fn with_shards(mut self, shards: u32) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// How often a batch is tried again after its handler failed.
    #[must_use]
    pub fn with_handler_retries(mut self, retries: u32) -> Self {
        self.handler_retries = retries;
        self
    }

    /// What happens at an event that cannot be applied, whatever the reason.
    #[must_use]
    pub fn on_failure(mut self, what: OnFailure) -> Self {
        self.on_handler_error = what;
        self.on_undecodable = what;
        self.on_unknown = what;
        self
    }

    /// What happens at an event at which the handler fails.
    #[must_use]
    pub fn on_handler_error(mut self, what: OnFailure) -> Self {
        self.on_handler_error = what;
        self
    }

    /// What happens at an event whose content cannot be read.
    #[must_use]
    pub fn on_undecodable(mut self, what: OnFailure) -> Self {
        self.on_undecodable = what;
        self
    }

    /// What happens at an event of an unknown type or a newer schema version.
    #[must_use]
    pub fn on_unknown(mut self, what: OnFailure) -> Self {
        self.on_unknown = what;
        self
    }

    /// Where there are no dead letters.
    pub(crate) fn without_parking(mut self) -> Self {
        for policy in [
            &mut self.on_handler_error,
            &mut self.on_undecodable,
            &mut self.on_unknown,
        ] {
            if *policy == OnFailure::Park {
                *policy = OnFailure::Stop;
            }
        }
        self
    }

    /// When this many aggregates are parked, stop.
    #[must_use]
    pub fn with_parked_limit(mut self, aggregates: u32) -> Self {
        self.parked_limit = aggregates;
        self
    }

    /// Whether a new version takes over by itself.
    #[must_use]
    pub fn with_promote(mut self, promote: bool) -> Self {
        self.promote = promote;
        self
    }

    /// Whether a start is taken as the repair of what has failed.
    #[must_use]
    pub fn with_resume_failed(mut self, resume: bool) -> Self {
        self.resume_failed = resume;
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
