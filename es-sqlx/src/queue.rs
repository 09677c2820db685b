//! Group commit: appends of one process that wait at the same time share a transaction.
//!
//! Nobody waits for company: an append that finds a free lane is on its way at once, alone. Those that
//! come while all lanes are busy go together with the next one.
//!
//! - In one group each stream occurs once, so a conflict of one append is no business of the others,
//!   and the appends of a stream are recorded in the order in which they came.
//! - An append that takes long (a large one, or one that waits for somebody else's transaction) gives its
//!   lane to the others.
//! - Streams take turns: a hot one has one append in each group, like any other.
//! - The queue is bounded. Who finds it full waits before entering it.
//! - What waits is recorded even if its caller goes away, and before the store closes.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use es_core::{Append, AppendError, Appended};
use futures::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::yield_now,
    time::timeout,
};
use tracing::Instrument;
use uuid::Uuid;

/// How many appends may wait. Beyond this, more in the queue only makes each of them later.
const WAITING_MAX: usize = 1_024;

/// How often one who waits sees to it that somebody is at work: lanes may end with the runtime of others.
const NUDGE: Duration = Duration::from_millis(100);

/// What one append is answered.
pub(crate) type Answer = Result<Appended, AppendError>;

/// Records appends.
pub(crate) trait Recorder: Clone + Send + Sync + 'static {
    /// Records appends to different streams in one transaction and answers each, in the same order. One
    /// that is refused must not touch the others. `None` if nothing was recorded because one of them
    /// stood in the way: then each is recorded alone.
    fn group(&self, appends: &[Append]) -> impl Future<Output = Option<Vec<Answer>>> + Send;

    /// Records one append.
    fn alone(&self, append: &Append) -> impl Future<Output = Answer> + Send;
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
    /// Bytes of content of one group, likewise.
    pub(crate) bytes: usize,
    /// From then on others need not wait for a lane that is busy, with a large append or one that has to
    /// wait for the transaction of somebody else. `None` where another lane would have to wait as well.
    pub(crate) slow: Option<Duration>,
}

impl Limits {
    /// Runs to the end, and says so if that takes long.
    async fn run<F: Future>(&self, recording: F, is_slow: impl FnOnce()) -> F::Output {
        let mut recording = pin!(recording);
        if let Some(slow) = self.slow {
            if let Ok(output) = timeout(slow, &mut recording).await {
                return output;
            }
            is_slow();
        }
        recording.await
    }
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
    /// was one. Once it is queued a task records it, also if this future is not polled any more: nobody
    /// else waits for it then.
    pub(crate) async fn append(&self, append: Append) -> Option<Answer> {
        let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
        let (answer, mut answered) = oneshot::channel();
        self.enter(Waiting {
            append,
            answer,
            room,
        });
        loop {
            match timeout(NUDGE, &mut answered).await {
                Ok(answer) => return answer.ok(),
                // A runtime that stopped may have taken the lane with it.
                Err(_) => self.call_lane(),
            }
        }
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
        drop(state);
        self.call_lane();
    }

    /// Sees to it that what is ready is recorded.
    fn call_lane(&self) {
        let mut state = self.state();
        // Where there is no runtime nobody can be waiting any more.
        if state.ready.is_empty()
            || state.lanes_busy >= self.limits.lanes
            || Handle::try_current().is_err()
        {
            return;
        }
        state.lanes_busy += 1;
        drop(state);
        let lane = Lane {
            queue: self.clone(),
            left: false,
        };
        tokio::spawn(async move { lane.run().await }.in_current_span());
    }

    fn leave_lane(&self) {
        self.state().lanes_busy -= 1;
        self.call_lane();
    }

    /// One of a group that could not be recorded together. It holds up nobody but its own stream.
    fn apart(&self, waiting: Waiting) {
        let queue = self.clone();
        let alone = async move {
            let turn = Turn {
                queue: &queue,
                streams: vec![waiting.stream()],
            };
            let answer = queue.recorder.alone(&waiting.append).await;
            drop(turn);
            let _ = waiting.answer.send(answer);
        };
        tokio::spawn(alone.in_current_span());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is done before the next thing that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those who record. It ends when nothing is ready, and the next append starts another one.
struct Lane<R: Recorder> {
    queue: Queue<R>,
    left: bool,
}

impl<R: Recorder> Lane<R> {
    async fn run(mut self) {
        while !self.left
            && let Some(group) = self.next()
        {
            let mut turn = Turn {
                queue: &self.queue.clone(),
                streams: group.iter().map(Waiting::stream).collect(),
            };
            let (appends, callers): (Vec<_>, Vec<_>) = group
                .into_iter()
                .map(|waiting| (waiting.append, (waiting.answer, waiting.room)))
                .unzip();
            match self.record(&appends).await {
                Some(answers) => {
                    // The next append of each stream may go before its caller hears of this one.
                    drop(turn);
                    let were_several = callers.len() > 1;
                    for ((answer, _room), recorded) in callers.into_iter().zip(answers) {
                        // A caller who has gone away does not want to know.
                        let _ = answer.send(recorded);
                    }
                    if were_several {
                        // Those who are ready to run may have their next append ready at once. Else the
                        // first of them would go alone, and all others after it.
                        yield_now().await;
                    }
                }
                None => {
                    turn.streams.clear();
                    for (append, (answer, room)) in appends.into_iter().zip(callers) {
                        self.queue.apart(Waiting {
                            append,
                            answer,
                            room,
                        });
                    }
                }
            }
        }
    }

    /// After a panic there are no answers: the callers hear that it stopped, and others go on.
    async fn record(&mut self, appends: &[Append]) -> Option<Vec<Answer>> {
        let recorder = self.queue.recorder.clone();
        let recording = async {
            match appends {
                [append] => Some(vec![recorder.alone(append).await]),
                appends => recorder.group(appends).await,
            }
        };
        let recording = AssertUnwindSafe(recording).catch_unwind();
        let limits = self.queue.limits;
        let recorded = limits.run(recording, || self.leave()).await;
        recorded.unwrap_or_else(|_| Some(Vec::new()))
    }

    fn leave(&mut self) {
        self.left = true;
        self.queue.leave_lane();
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
        self.queue.state().lanes_busy -= usize::from(!self.left);
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
        drop(state);
        // No lane may be open any more: this one was slow, or none of its own.
        self.queue.call_lane();
    }
}

impl Waiting {
    fn stream(&self) -> Uuid {
        self.append.stream.aggregate_id
    }

    fn bytes(&self) -> usize {
        let events = self.append.events.iter();
        events.map(|event| event.event_data.as_str().len()).sum()
    }
}

impl State {
    /// The first append of each of the streams whose turn it is. At least one if any is ready.
    fn take(&mut self, limits: &Limits) -> Vec<Waiting> {
        let mut group: Vec<Waiting> = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while group.len() < limits.appends
            && let Some(stream) = self.ready.front()
        {
            let Some(queue) = self.streams.get_mut(stream) else {
                self.ready.pop_front();
                continue;
            };
            if let Some(next) = queue.front() {
                events += next.append.events.len();
                bytes += next.bytes();
            }
            let is_full = events > limits.events || bytes > limits.bytes;
            if is_full && !group.is_empty() {
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
