//! Projections that run inside the append's transaction: declared once, checked, and run.

use std::{collections::BTreeSet, sync::Arc};

use es_core::{
    Append, AppendError, Appended, BoxError, Chain, Inline, Marks, ProjectionId, RecordedEvent,
    Version,
};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::{
    Inner, projections, read, refused,
    row::{self, COLUMNS},
    transaction,
};
use crate::{
    OpenError,
    error::{explain, is_transient},
};

/// How many events of the log are in memory at once while a new projection catches up.
const PAGE: i64 = 1_000;

const VERSIONS: &str = "SELECT version, status FROM {schema}.projection_shards WHERE name = $1";
const FIND: &str = "SELECT event_types, position, status, shards, applied::text
    FROM {schema}.projection_shards WHERE name = $1 AND version = $2 AND shard = 0";
const NEWER: &str = "SELECT max(version) FROM {schema}.projection_shards
    WHERE name = $1 AND version > $2 AND status = 'inline' HAVING max(version) IS NOT NULL";
const REGISTER: &str = "INSERT INTO {schema}.projection_shards
           (name, version, event_types, position, status, active, updated_at)
    VALUES ($1, $2, $3, $4, 'inline', true, clock_timestamp())
    ON CONFLICT (name, version, shard) DO UPDATE SET position = excluded.position,
           status = 'inline', resume_to = 'running', active = true, applied = NULL, silent = NULL,
           failure = NULL, owner = NULL, epoch = projection_shards.epoch + 1,
           updated_at = clock_timestamp()";
const RETIRE: &str = "UPDATE {schema}.projection_shards
    SET status = 'retired', active = false, updated_at = clock_timestamp(),
        position = (SELECT coalesce(max(position), 0) FROM {schema}.events)
    WHERE name = $1 AND version <> $2 AND status = 'inline'";
/// A daemon that runs another version is fenced, so that it learns of it.
const NO_LONGER_ACTIVE: &str = "UPDATE {schema}.projection_shards
    SET active = false, owner = NULL, epoch = epoch + 1, updated_at = clock_timestamp()
    WHERE name = $1 AND version <> $2 AND active";

/// The projections that run inside the appends of one store.
#[derive(Debug)]
pub(super) struct Projections {
    declared: Vec<Inline<PgConnection>>,
    /// Their names, as each append shows them: it is refused where another one must run.
    pub(super) names: Arc<[String]>,
}

/// Selects one that must run and is not among those in the parameter `declared`.
///
/// As part of the INSERT it misses none: the statement takes its lock on `events` before its snapshot, and
/// who sets up a projection holds a lock against that until it has committed.
pub(super) fn left_out(schema: &str, declared: &str) -> String {
    format!(
        "SELECT name || ' v' || version FROM {schema}.projection_shards
          WHERE status = 'inline' AND NOT (name || ' v' || version = ANY({declared}::text[])) LIMIT 1"
    )
}

/// What the caller is told then.
pub(super) fn refuse(append: &Append, left_out: &str) -> AppendError {
    AppendError::Invalid {
        stream: append.stream.clone(),
        reason: format!(
            "projection `{left_out}` runs inside the appends to this store; declare it with \
             `PgOptions::inline`, or end it with `PgStore::retire_inline`"
        ),
    }
}

impl Projections {
    pub(super) fn new(declared: Vec<Inline<PgConnection>>) -> Self {
        let names = declared.iter().map(|inline| inline.id().to_string());
        Self {
            names: names.collect(),
            declared,
        }
    }

    /// Whether any of them wants an event of this append.
    pub(super) fn want(&self, append: &Append) -> bool {
        self.declared.iter().any(|inline| wants(inline, append))
    }
}

fn wants(inline: &Inline<PgConnection>, append: &Append) -> bool {
    append.events.iter().any(|event| {
        let mut types = inline.event_types().iter();
        types.any(|wanted| event.event_type == wanted.name)
    })
}

/// Runs the projections over what `appends` have just recorded, in the transaction of `connection`.
pub(super) async fn project(
    store: &Inner,
    connection: &mut PgConnection,
    appends: &[Append],
    appended: &[Appended],
) -> Result<(), AppendError> {
    for (append, appended) in appends.iter().zip(appended) {
        if !store.inline.want(append) {
            continue;
        }
        let before = appended.version.get() - events(append);
        let records = read::stream_on(
            &mut *connection,
            store,
            &append.stream,
            Version::new(before),
            events(append),
        );
        let records = records.await.map_err(|error| AppendError::Backend {
            stream: append.stream.clone(),
            count: append.events.len(),
            transient: error.is_retryable(),
            source: error.into(),
        })?;
        for inline in &store.inline.declared {
            if wants(inline, append) {
                run(store, connection, inline, append, &records).await?;
            }
        }
    }
    Ok(())
}

async fn run(
    store: &Inner,
    connection: &mut PgConnection,
    inline: &Inline<PgConnection>,
    append: &Append,
    records: &[RecordedEvent],
) -> Result<(), AppendError> {
    let failed = |transient, source| AppendError::Projection {
        stream: append.stream.clone(),
        projection: inline.id(),
        transient,
        source,
    };
    // The INSERT before has waited for a migration that was under way: this sees what it decided.
    let id = inline.id();
    let versions: Vec<(i32, String)> = sqlx::query_as(store.text(VERSIONS))
        .bind(&id.name)
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| failed(is_transient(&error), explain(error)))?;
    let own = versions.iter().find(|(found, _)| *found == version(&id));
    match own.map(|(_, status)| status.as_str()) {
        Some("inline") => {}
        Some("retired") => return Ok(()),
        _ => {
            let new = "it has not been set up; call `PgStore::migrate()` first";
            return Err(failed(false, new.into()));
        }
    }
    inline.project(connection, records).await.map_err(|source| {
        match source.downcast::<sqlx::Error>() {
            // It may quote the row.
            Ok(error) => failed(is_transient(&error), refused::without_content(*error)),
            Err(source) => failed(false, source),
        }
    })
}

/// Creates the read models of projections that are new here and brings them up to date, while writers
/// wait; ends older versions of theirs.
pub(super) async fn register(store: &Inner) -> Result<(), OpenError> {
    let mut names = BTreeSet::new();
    for inline in &store.inline.declared {
        if !names.insert(inline.id().name) {
            return Err(no(inline, "it is declared twice".to_owned()));
        }
    }
    for inline in &store.inline.declared {
        let begin = transaction::begin_guarded(&store.schema);
        let mut transaction = transaction::begin(&store.models, begin)
            .await
            .map_err(|error| store.failed("migrate", error))?;
        set_up(store, &mut transaction, inline).await?;
        transaction
            .commit()
            .await
            .map_err(|error| store.failed("migrate", error))?;
    }
    Ok(())
}

async fn set_up(
    store: &Inner,
    connection: &mut PgConnection,
    inline: &Inline<PgConnection>,
) -> Result<(), OpenError> {
    let failed = |error| store.failed("migrate", error);
    let id = inline.id();
    // Mostly there is nothing to do, and nobody need wait for that.
    let found = find(store, connection, inline, FIND).await?;
    if found.is_some_and(|found| found.status == "inline") {
        return Ok(());
    }
    projections::lock_name(store, connection, &id.name)
        .await
        .map_err(failed)?;
    stop_writers(store, connection).await.map_err(failed)?;
    // Another process may have been faster, and a daemon is let finish its batch.
    let locked = format!("{FIND} FOR UPDATE");
    let found = match find(store, connection, inline, &locked).await? {
        Some(found) if found.status == "inline" => return Ok(()),
        Some(found) => found,
        None => Found::default(),
    };
    let newer: Option<i32> = sqlx::query_scalar(store.text(NEWER))
        .bind(&id.name)
        .bind(version(&id))
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    if let Some(newer) = newer {
        return Err(no(
            inline,
            format!(
                "version {newer} runs already; deploy the newer program, or retire that version"
            ),
        ));
    }
    inline
        .set_up(connection)
        .await
        .map_err(|error| stopped(store, inline, "its set_up failed", error))?;
    let position = catch_up(store, connection, inline, found).await?;
    sqlx::query(store.text(REGISTER))
        .bind(&id.name)
        .bind(version(&id))
        .bind(types(inline))
        .bind(position)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    for rest in [RETIRE, NO_LONGER_ACTIVE] {
        sqlx::query(store.text(rest))
            .bind(&id.name)
            .bind(version(&id))
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    tracing::info!(projection = %id, position, "runs inside the appends from here on");
    Ok(())
}

/// Where a projection stands that was seen before.
#[derive(Default)]
struct Found {
    position: i64,
    status: String,
    /// What was applied beyond that.
    applied: Marks,
}

/// Event types, position, status, shards, marks.
type Row = (Vec<String>, i64, String, i32, Option<String>);

async fn find(
    store: &Inner,
    connection: &mut PgConnection,
    inline: &Inline<PgConnection>,
    sql: &str,
) -> Result<Option<Found>, OpenError> {
    let (id, types) = (inline.id(), types(inline));
    let found: Option<Row> = sqlx::query_as(store.text(sql))
        .bind(&id.name)
        .bind(version(&id))
        .fetch_optional(connection)
        .await
        .map_err(|error| store.failed("migrate", error))?;
    let Some((stored, position, status, shards, applied)) = found else {
        return Ok(None);
    };
    if stored != types {
        return Err(no(
            inline,
            format!(
                "it was built from event types {}, now it wants {}; raise its version to rebuild it",
                stored.join(", "),
                types.join(", ")
            ),
        ));
    }
    if shards > 1 {
        let problem = format!("it is divided into {shards} shards; make one of them first");
        return Err(no(inline, problem));
    }
    let applied = applied
        .map(|marks| serde_json::from_str(&marks))
        .transpose();
    let damaged = |_| no(inline, "column `applied` of its row is damaged".to_owned());
    Ok(Some(Found {
        position,
        status,
        applied: applied.map_err(damaged)?.unwrap_or_default(),
    }))
}

/// Applies the rest of the log; answers where it ends.
async fn catch_up(
    store: &Inner,
    connection: &mut PgConnection,
    inline: &Inline<PgConnection>,
    found: Found,
) -> Result<i64, OpenError> {
    let mut position = found.position;
    let sql = format!(
        "SELECT {COLUMNS} FROM {}.events WHERE position > $1 AND event_type = ANY($2)
          ORDER BY position LIMIT $3",
        store.schema
    );
    loop {
        let rows = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(position)
            .bind(types(inline))
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| store.failed("migrate", error))?;
        let mut records = rows
            .iter()
            .map(row::event)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| stopped(store, inline, "the log could not be read", error.into()))?;
        let Some(last) = records.last() else { break };
        position = row::parameter(last.position);
        records.retain(|event| !found.applied.cover(event.aggregate_id, event.position));
        inline
            .project(&mut *connection, &records)
            .await
            .map_err(|error| stopped(store, inline, "it failed on an old event", error))?;
    }
    Ok(position)
}

fn no(inline: &Inline<PgConnection>, problem: String) -> OpenError {
    OpenError::Inline {
        projection: inline.id(),
        problem,
    }
}

/// What the projection itself says, unless the database is to blame and it may go better later.
fn stopped(store: &Inner, inline: &Inline<PgConnection>, what: &str, error: BoxError) -> OpenError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if is_transient(&error) => store.failed("migrate", *error),
        Ok(error) => no(inline, format!("{what}: {}", Chain(&*error))),
        Err(error) => no(inline, format!("{what}: {}", Chain(&*error))),
    }
}

/// Lets appends go on without the projections of this name. Answers whether there was one.
pub(super) async fn retire(store: &Inner, name: &str) -> Result<bool, sqlx::Error> {
    let begin = transaction::BEGIN.to_owned();
    let mut transaction = transaction::begin(&store.models, begin).await?;
    projections::lock_name(store, &mut transaction, name).await?;
    // What is under way still runs it, and has run it when its place is written down.
    stop_writers(store, &mut transaction).await?;
    // No version is 0, so all of them are other ones.
    let retired = sqlx::query(store.text(RETIRE))
        .bind(name)
        .bind(0)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(retired.rows_affected() > 0)
}

/// Waits for the writers there are, holds up new ones, and lets one at a time do so: until the end of the
/// transaction the log stands still.
async fn stop_writers(store: &Inner, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = format!(
        "LOCK TABLE {}.events IN SHARE ROW EXCLUSIVE MODE",
        store.schema
    );
    connection.execute(AssertSqlSafe(lock)).await.map(|_| ())
}

fn version(id: &ProjectionId) -> i32 {
    i32::try_from(id.version).unwrap_or(i32::MAX)
}

/// As they are stored: in alphabetical order.
fn types(inline: &Inline<PgConnection>) -> Vec<String> {
    let mut types: Vec<_> = inline
        .event_types()
        .iter()
        .map(|known| known.name.to_owned())
        .collect();
    types.sort_unstable();
    types
}

/// An append has at most as many events as a stream.
fn events(append: &Append) -> u32 {
    u32::try_from(append.events.len()).unwrap_or(u32::MAX)
}
