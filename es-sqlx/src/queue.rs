//! Group commit: appends of one process that wait at the same time share a transaction.
//!
//! Nobody waits for company: an append that finds a free lane is on its way at once, alone. Those that
//! come while all lanes are busy go together with the next one.
//!
//! - In one group each stream occurs once, so a conflict of one append is no business of the others,
//!   and the appends of a stream are recorded in the order in which they came.
//! - Streams take turns: a hot one has one append in each group, like any other.
//! - The queue is bounded. Who finds it full waits before entering it.
//! - What waits is recorded even if its caller goes away, and before the store closes.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use es_core::{Append, AppendError, Appended};
use futures::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tracing::Instrument;
use uuid::Uuid;

/// How many appends may wait. Beyond this, more in the queue only makes each of them later.
const WAITING_MAX: usize = 1_024;

/// What one append is answered.
pub(crate) type Answer = Result<Appended, AppendError>;

/// Records groups of appends, each group in one transaction, each stream once in a group.
pub(crate) trait Recorder: Clone + Send + Sync + 'static {
    /// Whether dropping the future of [`record`](Self::record) records everything or nothing and leaves
    /// no mess. Then an append that finds nobody waiting needs no task of its own.
    const MAY_BE_DROPPED: bool;

    /// Answers each of `group`, in the same order. An append that is refused must not touch the others.
    fn record(&self, group: Vec<Append>) -> impl Future<Output = Vec<Answer>> + Send;
}

/// How large a group may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many groups are recorded at the same time.
    pub(crate) lanes: usize,
    /// Appends of one group.
    pub(crate) appends: usize,
    /// Events of one group; an append that has more by itself goes alone.
    pub(crate) events: usize,
}

/// The appends that wait, and those who record them.
pub(crate) struct Queue<R> {
    recorder: R,
    limits: Limits,
    state: Arc<Mutex<State>>,
    room: Arc<Semaphore>,
}

impl<R: Clone> Clone for Queue<R> {
    fn clone(&self) -> Self {
        Self {
            recorder: self.recorder.clone(),
            limits: self.limits,
            state: Arc::clone(&self.state),
            room: Arc::clone(&self.room),
        }
    }
}

#[derive(Default)]
struct State {
    /// Streams whose next append may go, in turn.
    ready: VecDeque<Uuid>,
    /// What waits of each stream that is ready or under way.
    streams: HashMap<Uuid, VecDeque<Waiting>>,
    lanes_busy: usize,
}

struct Waiting {
    append: Append,
    answer: oneshot::Sender<Answer>,
    /// Its place in the queue, free again when it has been answered.
    room: OwnedSemaphorePermit,
}

impl<R: Recorder> Queue<R> {
    pub(crate) fn new(recorder: R, limits: Limits) -> Self {
        Self {
            recorder,
            limits,
            state: Arc::default(),
            room: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Queues `append` and waits for its answer, which is `None` if the runtime stopped before there
    /// was one. Dropping the future records everything or nothing.
    pub(crate) async fn append(&self, append: Append) -> Option<Answer> {
        let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
        if R::MAY_BE_DROPPED
            && let Some(_alone) = Alone::enter(self, append.stream.aggregate_id)
        {
            return self.recorder.record(vec![append]).await.pop();
        }
        let (answer, answered) = oneshot::channel();
        self.enter(Waiting {
            append,
            answer,
            room,
        });
        answered.await.ok()
    }

    /// Lets nobody in any more, and waits until everybody inside has been answered.
    pub(crate) async fn close(&self) {
        let everything = u32::try_from(WAITING_MAX).unwrap_or(u32::MAX);
        // It fails only if another call has closed the queue.
        let _all = self.room.acquire_many(everything).await;
        self.room.close();
    }

    fn enter(&self, waiting: Waiting) {
        let mut state = self.state();
        let stream = waiting.append.stream.aggregate_id;
        match state.streams.entry(stream) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back(waiting),
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::from([waiting]));
                state.ready.push_back(stream);
            }
        }
        if !state.ready.is_empty() && state.lanes_busy < self.limits.lanes {
            state.lanes_busy += 1;
            drop(state);
            self.open_lane();
        }
    }

    /// The lane has been counted as busy.
    fn open_lane(&self) {
        let lane = Lane {
            queue: self.clone(),
            left: false,
        };
        tokio::spawn(async move { lane.run().await }.in_current_span());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is done before the next thing that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An append that found nobody waiting, and has a lane for itself. Dropped, it leaves the lane to those
/// who came meanwhile.
struct Alone<'a, R: Recorder> {
    queue: &'a Queue<R>,
    stream: Uuid,
}

impl<'a, R: Recorder> Alone<'a, R> {
    fn enter(queue: &'a Queue<R>, stream: Uuid) -> Option<Self> {
        let mut state = queue.state();
        let is_free = state.lanes_busy < queue.limits.lanes && state.ready.is_empty();
        if !is_free || state.streams.contains_key(&stream) {
            return None;
        }
        state.lanes_busy += 1;
        state.streams.insert(stream, VecDeque::new());
        Some(Self { queue, stream })
    }
}

impl<R: Recorder> Drop for Alone<'_, R> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.give_back(self.stream);
        if state.ready.is_empty() || Handle::try_current().is_err() {
            state.lanes_busy -= 1;
        } else {
            drop(state);
            self.queue.open_lane();
        }
    }
}

/// One of those who record. It ends when nothing is ready, and the next append starts another one.
struct Lane<R: Recorder> {
    queue: Queue<R>,
    left: bool,
}

impl<R: Recorder> Lane<R> {
    async fn run(mut self) {
        while let Some(group) = self.next() {
            let turn = Turn {
                queue: &self.queue,
                streams: group.iter().map(Waiting::stream).collect(),
            };
            let (appends, callers): (Vec<_>, Vec<_>) = group
                .into_iter()
                .map(|waiting| (waiting.append, (waiting.answer, waiting.room)))
                .unzip();
            let recording = self.queue.recorder.record(appends);
            // After a panic (of a projection, say) the callers hear that it stopped; others go on.
            let recorded = AssertUnwindSafe(recording).catch_unwind().await;
            // The next append of each stream may go before its caller hears of this one.
            drop(turn);
            for ((answer, _room), recorded) in callers.into_iter().zip(recorded.unwrap_or_default())
            {
                // A caller who has gone away does not want to know.
                let _ = answer.send(recorded);
            }
        }
    }

    /// The next group. With nothing to do the lane is left under the same lock: who comes now starts
    /// another one.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.queue.state();
        let group = state.take(&self.queue.limits);
        if group.is_empty() {
            state.lanes_busy -= 1;
            self.left = true;
            return None;
        }
        Some(group)
    }
}

/// A runtime that stops drops its tasks half-way; the store may live on in another one.
impl<R: Recorder> Drop for Lane<R> {
    fn drop(&mut self) {
        if !self.left {
            self.queue.state().lanes_busy -= 1;
        }
    }
}

/// Streams that are under way. Dropped, they are ready again or forgotten.
struct Turn<'a, R: Recorder> {
    queue: &'a Queue<R>,
    streams: Vec<Uuid>,
}

impl<R: Recorder> Drop for Turn<'_, R> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        for stream in self.streams.drain(..) {
            state.give_back(stream);
        }
    }
}

impl Waiting {
    fn stream(&self) -> Uuid {
        self.append.stream.aggregate_id
    }
}

impl State {
    /// The first append of each of the streams whose turn it is. At least one if any is ready.
    fn take(&mut self, limits: &Limits) -> Vec<Waiting> {
        let mut group: Vec<Waiting> = Vec::new();
        let mut events = 0;
        while group.len() < limits.appends
            && let Some(stream) = self.ready.front()
        {
            let Some(queue) = self.streams.get_mut(stream) else {
                self.ready.pop_front();
                continue;
            };
            events += queue.front().map_or(0, |next| next.append.events.len());
            if !group.is_empty() && events > limits.events {
                break;
            }
            group.extend(queue.pop_front());
            self.ready.pop_front();
        }
        group
    }

    fn give_back(&mut self, stream: Uuid) {
        let waits = self
            .streams
            .get(&stream)
            .is_some_and(|queue| !queue.is_empty());
        if waits {
            self.ready.push_back(stream);
        } else {
            self.streams.remove(&stream);
        }
    }
}
