//! A command: decide on what is known, see that the state can take it, and append.

use uuid::Uuid;

use super::{
    Repository, SaveError, UpdateError,
    load::{self, Known},
};
use crate::{
    Aggregate, AppendError, Appended, ExpectedVersion, IntoEvents, LoadError, NewEvent, StreamId,
};

impl<A: Aggregate> Repository<A> {
    pub(super) async fn run<I, E, F>(
        &self,
        id: Uuid,
        mut decide: F,
    ) -> Result<Option<Appended>, UpdateError<E>>
    where
        F: FnMut(&A) -> Result<I, E>,
        I: IntoEvents<A>,
    {
        let stream = self.stream(id);
        let slot = self.slots.of(id);
        let mut kept = slot.lock().await;
        // The state leaves its slot, and comes back when it is known to be true: whatever fails or is
        // dropped in between costs the next command a read, no more.
        let (mut known, mut fresh) = match kept.take() {
            Some(known) => (known, false),
            None => (self.read(&stream).await?, true),
        };
        let mut attempt = 0;
        loop {
            let decided = decide(&known.state).map(I::into_events);
            let nothing = decided.as_ref().map_or(true, Vec::is_empty);
            if nothing && !fresh {
                // Nothing will be appended, so no expected version would tell that the stream has
                // moved: look, and decide on what is there.
                drop(decided);
                known = self.catch_up(&stream, known).await?;
                fresh = true;
                continue;
            }
            if nothing {
                self.slots.keep(id, &slot, &mut kept, known);
                return decided.map(|_| None).map_err(UpdateError::Rejected);
            }
            let events = decided.map_err(UpdateError::Rejected)?;
            let before = known.version;
            let encoded = encode::<A>(&stream, &events)?;
            // Before anything is recorded, and as it will be read: an event that cannot be, or that the
            // state panics over, would stand in the way of every load from then on.
            let state = evolved(&stream, known.state, &encoded)?;
            let expected = ExpectedVersion::Exact(before);
            match self.store.append(&stream, expected, &encoded).await {
                Ok(appended) => {
                    let version = appended.version;
                    let snapshot = self.due_snapshot(&stream, before, version, &state);
                    let known = Known { state, version };
                    self.slots.keep(id, &slot, &mut kept, known);
                    // The next command need not wait for the snapshot.
                    drop(kept);
                    self.keep_snapshot(snapshot).await;
                    return Ok(Some(appended));
                }
                // A conflict that only tells that the kept state is old does not count.
                Err(AppendError::Conflict { .. }) if !fresh || attempt < self.retries => {
                    attempt += u32::from(fresh);
                    tracing::debug!(%stream, attempt, "conflict, deciding again");
                    known = self.read(&stream).await?;
                    fresh = true;
                }
                Err(error) => return Err(SaveError::from(error).into()),
            }
        }
    }
}

impl<A: Aggregate> Repository<A> {
    pub(super) async fn read(&self, stream: &StreamId) -> Result<Known<A>, LoadError> {
        load::latest(&*self.store, stream, self.snapshot_every.is_some()).await
    }

    async fn catch_up(&self, stream: &StreamId, known: Known<A>) -> Result<Known<A>, LoadError> {
        if let Some(known) = load::catch_up(&*self.store, stream, known).await? {
            return Ok(known);
        }
        tracing::warn!(%stream, "the stream has become shorter (restored from a backup?), reading it afresh");
        self.read(stream).await
    }
}

fn encode<A: Aggregate>(
    stream: &StreamId,
    events: &[A::Event],
) -> Result<Vec<NewEvent>, SaveError> {
    let encode = |event| {
        NewEvent::encode_set(event).map_err(|source| SaveError::Encode {
            stream: stream.clone(),
            source,
        })
    };
    events.iter().map(encode).collect()
}

fn evolved<A: Aggregate>(
    stream: &StreamId,
    mut state: A,
    events: &[NewEvent],
) -> Result<A, SaveError> {
    for event in events {
        let event = event.read_back().map_err(|source| SaveError::Unreadable {
            stream: stream.clone(),
            source,
        })?;
        state
            .evolve(&event)
            .map_err(|source| SaveError::Misplaced {
                stream: stream.clone(),
                source,
            })?;
    }
    Ok(state)
}
