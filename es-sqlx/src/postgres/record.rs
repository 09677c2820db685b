//! Recording appends: a group in one statement, races asked again, bad ones sorted out.

use std::{
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

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

/// How long an append waits for somebody else's transaction before its caller is told to try later.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long it leaves its connection to others in between, at first and at last.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// Sizes of a group, as measured with 16 writers: with a second lane there are half as many appends in a
/// group, and a third less per second; so there is one, as long as it is not slow.
pub(super) const LIMITS: Limits = Limits {
    lanes: 1,
    appends: 64,
    events: 512,
    bytes: 4 << 20,
    slow: Some(Duration::from_millis(10)),
};

/// Records in transactions of its own, of one statement each.
#[derive(Clone)]
pub(super) struct PgRecorder {
    pub(super) pool: PgPool,
    /// For any number of appends.
    pub(super) sql: Arc<str>,
    /// For one that is alone.
    pub(super) single: Arc<single::Texts>,
    /// The inline projections that the program has declared.
    pub(super) declared: Arc<[String]>,
}

impl Recorder for PgRecorder {
    async fn group(&self, appends: &[Append]) -> Option<Vec<Answer>> {
        match self.ask(appends, Ask::GROUP).await {
            Ok(verdicts) => Some(verdicts.into_iter().zip(appends).map(answer).collect()),
            // What one of them has brought about must not fail the others, nor hold them up.
            Err(error) if !is_transient(&error) || is_in_the_way(&error) => None,
            // Together they may be too much for one message.
            Err(error) if is_connection_lost(&error) => None,
            Err(error) => Some(failed(appends, error).into_iter().map(Err).collect()),
        }
    }

    async fn alone(&self, append: &Append) -> Answer {
        let alone = slice::from_ref(append);
        let verdicts = match single::record(&self.pool, &self.single, append, &self.declared).await
        {
            Ok(Some(appended)) => return Ok(appended),
            // It was not recorded now, or nobody knows: the ids tell.
            Ok(None) => self.ask_patiently(alone, Ask::ALONE).await,
            Err(error)
                if lost_race(&error) || is_connection_lost(&error) || is_in_the_way(&error) =>
            {
                self.ask_patiently(alone, Ask::ALONE).await
            }
            Err(error) => Err(error),
        };
        let verdict = match verdicts {
            Ok(mut verdicts) => verdicts.pop(),
            Err(error) => failed(alone, error).pop().map(Verdict::Refused),
        };
        answer((verdict.unwrap_or(Verdict::Admitted), append))
    }
}

impl PgRecorder {
    /// All or none.
    pub(super) async fn together(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        match self.ask_patiently(appends, Ask::TOGETHER).await {
            Ok(verdicts) => all(verdicts, appends),
            // The first one speaks for all.
            Err(error) => failed(appends, error)
                .into_iter()
                .take(1)
                .map(Err)
                .collect(),
        }
    }

    /// Asks again while the transaction of somebody else stands in the way, and leaves the connection to
    /// others in between: those who have to wait must not take all there are.
    async fn ask_patiently(
        &self,
        appends: &[Append],
        how: Ask,
    ) -> Result<Vec<Verdict>, sqlx::Error> {
        let begun = Instant::now();
        let [mut pause, pause_max] = PAUSES;
        loop {
            match self.ask(appends, how).await {
                Err(error) if is_in_the_way(&error) && begun.elapsed() < WAIT_MAX => {}
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(pause_max);
        }
    }

    /// A lost connection is asked about once: the ids tell whether the first attempt was recorded.
    async fn ask(&self, appends: &[Append], mut how: Ask) -> Result<Vec<Verdict>, sqlx::Error> {
        let (mut races, mut lost) = (0, false);
        // A group that lost a race is better taken apart.
        let races_max = if appends.len() > 1 && !how.together {
            0
        } else {
            RACES_MAX
        };
        loop {
            let error = match ask(&self.pool, &self.sql, appends, &self.declared, how).await {
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
            how.look = true;
        }
    }
}

/// Whether somebody else's transaction made the statement give up: serialization_failure,
/// deadlock_detected, lock_not_available.
fn is_in_the_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40001" | "40P01" | "55P03"))
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
