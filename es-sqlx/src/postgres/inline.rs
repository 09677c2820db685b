//! Projections that run inside the append's transaction: declared once, checked, and run.

use std::collections::BTreeSet;

use es_core::{
    Append, AppendError, Appended, BoxError, Chain, Inline, ProjectionId, RecordedEvent, Version,
};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};
use tokio::sync::OnceCell;

use super::{
    Inner, read,
    row::{self, COLUMNS},
    transaction,
};
use crate::{
    OpenError,
    error::{explain, is_transient},
};

/// How many events of the log are in memory at once while a new projection catches up.
const PAGE: i64 = 1_000;

const DECLARED: &str = "SELECT name, version FROM {schema}.projection_shards
    WHERE status = 'inline' ORDER BY name, version";
const RUNNING: &str = "SELECT version FROM {schema}.projection_shards
    WHERE name = $1 AND status = 'inline'";
const FIND: &str = "SELECT event_types, position, status FROM {schema}.projection_shards
    WHERE name = $1 AND version = $2 AND shard = 0";
const REGISTER: &str = "INSERT INTO {schema}.projection_shards
           (name, version, event_types, position, status, updated_at)
    VALUES ($1, $2, $3, $4, 'inline', clock_timestamp())
    ON CONFLICT (name, version, shard) DO UPDATE SET position = excluded.position,
           status = 'inline', owner = NULL, lease_until = 'epoch',
           epoch = projection_shards.epoch + 1, updated_at = clock_timestamp()";
const RETIRE: &str = "UPDATE {schema}.projection_shards
    SET status = 'retired', updated_at = clock_timestamp()
    WHERE name = $1 AND version <> $2 AND status = 'inline'";

/// The projections that run inside the appends of one store.
#[derive(Debug, Default)]
pub(super) struct Projections {
    declared: Vec<Inline<PgConnection>>,
    /// Whether the database agrees about which there are.
    agreed: OnceCell<()>,
}

impl Projections {
    pub(super) fn new(declared: Vec<Inline<PgConnection>>) -> Self {
        Self {
            declared,
            agreed: OnceCell::new(),
        }
    }

    /// Whether any of them wants an event of this append.
    pub(super) fn want(&self, append: &Append) -> bool {
        self.declared.iter().any(|inline| wants(inline, append))
    }

    /// Refuses to append where a projection that must run inside would be left out. The database is
    /// asked once.
    pub(super) async fn check(&self, store: &Inner, append: &Append) -> Result<(), AppendError> {
        let compare = || self.compare(&store.events, store, append);
        self.agreed.get_or_try_init(compare).await?;
        Ok(())
    }

    /// The same on a connection that is inside a transaction: another one may not be free. It may show
    /// the past, so it is asked until one outside has been.
    pub(super) async fn check_in(
        &self,
        connection: &mut PgConnection,
        store: &Inner,
        append: &Append,
    ) -> Result<(), AppendError> {
        if self.agreed.initialized() {
            return Ok(());
        }
        self.compare(connection, store, append).await
    }

    async fn compare<'c>(
        &self,
        connection: impl PgExecutor<'c>,
        store: &Inner,
        append: &Append,
    ) -> Result<(), AppendError> {
        let rows: Vec<(String, i32)> = sqlx::query_as(store.text(DECLARED))
            .fetch_all(connection)
            .await
            .map_err(|source| AppendError::Backend {
                stream: append.stream.clone(),
                count: append.events.len(),
                transient: is_transient(&source),
                source: explain(source),
            })?;
        let known: Vec<_> = rows
            .into_iter()
            .map(|(name, version)| id(name, version))
            .collect();
        let declared: Vec<_> = self.declared.iter().map(Inline::id).collect();
        let invalid = |reason| {
            Err(AppendError::Invalid {
                stream: append.stream.clone(),
                reason,
            })
        };
        if let Some(left_out) = known.iter().find(|id| !declared.contains(id)) {
            return invalid(format!(
                "projection `{left_out}` runs inside the appends to this store; declare it with \
                 `PgOptions::inline`, or end it with `PgStore::retire_inline`"
            ));
        }
        match declared.iter().find(|id| !known.contains(id)) {
            Some(new) => invalid(format!(
                "projection `{new}` has not been set up; call `PgStore::migrate()` first"
            )),
            None => Ok(()),
        }
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
    let running: Vec<i32> = sqlx::query_scalar(store.text(RUNNING))
        .bind(&id.name)
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| failed(is_transient(&error), explain(error)))?;
    match running.as_slice() {
        // It was retired.
        [] => return Ok(()),
        running if running.contains(&version(&id)) => {}
        [other, ..] => {
            let replaced = format!("version {other} runs in its place; deploy the newer program");
            return Err(failed(false, replaced.into()));
        }
    }
    inline
        .project(connection, records)
        .await
        .map_err(|source| failed(source.downcast_ref().is_some_and(is_transient), source))
}

/// Creates the read models of projections that are new here and brings them up to date, while writers
/// wait; ends older versions of theirs.
pub(super) async fn register(store: &Inner) -> Result<(), OpenError> {
    let mut names = BTreeSet::new();
    for inline in &store.inline.declared {
        if !names.insert(inline.id().name) {
            return Err(refused(inline, "it is declared twice".to_owned()));
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
    let (id, types) = (inline.id(), types(inline));
    let found: Option<(Vec<String>, i64, String)> = sqlx::query_as(store.text(FIND))
        .bind(&id.name)
        .bind(version(&id))
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let position = match found {
        Some((stored, ..)) if stored != types => {
            return Err(refused(
                inline,
                format!(
                    "it was built from event types {}, now it wants {}; raise its version to \
                     rebuild it",
                    stored.join(", "),
                    types.join(", ")
                ),
            ));
        }
        Some((.., status)) if status == "inline" => return Ok(()),
        Some((_, position, _)) => position,
        None => 0,
    };
    inline
        .set_up(connection)
        .await
        .map_err(|error| stopped(store, inline, "its set_up failed", error))?;
    // Waits for the writers there are and holds up new ones: from here on the log stands still.
    let lock = format!("LOCK TABLE {}.events IN SHARE MODE", store.schema);
    sqlx::query(AssertSqlSafe(lock))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let position = catch_up(store, connection, inline, position).await?;
    sqlx::query(store.text(REGISTER))
        .bind(&id.name)
        .bind(version(&id))
        .bind(&types)
        .bind(position)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query(store.text(RETIRE))
        .bind(&id.name)
        .bind(version(&id))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    tracing::info!(projection = %id, position, "runs inside the appends from here on");
    Ok(())
}

/// Applies the log after `position`; answers where it ends.
async fn catch_up(
    store: &Inner,
    connection: &mut PgConnection,
    inline: &Inline<PgConnection>,
    mut position: i64,
) -> Result<i64, OpenError> {
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
        let records = rows
            .iter()
            .map(row::event)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| stopped(store, inline, "the log could not be read", error.into()))?;
        let Some(last) = records.last() else { break };
        position = row::parameter(last.position);
        inline
            .project(&mut *connection, &records)
            .await
            .map_err(|error| stopped(store, inline, "it failed on an old event", error))?;
    }
    Ok(position)
}

fn refused(inline: &Inline<PgConnection>, problem: String) -> OpenError {
    OpenError::Inline {
        projection: inline.id(),
        problem,
    }
}

/// What the projection itself says, unless the database is to blame and it may go better later.
fn stopped(store: &Inner, inline: &Inline<PgConnection>, what: &str, error: BoxError) -> OpenError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if is_transient(&error) => store.failed("migrate", *error),
        Ok(error) => refused(inline, format!("{what}: {}", Chain(&*error))),
        Err(error) => refused(inline, format!("{what}: {}", Chain(&*error))),
    }
}

/// Lets appends go on without the projections of this name. Answers whether there was one.
pub(super) async fn retire(store: &Inner, name: &str) -> Result<bool, sqlx::Error> {
    // No version is 0, so all of them are other ones.
    let retired = sqlx::query(store.text(RETIRE))
        .bind(name)
        .bind(0)
        .execute(&store.models)
        .await?;
    Ok(retired.rows_affected() > 0)
}

fn id(name: String, version: i32) -> ProjectionId {
    ProjectionId::new(name, u32::try_from(version).unwrap_or_default())
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
