//! Adding events: one statement, one round trip, a transaction of its own.

use std::sync::Arc;

use es_core::{AppendError, Appended, ExpectedVersion, NewEvent, StreamId, Version};
use sqlx::{AssertSqlSafe, FromRow, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Inner, refused,
    row::{self, version_parameter},
};
use crate::error::is_transient;

/// How often a race may be lost before the caller is told to try later. Each loss means that another
/// writer has won.
const RACES_MAX: u32 = 100;

/// `admit` decides, `ins` records, `found` explains a refusal.
///
/// $1 aggregate, $2 its type, $3 the exact version expected, or NULL, $4 the lowest version expected,
/// $5–$9 the events, $10 whether to look for their ids first. A writer who expects an exact version
/// need not look: a repetition finds another version. Conflicts are decided before the INSERT, so that
/// they draw no positions.
pub(super) fn sql(schema: &str) -> String {
    // One look into the index for each id. `OFFSET 0` keeps the planner from joining instead: a plan
    // made while the table was small would go on to read all of it.
    let taken = format!(
        "SELECT t.aggregate_id, t.aggregate_type, t.event_version, t.position
           FROM {schema}.events t WHERE t.event_id = u.id OFFSET 0"
    );
    format!(
        "WITH u AS (
           SELECT * FROM unnest($5::uuid[], $6::text[], $7::text[], $8::int[], $9::text[])
             WITH ORDINALITY AS u(id, type, data, schema_version, metadata, n)),
         admit AS (
           SELECT s.v, s.type, s.t,
                  (s.type IS NULL OR s.type = $2) AND s.v = coalesce($3::int, s.v) AND s.v >= $4::int
                  AND s.v::bigint + cardinality($5) <= 2147483647
                  AND (NOT $10::bool OR NOT EXISTS (
                    SELECT 1 FROM u CROSS JOIN LATERAL ({taken}) e)) AS ok
             FROM (SELECT coalesce(l.event_version, 0) AS v, l.aggregate_type AS type,
                          greatest(timezone('utc', clock_timestamp()), l.created_at) AS t
                     FROM (SELECT 1) one LEFT JOIN LATERAL (
                       SELECT event_version, aggregate_type, created_at FROM {schema}.events
                        WHERE aggregate_id = $1 ORDER BY event_version DESC LIMIT 1) l ON true) s),
         ins AS (
           INSERT INTO {schema}.events (event_id, aggregate_id, aggregate_type, event_type,
                       event_version, event_data, created_at, schema_version, metadata)
           SELECT u.id, $1, $2, u.type, admit.v + u.n, u.data::json, admit.t, u.schema_version,
                  u.metadata::json
             FROM admit, u WHERE admit.ok ORDER BY u.n
           RETURNING position),
         found AS (
           SELECT u.n, u.id, e.aggregate_id = $1 AND e.aggregate_type = $2 AS here,
                  e.event_version - u.n AS before, e.position
             FROM admit CROSS JOIN u CROSS JOIN LATERAL ({taken}) e WHERE NOT admit.ok)
         SELECT admit.v AS version, admit.type AS aggregate_type,
                (SELECT max(position) FROM ins) AS position,
                (SELECT id FROM found ORDER BY n LIMIT 1) AS taken,
                (SELECT min(before) FROM found HAVING bool_and(here)
                    AND count(*) = cardinality($5) AND min(before) = max(before)) AS repeated_after,
                (SELECT max(position) FROM found) AS repeated_position
           FROM admit"
    )
}

/// What the statement tells.
struct Answer {
    version: i32,
    aggregate_type: Option<String>,
    position: Option<i64>,
    taken: Option<Uuid>,
    repeated_after: Option<i64>,
    repeated_position: Option<i64>,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: row.try_get("version")?,
            aggregate_type: row.try_get("aggregate_type")?,
            position: row.try_get("position")?,
            taken: row.try_get("taken")?,
            repeated_after: row.try_get("repeated_after")?,
            repeated_position: row.try_get("repeated_position")?,
        })
    }
}

/// Dropping the future leaves all or nothing: one statement, which the server ends by itself.
pub(super) async fn run(
    store: &Inner,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> Result<Appended, AppendError> {
    let failed = |source: sqlx::Error, transient| {
        if refused::is_bad_content(&source) {
            return AppendError::Invalid {
                stream: stream.clone(),
                reason:
                    "Postgres does not take the content or metadata of an event as JSON; is it \
                         one document, and not nested thousands of levels deep?"
                        .to_owned(),
            };
        }
        AppendError::Backend {
            stream: stream.clone(),
            count: events.len(),
            transient,
            source: refused::without_content(source),
        }
    };
    let mut look_for_ids = expected.exact().is_none();
    let mut races = 0;
    loop {
        let refused = match send(store, stream, expected, events, look_for_ids).await {
            Ok(answer) => return judge(stream, expected, events, &answer),
            Err(error) => error,
        };
        // A unique key was violated: another writer was faster. Ask again to learn what it was.
        let Some(constraint) = unique_violation(&refused) else {
            let transient = is_transient(&refused);
            return Err(failed(refused, transient));
        };
        look_for_ids |= constraint == "events_pkey";
        races += 1;
        if races > RACES_MAX {
            return Err(failed(refused, true));
        }
    }
}

fn unique_violation(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    let constraint = database.constraint()?;
    (database.is_unique_violation() && matches!(constraint, "events_pkey" | "idx_events_aggregate"))
        .then(|| constraint.to_owned())
}

async fn send(
    store: &Inner,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
    look_for_ids: bool,
) -> Result<Answer, sqlx::Error> {
    let column = |get: fn(&NewEvent) -> &str| events.iter().map(get).collect::<Vec<_>>();
    let schema_versions = events
        .iter()
        .map(|event| i32::try_from(event.schema_version).unwrap_or(i32::MAX));
    sqlx::query_as(AssertSqlSafe(Arc::clone(&store.sql.append)))
        .bind(stream.aggregate_id)
        .bind(stream.aggregate_type.as_str())
        .bind(expected.exact().map(version_parameter))
        .bind(i32::from(expected == ExpectedVersion::StreamExists))
        .bind(
            events
                .iter()
                .map(|event| event.event_id)
                .collect::<Vec<_>>(),
        )
        .bind(column(|event| event.event_type.as_str()))
        .bind(column(|event| event.event_data.as_str()))
        .bind(schema_versions.collect::<Vec<_>>())
        .bind(events.iter().map(metadata).collect::<Vec<_>>())
        .bind(look_for_ids)
        .fetch_one(&store.events)
        .await
}

fn judge(
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
    answer: &Answer,
) -> Result<Appended, AppendError> {
    let damaged = |_| AppendError::Invalid {
        stream: stream.clone(),
        reason: "the stored versions or positions are damaged; restore them".to_owned(),
    };
    let actual = Version::new(u32::try_from(answer.version).unwrap_or_default());
    let after = |version: Version| version.after(events.len());
    if let (Some(position), Some(version)) = (answer.position, after(actual)) {
        let position = row::position(position).map_err(damaged)?;
        return Ok(Appended { version, position });
    }
    let before = answer
        .repeated_after
        .and_then(|before| u32::try_from(before).ok())
        .map(Version::new)
        .filter(|before| expected.exact().is_none_or(|exact| exact == *before));
    if let (Some(version), Some(position)) = (before.and_then(after), answer.repeated_position) {
        let position = row::position(position).map_err(damaged)?;
        return Ok(Appended { version, position });
    }
    if let Some(other) = &answer.aggregate_type
        && stream.aggregate_type != other.as_str()
    {
        return Err(AppendError::OtherAggregateType {
            stream: stream.clone(),
            actual: other.clone(),
        });
    }
    if !expected.accepts(actual) {
        return Err(AppendError::Conflict {
            stream: stream.clone(),
            expected,
            actual,
        });
    }
    if let Some(event_id) = answer.taken {
        return Err(AppendError::DuplicateId {
            stream: stream.clone(),
            event_id,
        });
    }
    Err(AppendError::Invalid {
        stream: stream.clone(),
        reason: format!("a stream holds at most {} events", Version::MAX),
    })
}

fn metadata(event: &NewEvent) -> Option<String> {
    // Strings and ids only: this cannot fail.
    (!event.metadata.is_empty()).then(|| serde_json::to_string(&event.metadata).unwrap_or_default())
}
