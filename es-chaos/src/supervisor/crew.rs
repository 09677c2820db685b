//! The processes of a run: each has a slot, in which one follows the other.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use es_core::BoxError;
use tokio::time::Instant;

use crate::{
    args::{Backend, Plan},
    folder::Violations,
    process::{Process, Signal},
    schedule::Schedule,
};

/// A process that was told to stop has so long.
const GOODBYE: Duration = Duration::from_secs(20);
/// Before, a process may not hear a signal to stop.
const CHILDHOOD: Duration = Duration::from_secs(2);

/// All slots: first the daemons, then the writers.
pub(crate) struct Crew {
    slots: Vec<Slot>,
    backend: Backend,
    seed: u64,
    folder: PathBuf,
    url: String,
}

struct Slot {
    role: &'static str,
    state: State,
}

enum State {
    Down,
    Up {
        process: Process,
        since: Instant,
        frozen: bool,
    },
    Leaving {
        process: Process,
        since: Instant,
    },
}

impl Crew {
    pub(crate) fn new(plan: &Plan, folder: &Path, url: &str) -> Self {
        let daemons = (0..Schedule::DAEMONS).map(|_| "daemon");
        let writers = (0..Schedule::WRITERS).map(|_| "writer");
        let slot = |role| Slot {
            role,
            state: State::Down,
        };
        Self {
            slots: daemons.chain(writers).map(slot).collect(),
            backend: plan.backend,
            seed: plan.seed,
            folder: folder.to_owned(),
            url: url.to_owned(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn daemon(index: usize) -> usize {
        index
    }

    pub(crate) fn writer(index: usize) -> usize {
        Schedule::DAEMONS + index
    }

    /// Starts a process, unless there is one.
    pub(crate) fn start(
        &mut self,
        slot: usize,
        own_seed: u64,
        versions: u32,
        calm: bool,
    ) -> Result<(), BoxError> {
        let Slot { role, state } = &mut self.slots[slot];
        if !matches!(state, State::Down) {
            return Ok(());
        }
        let mut arguments = vec![
            (*role).to_owned(),
            format!("--backend={}", self.backend.name()),
            format!("--url={}", self.url),
            format!("--folder={}", self.folder.display()),
            format!("--seed={}", self.seed),
            format!("--own-seed={own_seed}"),
            format!("--versions={versions}"),
        ];
        if calm {
            arguments.push("--calm".to_owned());
        }
        let log = self.folder.join(format!("{role}-{slot}.log"));
        *state = State::Up {
            process: Process::start(&arguments, &log)?,
            since: Instant::now(),
            frozen: false,
        };
        Ok(())
    }

    /// Kills a process, also one that is frozen. Returns whether there was one.
    pub(crate) async fn kill(&mut self, slot: usize) -> Result<bool, BoxError> {
        let State::Up { process, .. } = &mut self.slots[slot].state else {
            return Ok(false);
        };
        process.signal(Signal::Kill).await?;
        process.wait().await?;
        self.slots[slot].state = State::Down;
        Ok(true)
    }

    /// Returns whether there was one to freeze.
    pub(crate) async fn freeze(&mut self, slot: usize) -> Result<bool, BoxError> {
        match &mut self.slots[slot].state {
            State::Up {
                process, frozen, ..
            } if !*frozen => {
                process.signal(Signal::Stop).await?;
                *frozen = true;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(crate) async fn thaw(&mut self, slot: usize) -> Result<(), BoxError> {
        if let State::Up {
            process, frozen, ..
        } = &mut self.slots[slot].state
        {
            process.signal(Signal::Continue).await?;
            *frozen = false;
        }
        Ok(())
    }

    /// Tells a process to stop in good order. Returns whether there was one that can hear it.
    pub(crate) async fn drain(&mut self, slot: usize) -> Result<bool, BoxError> {
        let state = &mut self.slots[slot].state;
        match std::mem::replace(state, State::Down) {
            State::Up {
                mut process,
                since,
                frozen: false,
            } if since.elapsed() > CHILDHOOD => {
                process.signal(Signal::Terminate).await?;
                *state = State::Leaving {
                    process,
                    since: Instant::now(),
                };
                Ok(true)
            }
            other => {
                *state = other;
                Ok(false)
            }
        }
    }

    /// The slots whose processes have ended as they were told; others are violations.
    pub(crate) fn ended(&mut self, violations: &Violations) -> Result<Vec<usize>, BoxError> {
        let mut ended = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let role = slot.role;
            match &mut slot.state {
                State::Down => {}
                State::Up { process, .. } => {
                    if let Some(status) = process.ended()? {
                        violations.report(&format!("{role} {index} ended by itself: {status}"));
                        slot.state = State::Down;
                    }
                }
                State::Leaving { process, since } => match process.ended()? {
                    Some(status) => {
                        if !status.success() {
                            violations.report(&format!("{role} {index} ended badly: {status}"));
                        }
                        slot.state = State::Down;
                        ended.push(index);
                    }
                    None if since.elapsed() > GOODBYE => {
                        violations.report(&format!("{role} {index} does not end"));
                        slot.state = State::Down;
                    }
                    None => {}
                },
            }
        }
        Ok(ended)
    }

    /// Whether no process is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| matches!(slot.state, State::Down))
    }
}
