//! An append that is alone: the least that the server must do if nothing stands in the way.

use std::sync::Arc;

use es_core::{Append, Appended, Event, StreamErased, Version};
use sqlx::{AssertSqlSafe, PgPool, Postgres, postgres::PgArguments, query::QueryAs};

use super::{
    append::{COLUMNS, Columns, appended, last, lowest, metadata},
    inline::left_out,
    row::version_parameter,
};

/// The statements, for one event and for several. They record, or say nothing:
/// [`ask`](super::append::ask) then finds out why. Ids that are taken are left to the unique key.
///
/// A third of the work of the statement for many appends, most of which is setting up its plan.
#[derive(Debug)]
pub(super) struct Texts {
    one: Arc<str>,
    several: Arc<str>,
}

impl Texts {
    /// $1 stream, $2 its type, $3 the exact version expected, or NULL, $4 the lowest version expected,
    /// $5–$9 the events, $10 the inline projections that are declared.
    pub(super) fn new(schema: &str) -> Self {
        let erased = StreamErased::EVENT_TYPE;
        let now = format!(
            "SELECT coalesce(l.event_version, 0) AS v,
                    greatest(timezone('utc', clock_timestamp()), l.created_at) AS t,
                    l.aggregate_type IS NULL
                      OR l.aggregate_type = $2 AND l.event_type <> '{erased}' AS open
               FROM {}",
            last(schema, "$1")
        );
        let insert = format!("INSERT INTO {schema}.events ({COLUMNS})");
        let complete = format!("NOT EXISTS ({})", left_out(schema, "$10"));
        let admitted =
            format!("{complete} AND s.open AND s.v = coalesce($3::int, s.v) AND s.v >= $4::int");
        Self {
            one: format!(
                "{insert}
                 SELECT $5::uuid, $1, $2, $6::text, s.v + 1, $7::text::json, s.t, $8::int, $9::text::json
                   FROM ({now}) s WHERE {admitted} AND s.v < 2147483647
                 RETURNING event_version - 1, position"
            )
            .into(),
            several: format!(
                "WITH s AS MATERIALIZED ({now}), ins AS ({insert}
                   SELECT u.event_id, $1, $2, u.type, s.v + u.n, u.data::json, s.t,
                          coalesce(u.schema_version, 1), u.metadata::json
                     FROM s, unnest((SELECT $5::uuid[]), (SELECT $6::text[]), (SELECT $7::text[]),
                                    (SELECT $8::int[]), (SELECT $9::text[]))
                       WITH ORDINALITY AS u(event_id, type, data, schema_version, metadata, n)
                    WHERE {admitted} AND s.v::bigint + cardinality($5::uuid[]) <= 2147483647
                    ORDER BY u.n
                   RETURNING position)
                 SELECT s.v, (SELECT max(position) FROM ins) FROM s"
            )
            .into(),
        }
    }
}

/// `None` if it was not recorded.
pub(super) async fn record(
    pool: &PgPool,
    texts: &Texts,
    append: &Append,
    declared: &[String],
) -> Result<Option<Appended>, sqlx::Error> {
    let found: Option<Found> = match append.events.as_slice() {
        [event] => {
            query(&texts.one, append)
                .bind(event.event_id)
                .bind(event.event_type.as_str())
                .bind(event.event_data.as_str())
                .bind(i32::try_from(event.schema_version).unwrap_or(i32::MAX))
                .bind(metadata(event))
                .bind(declared)
                .fetch_optional(pool)
                .await?
        }
        _ => {
            let mut columns = Columns::of(append);
            // Missing elements are NULL: what is the same for all need not be sent.
            if append.events.iter().all(|event| event.schema_version == 1) {
                columns.schema_versions.clear();
            }
            if columns.metadata.iter().all(Option::is_none) {
                columns.metadata.clear();
            }
            query(&texts.several, append)
                .bind(columns.event_ids)
                .bind(columns.event_types)
                .bind(columns.data)
                .bind(columns.schema_versions)
                .bind(columns.metadata)
                .bind(declared)
                .fetch_optional(pool)
                .await?
        }
    };
    Ok(found.and_then(|(before, position)| {
        let before = Version::new(u32::try_from(before).ok()?);
        appended(append, before, position?).ok()
    }))
}

type Found = (i32, Option<i64>);

fn query<'q>(text: &Arc<str>, append: &'q Append) -> QueryAs<'q, Postgres, Found, PgArguments> {
    sqlx::query_as(AssertSqlSafe(Arc::clone(text)))
        .bind(append.stream.aggregate_id)
        .bind(append.stream.aggregate_type.as_str())
        .bind(append.expected.exact().map(version_parameter))
        .bind(lowest(append.expected))
}
