//! Recording appends: a group in one statement, races asked again, bad ones sorted out.

use std::{slice, sync::Arc};

use es_core::{Append, AppendError, Appended};
use sqlx::PgPool;

use super::{
    append::{Ask, Verdict, ask, failed, lost_race},
    single,
};
use crate::{
    error::{is_connection_lost, is_transient},
    queue::{Answer, Limits, Recorder},
};

/// How often one append may lose a race before its caller is told to try later. Each loss means that
/// another writer has won.
const RACES_MAX: u32 = 100;

/// Sizes of a group, as measured with 16 writers: with a second lane there are half as many appends in a
/// group, and a third less per second; so there is one, as long as it is not slow.
pub(super) const LIMITS: Limits = Limits {
    lanes: 1,
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

    async fn group(&self, appends: &[Append]) -> Option<Vec<Answer>> {
        match self.ask(appends, Ask::GROUP).await {
            Ok(verdicts) => Some(verdicts.into_iter().zip(appends).map(answer).collect()),
            // What one of them has brought about must not fail the others, nor hold them up.
            Err(error) if !is_transient(&error) || is_locked(&error) => None,
            Err(error) => Some(failed(appends, error).into_iter().map(Err).collect()),
        }
    }

    async fn alone(&self, append: &Append) -> Answer {
        if let Ok(Some(appended)) = single::record(&self.pool, &self.single, append).await {
            return Ok(appended);
        }
        // It finds out why, also after an error: the ids tell what has been recorded.
        let alone = slice::from_ref(append);
        let verdict = match self.ask(alone, Ask::ALONE).await {
            Ok(mut verdicts) => verdicts.pop(),
            Err(error) => failed(alone, error).pop().map(Verdict::Refused),
        };
        answer((verdict.unwrap_or(Verdict::Admitted), append))
    }
}

impl PgRecorder {
    /// All or none.
    pub(super) async fn together(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        match self.ask(appends, Ask::TOGETHER).await {
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
    async fn ask(&self, appends: &[Append], mut how: Ask) -> Result<Vec<Verdict>, sqlx::Error> {
        let (mut races, mut lost) = (0, false);
        loop {
            let error = match ask(&self.pool, &self.sql, appends, how).await {
                Ok(verdicts) => return Ok(verdicts),
                Err(error) => error,
            };
            // A group that lost a race is better taken apart.
            let races_max = if how.patience.is_some() { 0 } else { RACES_MAX };
            if lost_race(&error) && races < races_max {
                races += 1;
            } else if is_connection_lost(&error) && !lost {
                lost = true;
            } else {
                return Err(error);
            }
            how.look = true;
        }
    }
}

/// Whether the statement gave up waiting for somebody's lock: lock_not_available.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("55P03")
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
