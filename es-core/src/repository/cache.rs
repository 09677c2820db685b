//! Aggregates that stay in memory between commands, and the queue before each of them.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use moka::sync::Cache;
use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::load::Known;
use crate::{Aggregate, Version};

/// How many aggregates a repository without a cache knows the queue of. One that is forgotten while
/// its commands wait costs them a conflict, nothing else.
const QUEUES: u64 = 10_000;

/// How much a [`Repository`](crate::Repository) keeps in memory:
/// `players.cache(AggregateCache::new().bytes(512 << 20))`.
///
/// The default is up to 10,000 aggregates of up to 64 MiB together. It is for each repository; clones
/// share it.
///
/// A command on a kept aggregate costs one round trip, the append, instead of two, and no replay
/// whatever the length of its history. The append's expected version keeps it correct, whoever else
/// writes: what is kept saves reading, and is never an answer by itself. A command that would be
/// refused, or would do nothing, first looks whether the stream has moved. Therefore it is on unless
/// switched off; switch it off where nearly all commands go to aggregates not seen for long, or
/// where other processes write to the same ones all the time.
///
/// A database that is put back to an older state under a running program is noticed when a stream has
/// become shorter, not when it has grown again in another way: restart the programs that write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregateCache {
    entries: u64,
    bytes: u64,
}

impl AggregateCache {
    /// Up to 10,000 aggregates of up to 64 MiB together.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: 10_000,
            bytes: 64 << 20,
        }
    }

    /// Keeps nothing: each command reads its aggregate. Commands of one process on one aggregate still
    /// wait for each other.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            entries: 0,
            bytes: 0,
        }
    }

    /// Keeps at most this many aggregates.
    #[must_use]
    pub const fn entries(mut self, entries: u64) -> Self {
        self.entries = entries;
        self
    }

    /// Keeps aggregates of at most this many bytes together, as estimated from the length of their
    /// JSON. One that is larger alone is not kept.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}

impl Default for AggregateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// The slots of the aggregates that commands went to lately.
pub(super) struct Slots<A> {
    slots: Cache<Uuid, Arc<Slot<A>>>,
    /// The largest aggregate to keep; zero keeps none.
    largest: u64,
}

/// The place of one aggregate: who locks it may give the next command. The lock is fair, so commands
/// run in the order in which they came.
pub(super) struct Slot<A> {
    kept: Mutex<Kept<A>>,
    /// What the aggregate takes, as last estimated.
    bytes: AtomicU64,
    /// The cache has forgotten it. Commands that wait for it still run in turn, and keep nothing.
    evicted: AtomicBool,
}

pub(super) struct Kept<A> {
    known: Option<Known<A>>,
    /// The version at which it was weighed.
    weighed: Version,
}

impl<A: Aggregate> Slots<A> {
    pub(super) fn new(size: AggregateCache) -> Self {
        let largest = if size.entries == 0 { 0 } else { size.bytes };
        let (entries, bytes) = match largest {
            0 => (QUEUES, QUEUES),
            bytes => (size.entries, bytes),
        };
        // Every entry counts for its share at least: so one limit bounds both bytes and entries.
        let share = bytes.div_ceil(entries);
        // The cache weighs in 32 bits: beyond 4 GiB it counts in more than one byte.
        let unit = bytes / u64::from(u32::MAX) + 1;
        let weigh = move |_: &Uuid, slot: &Arc<Slot<A>>| {
            let bytes = slot.bytes.load(Ordering::Relaxed);
            let held = if bytes > largest { 0 } else { bytes };
            u32::try_from(held.max(share).div_ceil(unit)).unwrap_or(u32::MAX)
        };
        let slots = Cache::builder()
            .max_capacity(bytes / unit)
            .weigher(weigh)
            .eviction_listener(|_, slot, cause| {
                if cause.was_evicted() {
                    slot.evict();
                }
            })
            .build();
        Self { slots, largest }
    }

    pub(super) fn of(&self, id: Uuid) -> Arc<Slot<A>> {
        self.slots.get_with(id, Arc::default)
    }

    /// Leaves `known` in its slot for the next command.
    ///
    /// It is weighed the first time and whenever its history has doubled: an aggregate seldom grows
    /// faster than its history, and weighing costs as much as writing its JSON.
    pub(super) fn keep(&self, id: Uuid, slot: &Arc<Slot<A>>, kept: &mut Kept<A>, known: Known<A>) {
        if self.largest == 0 {
            return;
        }
        let due = kept.weighed.get().saturating_mul(2).max(1);
        if known.version.get() >= due {
            kept.weighed = known.version;
            let bytes = estimate(&known.state);
            slot.bytes.store(bytes, Ordering::Relaxed);
            self.weigh_again(id, slot);
        }
        let fits = slot.bytes.load(Ordering::Relaxed) <= self.largest;
        if fits && !slot.evicted.load(Ordering::Relaxed) {
            kept.known = Some(known);
        }
    }

    /// The cache weighs what is put into it, at that time only. Another slot that has come in
    /// meanwhile, because this one was forgotten, stays: commands may be waiting for it.
    fn weigh_again(&self, id: Uuid, slot: &Arc<Slot<A>>) {
        let there = self.slots.get(&id);
        if there.is_none_or(|there| Arc::ptr_eq(&there, slot)) {
            slot.evicted.store(false, Ordering::Relaxed);
            self.slots.insert(id, Arc::clone(slot));
        }
        // It would let some hundred entries wait before it looks at its limit, however large they are.
        self.slots.run_pending_tasks();
    }
}

impl<A> fmt::Debug for Slots<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

impl<A> Slot<A> {
    /// Waits for its turn.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Kept<A>> {
        self.kept.lock().await
    }

    /// Frees the state now: the cache itself lets go of its entries some evictions later.
    fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        // Whoever has the lock has the state in hand.
        if let Ok(mut kept) = self.kept.try_lock() {
            kept.known = None;
        }
    }
}

impl<A> Default for Slot<A> {
    fn default() -> Self {
        Self {
            kept: Mutex::new(Kept {
                known: None,
                weighed: Version::EMPTY,
            }),
            bytes: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
        }
    }
}

impl<A> Kept<A> {
    /// Takes the state out: it comes back with [`Slots::keep`], when it is known to be true.
    pub(super) fn take(&mut self) -> Option<Known<A>> {
        self.known.take()
    }
}

/// What `state` takes in memory, roughly. One that has no JSON cannot be estimated.
fn estimate<A: Serialize>(state: &A) -> u64 {
    let mut json = Count(0);
    match serde_json::to_writer(&mut json, state) {
        Ok(()) => json.0 + size_of::<A>() as u64,
        Err(_) => u64::MAX,
    }
}

/// Counts what is written to it.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
