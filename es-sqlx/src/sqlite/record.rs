//! Recording appends: a group in one transaction of two trips, bad ones sorted out one by one.

use std::{slice, sync::Arc};

use es_core::{Append, AppendError, Appended};
use sqlx::SqliteConnection;

use super::{
    admit::{Admission, Begin, Facts, Ids, ask},
    inline,
    insert::{Admitted, Around, insert},
    lone,
    writer::{Raw, Writer},
};
use crate::{
    error::is_transient,
    queue::{Answer, Limits, Recorder},
};

/// There is one writer. Larger groups gain little and make each of their appends later.
pub(super) const LIMITS: Limits = Limits {
    lanes: 1,
    appends: 64,
    events: 1_000,
    bytes: 4 << 20,
    slow: None,
};

const COMMIT: &str = "COMMIT";
pub(super) const RELEASE: &str = "RELEASE es_append";
const UNDO: &str = "ROLLBACK TO es_append; RELEASE es_append";

#[derive(Clone)]
pub(super) struct SqliteRecorder(pub(super) Arc<Writer>);

impl Recorder for SqliteRecorder {
    async fn group(&self, appends: &[Append]) -> Option<Vec<Answer>> {
        match self.transaction(appends, Ids::First).await {
            Ok(answers) => Some(answers),
            Err(error) if is_transient(&error) => Some(failed(appends, error).map(Err).collect()),
            // What one of them has brought about must not fail the others.
            Err(_) => None,
        }
    }

    async fn alone(&self, append: &Append) -> Answer {
        match self.lone(append).await {
            Ok(Some(answer)) => return answer,
            Err(error) if is_transient(&error) => return Err(one_failed(append, error)),
            // What stood in the way is found out below.
            Ok(None) | Err(_) => {}
        }
        let alone = slice::from_ref(append);
        let recorded = match self.transaction(alone, Ids::First).await {
            Err(error) if is_taken(&error) => self.transaction(alone, Ids::All).await,
            recorded => recorded,
        };
        match recorded {
            Ok(mut answers) => answers.swap_remove(0),
            Err(error) => Err(one_failed(append, error)),
        }
    }
}

impl SqliteRecorder {
    /// In one trip, if it is a simple one.
    async fn lone(&self, append: &Append) -> Result<Option<Answer>, sqlx::Error> {
        if !self.0.inline.is_empty() {
            return Ok(None);
        }
        let mut raw = self.0.acquire().await?;
        match lone::record(raw.db(), append).await {
            Ok(recorded) => {
                raw.committed();
                if let Some(Ok(appended)) = &recorded {
                    self.0.push(appended.position);
                }
                Ok(recorded)
            }
            Err(error) => {
                raw.roll_back().await;
                Err(error)
            }
        }
    }

    /// The outer error is that of the whole transaction: nothing was recorded, unless the commit failed.
    async fn transaction(&self, appends: &[Append], ids: Ids) -> Result<Vec<Answer>, sqlx::Error> {
        let mut raw = self.0.acquire().await?;
        match record(&self.0, raw.db(), appends, ids).await {
            Ok(answers) => {
                raw.committed();
                let positions = answers.iter().flatten().map(|appended| appended.position);
                self.0.push(positions.max().unwrap_or_default());
                Ok(answers)
            }
            Err(error) => {
                raw.roll_back().await;
                Err(error)
            }
        }
    }
}

/// All or none.
pub(super) async fn together(
    mut raw: Raw,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let writer = raw.writer();
    match all_and_commit(&writer, &mut raw, appends).await {
        Ok(appended) => {
            raw.committed();
            let positions = appended.iter().map(|appended| appended.position);
            writer.push(positions.max().unwrap_or_default());
            Ok(appended)
        }
        Err(error) => {
            raw.roll_back().await;
            Err(error)
        }
    }
}

async fn all_and_commit(
    writer: &Writer,
    raw: &mut Raw,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let appended = all(writer, raw.db(), Begin::Immediate, appends).await?;
    let committed = run(raw.db(), COMMIT).await;
    committed.map_err(|error| first_failed(appends, error))?;
    Ok(appended)
}

/// Ends with `COMMIT` if it succeeds.
async fn record(
    writer: &Writer,
    db: &mut SqliteConnection,
    appends: &[Append],
    ids: Ids,
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut facts = ask(db, Begin::Immediate, appends, ids).await?;
    let projections = inline::active(&writer.inline, &facts.inline);
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(appends.len());
    let mut admitted = Vec::with_capacity(appends.len());
    for (index, append) in appends.iter().enumerate() {
        let admission = match &projections {
            Ok(_) => facts.admit(index, append),
            Err(left_out) => Err(left_out.refuse(append)),
        };
        answers.push(match admission {
            Ok(Admission::At(after)) => {
                admitted.push(Admitted { append, after });
                None
            }
            Ok(Admission::Repeated(first)) => Some(Ok(first)),
            Err(error) => Some(Err(error)),
        });
    }
    let projections = projections.unwrap_or_default();
    let recorded: Vec<Answer> = if admitted.is_empty() {
        run(db, COMMIT).await?;
        Vec::new()
    } else if projections.is_empty() {
        let appended = insert(db, &mut facts.head, &admitted, Around::Commit).await?;
        appended.into_iter().map(Ok).collect()
    } else {
        let recorded = each(db, &mut facts, &admitted, &projections).await?;
        run(db, COMMIT).await?;
        recorded
    };
    let mut recorded = recorded.into_iter();
    Ok(answers
        .into_iter()
        .filter_map(|answer| answer.or_else(|| recorded.next()))
        .collect())
}

/// Each in a savepoint: a projection that fails undoes only the append it ran in.
async fn each(
    db: &mut SqliteConnection,
    facts: &mut Facts,
    admitted: &[Admitted<'_>],
    projections: &inline::Active<'_>,
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut answers = Vec::with_capacity(admitted.len());
    for append in admitted {
        let before = facts.head.position;
        let alone = slice::from_ref(append);
        let appended = insert(db, &mut facts.head, alone, Around::Savepoint).await?;
        match inline::project(db, projections, &facts.head, alone, &appended).await {
            Ok(()) => {
                run(db, RELEASE).await?;
                answers.extend(appended.into_iter().map(Ok));
            }
            Err(error) => {
                sqlx::raw_sql(UNDO).execute(&mut *db).await?;
                facts.head.position = before;
                answers.push(Err(error));
            }
        }
    }
    Ok(answers)
}

/// Records all of `appends` or none of them, in a transaction that the caller ends, or in a savepoint,
/// which is ended here: then an error leaves everything as it was.
pub(super) async fn all(
    writer: &Writer,
    db: &mut SqliteConnection,
    begin: Begin,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let result = all_inside(writer, db, begin, appends).await;
    if begin != Begin::Savepoint {
        return result;
    }
    let ended = match &result {
        Ok(_) => run(db, RELEASE).await,
        // Where SQLite has ended the transaction by itself there is no savepoint any more.
        Err(_) => sqlx::raw_sql(UNDO).execute(db).await.map(drop),
    };
    match (&result, ended) {
        (Err(AppendError::Backend { .. }), _) | (_, Ok(())) => result,
        (_, Err(error)) => Err(first_failed(appends, error)),
    }
}

async fn all_inside(
    writer: &Writer,
    db: &mut SqliteConnection,
    begin: Begin,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let failed = |error| first_failed(appends, error);
    let mut facts = ask(db, begin, appends, Ids::All).await.map_err(failed)?;
    let projections = inline::active(&writer.inline, &facts.inline)
        .map_err(|left_out| left_out.refuse(&appends[0]))?;
    let mut admitted = Vec::with_capacity(appends.len());
    let mut repeated = Vec::new();
    for (index, append) in appends.iter().enumerate() {
        match facts.admit(index, append)? {
            Admission::At(after) => admitted.push(Admitted { append, after }),
            Admission::Repeated(first) => repeated.push((append, first)),
        }
    }
    if admitted.is_empty() {
        return Ok(repeated.into_iter().map(|(_, first)| first).collect());
    }
    if let Some((append, _)) = repeated.first() {
        // Some were recorded before, others never.
        return Err(AppendError::DuplicateId {
            stream: append.stream.clone(),
            event_id: append.events[0].event_id,
        });
    }
    let appended = insert(db, &mut facts.head, &admitted, Around::Nothing)
        .await
        .map_err(failed)?;
    inline::project(db, &projections, &facts.head, &admitted, &appended).await?;
    Ok(appended)
}

pub(super) async fn run(db: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(db).await.map(drop)
}

/// Whether an event id is in the table: SQLITE_CONSTRAINT_PRIMARYKEY.
fn is_taken(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("1555")
}

/// The first one speaks for all. There is none only where nothing can fail.
pub(super) fn first_failed(appends: &[Append], error: sqlx::Error) -> AppendError {
    one_failed(&appends[0], error)
}

pub(super) fn one_failed(append: &Append, error: sqlx::Error) -> AppendError {
    backend(append, is_transient(&error), error.into())
}

pub(super) fn backend(append: &Append, transient: bool, source: es_core::BoxError) -> AppendError {
    AppendError::Backend {
        stream: append.stream.clone(),
        count: append.events.len(),
        transient,
        source,
    }
}

fn failed(appends: &[Append], error: sqlx::Error) -> impl Iterator<Item = AppendError> {
    let (transient, error) = (is_transient(&error), Arc::new(error));
    appends
        .iter()
        .map(move |append| backend(append, transient, Arc::clone(&error).into()))
}
