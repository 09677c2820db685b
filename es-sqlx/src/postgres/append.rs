//! Adding events: one statement for any number of appends, one round trip, a transaction of its own.

use std::{error::Error, sync::Arc};

use es_core::{
    Append, AppendError, Appended, Event, ExpectedVersion, NewEvent, StreamErased, Version,
};
use sqlx::{AssertSqlSafe, FromRow, PgExecutor, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    inline::{self, left_out},
    refused,
    row::{self, version_parameter},
};
use crate::error::is_transient;

/// `a` are the appends, each to another stream, and `u` their events; `admit` decides about each
/// append, `ins` records, `found` explains refusals.
///
/// $1–$6 the appends: stream, its type, the exact version expected, or NULL, the lowest version
/// expected, how many events, whether to look for their ids first; $7–$13 the events: their append,
/// their place in it, and their content; $14 whether all must be admitted for any to be recorded; $15
/// how long to wait for a lock, or NULL; $16 the inline projections that are declared. A
/// writer who expects an exact version need not look: a repetition finds another version. Conflicts are
/// decided before the INSERT, so that they draw no positions.
///
/// Streams are written in the order of their ids: two who write the same ones wait for each other, and do
/// not lock each other out.
///
/// Parameters in a sub-select are unknown to the planner also when it sees their values. Else it would
/// plan each append anew, because a plan for exactly so many events looks cheaper, and that costs ten
/// times what running it does.
pub(super) fn sql(schema: &str) -> String {
    // One look into the index for each id. `OFFSET 0` keeps the planner from joining instead: a plan
    // made while the table was small would go on to read all of it.
    let taken = format!(
        "SELECT t.aggregate_id, t.aggregate_type, t.event_version, t.position
           FROM {schema}.events t WHERE t.event_id = u.event_id OFFSET 0"
    );
    let erased = StreamErased::EVENT_TYPE;
    let left_out = left_out(schema, "$16");
    let last = last(schema, "a.id");
    format!(
        "WITH patience AS MATERIALIZED (
           SELECT set_config('lock_timeout', coalesce($15, current_setting('lock_timeout')), true)),
         complete AS MATERIALIZED (SELECT ({left_out}) AS left_out),
         a AS (
           SELECT a.* FROM patience, unnest((SELECT $1::uuid[]), (SELECT $2::text[]), (SELECT $3::int[]),
                                (SELECT $4::int[]), (SELECT $5::int[]), (SELECT $6::bool[]))
             WITH ORDINALITY AS a(id, type, exact, lowest, size, look, i)),
         u AS (
           SELECT * FROM unnest((SELECT $7::int[]), (SELECT $8::int[]), (SELECT $9::uuid[]),
                                (SELECT $10::text[]), (SELECT $11::text[]), (SELECT $12::int[]),
                                (SELECT $13::text[]))
             WITH ORDINALITY AS u(i, n, event_id, type, data, schema_version, metadata, k)),
         admit AS (
           SELECT a.i, a.id, a.type, s.v, s.actual_type, s.erased, s.t,
                  complete.left_out IS NULL AND (s.actual_type IS NULL OR s.actual_type = a.type) AND NOT s.erased
                  AND s.v = coalesce(a.exact, s.v) AND s.v >= a.lowest
                  AND s.v::bigint + a.size <= 2147483647
                  AND (NOT a.look OR NOT EXISTS (
                    SELECT 1 FROM u CROSS JOIN LATERAL ({taken}) e WHERE u.i = a.i)) AS ok
             FROM complete, a CROSS JOIN LATERAL (
               SELECT coalesce(l.event_version, 0) AS v, l.aggregate_type AS actual_type,
                      coalesce(l.event_type = '{erased}', false) AS erased,
                      greatest(timezone('utc', clock_timestamp()), l.created_at) AS t
                 FROM {last}) s),
         ins AS (
           INSERT INTO {schema}.events ({COLUMNS})
           SELECT u.event_id, admit.id, admit.type, u.type, admit.v + u.n, u.data::json, admit.t,
                  u.schema_version, u.metadata::json
             FROM u JOIN admit ON admit.i = u.i
            WHERE admit.ok AND (NOT $14::bool OR (SELECT bool_and(ok) FROM admit))
            ORDER BY admit.id, u.k
           RETURNING aggregate_id, position),
         found AS (
           SELECT u.i, u.n, u.event_id, e.event_version - u.n AS before, e.position,
                  e.aggregate_id = admit.id AND e.aggregate_type = admit.type AS here
             FROM admit JOIN u ON u.i = admit.i CROSS JOIN LATERAL ({taken}) e
            WHERE NOT admit.ok)
         SELECT a.i AS append, admit.v AS version, admit.actual_type, admit.erased, admit.ok,
                (SELECT max(position) FROM ins WHERE ins.aggregate_id = admit.id) AS position,
                (SELECT left_out FROM complete) AS left_out,
                f.taken, f.repeated_after, f.repeated_position
           FROM a JOIN admit ON admit.i = a.i CROSS JOIN LATERAL (
             SELECT (array_agg(event_id ORDER BY n))[1] AS taken,
                    CASE WHEN bool_and(here) AND count(*) = a.size AND min(before) = max(before)
                         THEN min(before) END AS repeated_after,
                    max(position) AS repeated_position
               FROM found WHERE found.i = a.i) f"
    )
}

/// What an INSERT names, in this order.
pub(super) const COLUMNS: &str =
    "event_id, aggregate_id, aggregate_type, event_type, event_version,
                       event_data, created_at, schema_version, metadata";

/// To select from: `l`, the last event of `stream`, or NULLs if it has none.
pub(super) fn last(schema: &str, stream: &str) -> String {
    format!(
        "(SELECT 1) one LEFT JOIN LATERAL (
                   SELECT event_version, aggregate_type, event_type, created_at
                     FROM {schema}.events
                    WHERE aggregate_id = {stream} ORDER BY event_version DESC LIMIT 1) l ON true"
    )
}

/// What became of one append.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Its events are recorded now.
    Recorded(Appended),
    /// They were recorded before.
    Repeated(Appended),
    /// They could have been, had it not been for another append.
    Admitted,
    /// They were not.
    Refused(AppendError),
}

/// How the statement goes about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// Look for all event ids first.
    pub(super) look: bool,
    /// Record all appends or none.
    pub(super) together: bool,
    /// How long to wait for a lock. `None` leaves the connection's `lock_timeout` as it is.
    pub(super) patience: Option<&'static str>,
}

/// How long a statement waits for the transaction of somebody else who is adding to the same stream.
pub(super) const PATIENCE: &str = "100ms";

impl Ask {
    /// Appends that have nothing to do with each other.
    pub(super) const GROUP: Self = Self {
        look: false,
        together: false,
        patience: Some(PATIENCE),
    };
    /// One append that could not be recorded in the simple way.
    pub(super) const ALONE: Self = Self {
        look: true,
        ..Self::GROUP
    };
    /// Appends that belong together.
    pub(super) const TOGETHER: Self = Self {
        together: true,
        ..Self::GROUP
    };
}

/// Sends the statement. Each append must be to another stream.
pub(super) async fn ask<'a>(
    connection: impl PgExecutor<'a>,
    sql: &Arc<str>,
    appends: &[Append],
    declared: &[String],
    how: Ask,
) -> Result<Vec<Verdict>, sqlx::Error> {
    let mut columns = Columns::default();
    for (append, i) in appends.iter().zip(1..) {
        columns.push(append, i, how.look);
    }
    let answers: Vec<Answer> = sqlx::query_as(AssertSqlSafe(Arc::clone(sql)))
        .bind(columns.streams)
        .bind(columns.types)
        .bind(columns.exact)
        .bind(columns.lowest)
        .bind(columns.sizes)
        .bind(columns.look)
        .bind(columns.appends)
        .bind(columns.places)
        .bind(columns.event_ids)
        .bind(columns.event_types)
        .bind(columns.data)
        .bind(columns.schema_versions)
        .bind(columns.metadata)
        .bind(how.together)
        .bind(how.patience)
        .bind(declared)
        .fetch_all(connection)
        .await?;
    let mut verdicts: Vec<_> = appends.iter().map(|_| Verdict::Admitted).collect();
    for answer in answers {
        let index = usize::try_from(answer.append - 1).unwrap_or(usize::MAX);
        if let (Some(verdict), Some(append)) = (verdicts.get_mut(index), appends.get(index)) {
            *verdict = answer.judge(append);
        }
    }
    Ok(verdicts)
}

/// The parameters of the statement.
#[derive(Default)]
pub(super) struct Columns<'a> {
    streams: Vec<Uuid>,
    types: Vec<&'a str>,
    exact: Vec<Option<i32>>,
    lowest: Vec<i32>,
    sizes: Vec<i32>,
    look: Vec<bool>,
    appends: Vec<i32>,
    places: Vec<i32>,
    pub(super) event_ids: Vec<Uuid>,
    pub(super) event_types: Vec<&'a str>,
    pub(super) data: Vec<&'a str>,
    pub(super) schema_versions: Vec<i32>,
    pub(super) metadata: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(append: &'a Append) -> Self {
        let mut columns = Self::default();
        columns.push(append, 1, false);
        columns
    }

    fn push(&mut self, append: &'a Append, i: i32, look: bool) {
        let expected = append.expected;
        self.streams.push(append.stream.aggregate_id);
        self.types.push(append.stream.aggregate_type.as_str());
        self.exact.push(expected.exact().map(version_parameter));
        self.lowest.push(lowest(expected));
        self.sizes
            .push(i32::try_from(append.events.len()).unwrap_or(i32::MAX));
        self.look.push(look || expected.exact().is_none());
        for (event, n) in append.events.iter().zip(1..) {
            self.appends.push(i);
            self.places.push(n);
            self.event_ids.push(event.event_id);
            self.event_types.push(event.event_type.as_str());
            self.data.push(event.event_data.as_str());
            self.schema_versions
                .push(i32::try_from(event.schema_version).unwrap_or(i32::MAX));
            self.metadata.push(metadata(event));
        }
    }
}

/// The lowest version that will do.
pub(super) fn lowest(expected: ExpectedVersion) -> i32 {
    i32::from(expected == ExpectedVersion::StreamExists)
}

pub(super) fn metadata(event: &NewEvent) -> Option<String> {
    // Strings and ids only: this cannot fail.
    (!event.metadata.is_empty()).then(|| serde_json::to_string(&event.metadata).unwrap_or_default())
}

/// What the statement tells of one append.
struct Answer {
    append: i64,
    version: i32,
    aggregate_type: Option<String>,
    erased: bool,
    ok: bool,
    left_out: Option<String>,
    position: Option<i64>,
    taken: Option<Uuid>,
    repeated_after: Option<i32>,
    repeated_position: Option<i64>,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            append: row.try_get("append")?,
            version: row.try_get("version")?,
            aggregate_type: row.try_get("actual_type")?,
            erased: row.try_get("erased")?,
            ok: row.try_get("ok")?,
            left_out: row.try_get("left_out")?,
            position: row.try_get("position")?,
            taken: row.try_get("taken")?,
            repeated_after: row.try_get("repeated_after")?,
            repeated_position: row.try_get("repeated_position")?,
        })
    }
}

impl Answer {
    fn judge(self, append: &Append) -> Verdict {
        let stream = || append.stream.clone();
        let actual = Version::new(u32::try_from(self.version).unwrap_or_default());
        if let Some(position) = self.position {
            return appended(append, actual, position)
                .map_or_else(Verdict::Refused, Verdict::Recorded);
        }
        if self.ok {
            return Verdict::Admitted;
        }
        let before = self
            .repeated_after
            .and_then(|before| u32::try_from(before).ok())
            .map(Version::new)
            .filter(|before| append.expected.exact().is_none_or(|exact| exact == *before));
        if let (Some(before), Some(position)) = (before, self.repeated_position) {
            return appended(append, before, position)
                .map_or_else(Verdict::Refused, Verdict::Repeated);
        }
        if let Some(left_out) = &self.left_out {
            return Verdict::Refused(inline::refuse(append, left_out));
        }
        Verdict::Refused(match (self.aggregate_type, self.taken) {
            (Some(other), _) if append.stream.aggregate_type != other.as_str() => {
                AppendError::OtherAggregateType {
                    stream: stream(),
                    actual: other,
                }
            }
            _ if self.erased => AppendError::Erased { stream: stream() },
            _ if !append.expected.accepts(actual) => AppendError::Conflict {
                stream: stream(),
                expected: append.expected,
                actual,
            },
            (_, Some(event_id)) => AppendError::DuplicateId {
                stream: stream(),
                event_id,
            },
            _ => AppendError::Invalid {
                stream: stream(),
                reason: format!("a stream holds at most {} events", Version::MAX),
            },
        })
    }
}

pub(super) fn appended(
    append: &Append,
    before: Version,
    position: i64,
) -> Result<Appended, AppendError> {
    match (before.after(append.events.len()), row::position(position)) {
        (Some(version), Ok(position)) => Ok(Appended { version, position }),
        _ => Err(AppendError::Invalid {
            stream: append.stream.clone(),
            reason: "the stored versions or positions are damaged; restore them".to_owned(),
        }),
    }
}

/// The unique key that was violated, if another writer was faster.
pub(super) fn lost_race(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|database| {
        database.is_unique_violation()
            && matches!(
                database.constraint(),
                Some("events_pkey" | "idx_events_aggregate")
            )
    })
}

/// What the caller of each append is told when the statement itself failed.
pub(super) fn failed(appends: &[Append], source: sqlx::Error) -> Vec<AppendError> {
    let bad_content = refused::is_bad_content(&source);
    // A race that was lost again and again is over when it is tried later.
    let transient = is_transient(&source) || lost_race(&source);
    let source: Arc<dyn Error + Send + Sync> = refused::without_content(source).into();
    let told = |append: &Append| match bad_content {
        true => AppendError::Invalid {
            stream: append.stream.clone(),
            reason: "Postgres does not take the content or metadata of an event as JSON; is it \
                     one document, and not nested thousands of levels deep?"
                .to_owned(),
        },
        false => AppendError::Backend {
            stream: append.stream.clone(),
            count: append.events.len(),
            transient,
            source: Box::new(Arc::clone(&source)),
        },
    };
    appends.iter().map(told).collect()
}
