//! Where runners and the node say how a projection is doing, and where statuses are read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use es_core::{Blocker, Failure, Horizon, Position, ProjectionId, Standing};
use tokio::sync::watch;

use crate::{
    metrics,
    status::{ShardStatus, State, Status},
};

/// Rates are over about this time.
const MEMORY: f64 = 5.0;

/// What is known of one projection.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) projection: ProjectionId,
    known: Mutex<Known>,
    /// For those who wait: a watch channel misses nothing.
    gate: watch::Sender<Gate>,
    /// Up to here somebody waits for it.
    asked: watch::Sender<Position>,
}

/// What waiters look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) position: Position,
    pub(crate) state: State,
    /// Another node runs some of it: how far that is, is only heard of now and then.
    pub(crate) elsewhere: bool,
}

#[derive(Debug, Default)]
struct Known {
    shards: BTreeMap<u32, Part>,
    active: bool,
    /// It was removed from the database.
    removed: bool,
    head: Position,
    blocker: Option<Blocker>,
}

#[derive(Debug)]
struct Part {
    /// Of the standing that was seen last.
    epoch: i64,
    state: State,
    position: Position,
    applied: u64,
    events: Meter,
    positions: Meter,
    oldest: Option<DateTime<Utc>>,
    parked: usize,
    last_error: Option<String>,
    failure: Option<Failure>,
    owner: Option<String>,
    /// When the loop came round last; `None` while nothing runs here.
    turned: Option<Instant>,
}

impl Part {
    fn new() -> Self {
        Self {
            epoch: i64::MIN,
            state: State::Starting,
            position: Position::START,
            applied: 0,
            events: Meter::default(),
            positions: Meter::default(),
            oldest: None,
            parked: 0,
            last_error: None,
            failure: None,
            owner: None,
            turned: None,
        }
    }

    fn reach(&mut self, position: Position) {
        let passed = position.get().saturating_sub(self.position.get());
        self.positions.add(passed);
        self.position = position;
    }
}

impl Board {
    pub(crate) fn new(projection: ProjectionId) -> Arc<Self> {
        let gate = Gate {
            position: Position::START,
            state: State::Starting,
            elsewhere: false,
        };
        Arc::new(Self {
            projection,
            known: Mutex::default(),
            gate: watch::Sender::new(gate),
            asked: watch::Sender::default(),
        })
    }

    pub(crate) fn shard(self: &Arc<Self>, index: u32) -> ShardBoard {
        let mut known = self.lock();
        known.shards.entry(index).or_insert_with(Part::new);
        self.tell(&known);
        drop(known);
        ShardBoard {
            board: Arc::clone(self),
            index,
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Somebody waits for this position: its runners should not be slow to pass foreign events.
    pub(crate) fn ask(&self, position: Position) {
        self.asked.send_if_modified(|asked| {
            let more = position > *asked;
            *asked = position.max(*asked);
            more
        });
    }

    /// What the database says of a part that does not run here. It may have been asked earlier than for what
    /// is known already.
    pub(crate) fn seen(&self, standing: &Standing, owner: Option<String>) {
        let failure = standing.failure.clone();
        self.change(standing.shard.index, |part| {
            if standing.epoch < part.epoch {
                // One answer may be late, not two. Made known anew, it counts from the start.
                part.epoch = standing.epoch;
                return;
            }
            part.epoch = standing.epoch;
            part.state = match standing.lifecycle {
                lifecycle if lifecycle.is_running() => State::StandingBy,
                lifecycle => State::of(lifecycle),
            };
            part.position = standing.position;
            part.owner = owner;
            part.turned = None;
            part.oldest = None;
            if failure.is_some() || part.failure.is_some() {
                part.last_error = failure.as_ref().map(|failure| failure.message.clone());
            }
            part.failure = failure;
        });
    }

    /// There are no parts beyond these any more.
    pub(crate) fn keep(&self, shards: u32, active: bool) {
        let mut known = self.lock();
        known.shards.retain(|index, _| *index < shards);
        known.removed = shards == 0;
        known.active = active;
        self.tell(&known);
    }

    pub(crate) fn horizon(&self, horizon: &Horizon) {
        let mut known = self.lock();
        known.head = known.head.max(horizon.settled);
        known.blocker.clone_from(&horizon.blocker);
    }

    pub(crate) fn stopped(&self) {
        let mut known = self.lock();
        for part in known.shards.values_mut() {
            part.turned = None;
            if part.state != State::Failed {
                part.state = State::Stopped;
            }
        }
        drop(known);
        self.gate.send_modify(|gate| {
            if gate.state != State::Failed {
                gate.state = State::Stopped;
            }
        });
    }

    pub(crate) fn is_active(&self) -> bool {
        self.lock().active
    }

    pub(crate) fn status(&self) -> Status {
        let known = self.lock();
        let now = Instant::now();
        let parts = || known.shards.values();
        let position = lowest(&known);
        let head = known.head.max(position);
        let state = least(&known);
        let speed: f64 = parts().map(|part| part.positions.rate(now)).sum();
        let lag = head.get().saturating_sub(position.get());
        let catching_up = matches!(state, State::CatchingUp | State::Rebuilding);
        let shards = known.shards.iter().map(|(index, part)| ShardStatus {
            index: *index,
            state: part.state,
            position: part.position,
            owner: part.owner.clone(),
        });
        let mut owners: Vec<_> = parts().filter_map(|part| part.owner.clone()).collect();
        owners.sort();
        owners.dedup();
        let oldest = parts().filter_map(|part| part.oldest).min();
        Status {
            projection: self.projection.clone(),
            state,
            active: known.active,
            position,
            head,
            behind: match (lag, oldest) {
                (0, _) => Some(Duration::ZERO),
                (_, Some(oldest)) => Some((Utc::now() - oldest).to_std().unwrap_or_default()),
                (_, None) => (state == State::Live).then_some(Duration::ZERO),
            },
            events_applied: parts().map(|part| part.applied).sum(),
            events_per_second: parts().map(|part| part.events.rate(now)).sum(),
            time_left: (catching_up && speed > 1.0).then(|| seconds(lag, speed)),
            parked: parts().map(|part| part.parked).sum(),
            last_error: parts().find_map(|part| part.last_error.clone()),
            failure: parts().find_map(|part| part.failure.clone()),
            owners,
            shards: shards.collect(),
            blocker: known.blocker.clone(),
        }
    }

    /// Parts that run here and have not come round for this long.
    pub(crate) fn standing_still(&self, longest: Duration) -> Vec<(u32, Duration)> {
        let known = self.lock();
        let turned = known
            .shards
            .iter()
            .filter_map(|(index, part)| Some((*index, part.turned?.elapsed())));
        turned.filter(|(_, age)| *age > longest).collect()
    }

    /// A part that is no more, as after a division, is not brought back by its old runner.
    fn change(&self, index: u32, change: impl FnOnce(&mut Part)) {
        let mut known = self.lock();
        if let Some(part) = known.shards.get_mut(&index) {
            change(part);
        }
        self.tell(&known);
    }

    /// The same for what waiters do not look at.
    fn note(&self, index: u32, change: impl FnOnce(&mut Part)) {
        if let Some(part) = self.lock().shards.get_mut(&index) {
            change(part);
        }
    }

    /// Under the lock, so that an older one does not overtake.
    fn tell(&self, known: &Known) {
        let gate = Gate {
            position: lowest(known),
            state: least(known),
            elsewhere: known
                .shards
                .values()
                .any(|part| part.state == State::StandingBy),
        };
        self.gate.send_if_modified(|old| {
            let changed = *old != gate;
            *old = gate;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lowest(known: &Known) -> Position {
    let positions = known.shards.values().map(|part| part.position);
    positions.min().unwrap_or(Position::START)
}

fn least(known: &Known) -> State {
    let order = |state: &State| match state {
        State::Failed => 0,
        State::Paused => 1,
        State::Retired => 2,
        State::Detached => 3,
        State::Starting => 4,
        State::Rebuilding => 5,
        State::CatchingUp => 6,
        State::Live => 7,
        State::Inline => 8,
        // What another node does says nothing about what this one does.
        State::StandingBy => 9,
        State::Stopped => 10,
    };
    let states = known.shards.values().map(|part| part.state);
    states.min_by_key(order).unwrap_or(match known.removed {
        true => State::Detached,
        false => State::Starting,
    })
}

fn seconds(lag: u64, speed: f64) -> Duration {
    let lag = u32::try_from(lag).unwrap_or(u32::MAX);
    Duration::from_secs_f64(f64::from(lag) / speed)
}

/// The board of one part that runs here.
#[derive(Debug, Clone)]
pub(crate) struct ShardBoard {
    board: Arc<Board>,
    index: u32,
}

impl ShardBoard {
    pub(crate) fn state(&self, state: State) {
        self.board.change(self.index, |part| part.state = state);
    }

    /// Up to where somebody waits.
    pub(crate) fn asked(&self) -> watch::Receiver<Position> {
        self.board.asked.subscribe()
    }

    /// The loop has come round.
    pub(crate) fn turned(&self) {
        self.board
            .note(self.index, |part| part.turned = Some(Instant::now()));
    }

    /// Nothing runs here any more.
    pub(crate) fn rests(&self) {
        self.board.note(self.index, |part| {
            part.turned = None;
            part.parked = 0;
        });
    }

    pub(crate) fn owner(&self, name: &str) {
        self.board.change(self.index, |part| {
            part.owner = Some(name.to_owned());
            part.failure = None;
        });
    }

    /// Everything up to `position` is in the read model.
    pub(crate) fn reached(&self, position: Position) {
        self.board.change(self.index, |part| part.reach(position));
    }

    /// The oldest event that is not applied yet.
    pub(crate) fn oldest(&self, created_at: Option<DateTime<Utc>>) {
        self.board.note(self.index, |part| part.oldest = created_at);
    }

    pub(crate) fn applied(&self, events: usize, position: Position) {
        metrics::applied(&self.board.projection, events);
        self.board.change(self.index, |part| {
            part.applied += events as u64;
            part.events.add(events as u64);
            part.last_error = None;
            part.reach(position);
        });
    }

    pub(crate) fn parked(&self, aggregates: usize) {
        self.board.note(self.index, |part| part.parked = aggregates);
    }

    pub(crate) fn works(&self) {
        self.board.note(self.index, |part| part.last_error = None);
    }

    pub(crate) fn error(&self, message: &str) {
        metrics::error(&self.board.projection);
        self.board.note(self.index, |part| {
            part.last_error = Some(message.to_owned());
        });
    }

    pub(crate) fn failed(&self, failure: Failure) {
        metrics::error(&self.board.projection);
        self.board.change(self.index, |part| {
            part.state = State::Failed;
            part.last_error = Some(failure.message.clone());
            part.failure = Some(failure);
        });
    }
}

/// An exponentially fading rate.
#[derive(Debug, Default)]
struct Meter {
    rate: f64,
    at: Option<Instant>,
}

impl Meter {
    fn add(&mut self, count: u64) {
        let now = Instant::now();
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.rate = self.rate(now) + count / MEMORY;
        self.at = Some(now);
    }

    fn rate(&self, now: Instant) -> f64 {
        match self.at {
            None => 0.0,
            Some(at) => self.rate * (-(now - at).as_secs_f64() / MEMORY).exp(),
        }
    }
}
