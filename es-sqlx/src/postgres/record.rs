//! Recording appends: a group in one statement, races asked again, bad ones sorted out.

use std::{slice, sync::Arc};

use es_core::{Append, AppendError, Appended};
use sqlx::PgPool;

use super::{
    append::{Verdict, ask, failed, lost_race},
    single,
};
use crate::{
    error::{is_connection_lost, is_transient},
    queue::{Answer, Limits, Recorder},
};

/// How often one append may lose a race before its caller is told to try later. Each loss means that
/// another writer has won.
const RACES_MAX: u32 = 100;

/// Sizes of a group, as measured: a second lane keeps the server busy while the first one waits for
/// the disk; more lanes only make the groups smaller.
pub(super) const LIMITS: Limits = Limits {
    lanes: 2,
    appends: 64,
    events: 512,
};

/// Records in transactions of its own, of one statement each.
#[derive(Clone)]
pub(super) struct PgRecorder {
    pub(super) pool: PgPool,
    /// For any number of appends.
    pub(super) sql: Arc<str>,
    /// For one that is alone.
    pub(super) single: Arc<single::Texts>,
}

impl Recorder for PgRecorder {
    /// Each statement is a transaction, which the server ends by itself.
    const MAY_BE_DROPPED: bool = true;

    async fn record(&self, group: Vec<Append>) -> Vec<Answer> {
        if let [append] = group.as_slice() {
            if let Ok(Some(appended)) = single::record(&self.pool, &self.single, append).await {
                return vec![Ok(appended)];
            }
            // It finds out why, also after an error: the ids tell what has been recorded.
            return vec![self.alone(append).await];
        }
        match self.ask(&group, false, false, 1).await {
            Ok(verdicts) => verdicts.into_iter().zip(&group).map(answer).collect(),
            Err(error) if is_transient(&error) => {
                failed(&group, error).into_iter().map(Err).collect()
            }
            // What one of them has brought about must not fail the others.
            Err(_) => {
                let mut answers = Vec::with_capacity(group.len());
                for append in &group {
                    answers.push(self.alone(append).await);
                }
                answers
            }
        }
    }
}

impl PgRecorder {
    async fn alone(&self, append: &Append) -> Answer {
        let alone = slice::from_ref(append);
        let verdict = match self.ask(alone, true, false, RACES_MAX).await {
            Ok(mut verdicts) => verdicts.pop(),
            Err(error) => failed(alone, error).pop().map(Verdict::Refused),
        };
        answer((verdict.unwrap_or(Verdict::Admitted), append))
    }

    /// All or none.
    pub(super) async fn together(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        match self.ask(appends, false, true, RACES_MAX).await {
            Ok(verdicts) => all(verdicts, appends),
            // The first one speaks for all.
            Err(error) => failed(appends, error)
                .into_iter()
                .take(1)
                .map(Err)
                .collect(),
        }
    }

    /// A lost connection is asked about once: the ids tell whether the first attempt was recorded.
    async fn ask(
        &self,
        appends: &[Append],
        mut look: bool,
        together: bool,
        races_max: u32,
    ) -> Result<Vec<Verdict>, sqlx::Error> {
        let (mut races, mut lost) = (0, false);
        loop {
            let error = match ask(&self.pool, &self.sql, appends, look, together).await {
                Ok(verdicts) => return Ok(verdicts),
                Err(error) => error,
            };
            if lost_race(&error) && races < races_max {
                races += 1;
            } else if is_connection_lost(&error) && !lost {
                lost = true;
            } else {
                return Err(error);
            }
            look = true;
        }
    }
}

fn answer((verdict, append): (Verdict, &Append)) -> Answer {
    match verdict {
        Verdict::Recorded(appended) | Verdict::Repeated(appended) => Ok(appended),
        Verdict::Refused(error) => Err(error),
        Verdict::Admitted => Err(unanswered(append)),
    }
}

/// One answer for appends that belong together: nothing was recorded unless all were.
pub(super) fn all(
    verdicts: Vec<Verdict>,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let mut repeated = None;
    let mut done = Vec::with_capacity(verdicts.len());
    for (verdict, append) in verdicts.into_iter().zip(appends) {
        match verdict {
            Verdict::Recorded(appended) => done.push(appended),
            Verdict::Repeated(appended) => {
                repeated = repeated.or(append.events.first().map(|event| (append, event.event_id)));
                done.push(appended);
            }
            Verdict::Refused(error) => return Err(error),
            Verdict::Admitted => {}
        }
    }
    match repeated {
        _ if done.len() == appends.len() => Ok(done),
        // Some were recorded before, others never.
        Some((append, event_id)) => Err(AppendError::DuplicateId {
            stream: append.stream.clone(),
            event_id,
        }),
        None => appends
            .iter()
            .take(1)
            .map(|append| Err(unanswered(append)))
            .collect(),
    }
}

/// The queue gave no answer: the runtime stops, the store is closed, or something panicked.
pub(super) fn stopped(append: &Append) -> AppendError {
    AppendError::Backend {
        stream: append.stream.clone(),
        count: append.events.len(),
        transient: false,
        source: "the store is closed, or the runtime stops".into(),
    }
}

/// Cannot happen while the statement is what it is; the caller may repeat the append safely.
fn unanswered(append: &Append) -> AppendError {
    AppendError::Backend {
        stream: append.stream.clone(),
        count: append.events.len(),
        transient: true,
        source: "the database gave no answer".into(),
    }
}
