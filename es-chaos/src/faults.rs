//! Handlers that fail at random, as the seed says.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use es_core::{BoxError, RecordedEvent};
use fastrand::Rng;

use crate::folder;

/// What each injected error begins with: any other error of a handler is a violation.
pub(crate) const INJECTED: &str = "injected";

/// What is to fail in one projection of one process.
#[derive(Debug)]
pub(crate) struct Faults {
    folder: PathBuf,
    /// `None` if nothing is to fail.
    rng: Option<Mutex<Rng>>,
    slow: Duration,
}

impl Faults {
    pub(crate) fn none(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            rng: None,
            slow: Duration::ZERO,
        }
    }

    /// One batch in a hundred fails, another takes up to `slow`.
    pub(crate) fn seeded(folder: &Path, seed: u64, slow: Duration) -> Self {
        Self {
            folder: folder.to_owned(),
            rng: Some(Mutex::new(Rng::with_seed(seed))),
            slow,
        }
    }

    /// The last step of a handler, so that there is something to roll back.
    pub(crate) async fn strike<'a>(
        &self,
        events: impl Iterator<Item = &'a RecordedEvent>,
    ) -> Result<(), BoxError> {
        let Some(rng) = &self.rng else {
            return Ok(());
        };
        let poisoned = folder::poison(&self.folder)?;
        if let Some(event) = events
            .into_iter()
            .find(|e| poisoned.contains(&e.aggregate_id))
        {
            return Err(format!("{INJECTED}: aggregate {} is poisoned", event.aggregate_id).into());
        }
        let (roll, slow) = {
            let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
            (rng.u8(..100), self.slow.mul_f64(rng.f64()))
        };
        match roll {
            0 => Err(format!("{INJECTED}: a passing failure").into()),
            1 => {
                tokio::time::sleep(slow).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
