//! Projections that run inside the transaction of each append.

use std::collections::BTreeSet;

use es_core::{
    Append, AppendError, Appended, BoxError, Chain, Filter, Inline, Marks, Position, ProjectionId,
};
use sqlx::{Connection, SqliteConnection, types::Json};

use super::{SqliteStore, admit::Head, insert::Admitted, read, writer::Writer};
use crate::{
    OpenError,
    error::{has_transient_cause, is_transient},
};

/// How many events of the log are in memory at once while a projection catches up.
const PAGE: u32 = 1_000;

const FIND: &str =
    "SELECT event_types, status, position, coalesce(applied, '[]'), shards FROM projection_shards
    WHERE name = ?1 AND version = ?2 AND shard = 0";
const REGISTER: &str =
    "INSERT INTO projection_shards (name, version, event_types, position, status, active)
    VALUES (?1, ?2, ?3, ?4, 'inline', true)
    ON CONFLICT (name, version, shard) DO UPDATE SET position = excluded.position,
    status = 'inline', active = true, applied = NULL, silent = NULL, failure = NULL, owner = NULL,
    epoch = epoch + 1";
/// Whoever runs another version must learn that it is not the one that is served any more.
const DEACTIVATE: &str = "UPDATE projection_shards
    SET active = false, owner = NULL, epoch = epoch + 1
    WHERE name = ?1 AND version <> ?2 AND active";
const RETIRE_OLDER: &str = "UPDATE projection_shards
    SET status = 'retired', position = (SELECT last_position FROM log_head)
    WHERE name = ?1 AND version < ?2 AND status = 'inline'";
const RETIRE: &str = "UPDATE projection_shards
    SET status = 'retired', active = false, position = (SELECT last_position FROM log_head)
    WHERE name = ?1 AND status = 'inline'";

/// Those that run, in the order in which they were declared.
pub(super) type Active<'w> = Vec<&'w Inline<SqliteConnection>>;

/// A projection that must run inside each append, which this store was not told of.
#[derive(Debug)]
pub(super) struct LeftOut(String);

impl LeftOut {
    pub(super) fn refuse(&self, append: &Append) -> AppendError {
        AppendError::Invalid {
            stream: append.stream.clone(),
            reason: format!(
                "projection `{}` runs inside the appends to this database; declare it with \
                 `SqliteOptions::inline`, or end it with `SqliteStore::retire_inline`",
                self.0
            ),
        }
    }
}

/// What of `declared` runs, if the database knows of no others. One that another process has retired
/// does not run any more.
pub(super) fn active<'w>(
    declared: &'w [Inline<SqliteConnection>],
    known: &str,
) -> Result<Active<'w>, LeftOut> {
    if known == "[]" {
        return Ok(Vec::new());
    }
    let known: Vec<(String, u32)> =
        serde_json::from_str(known).map_err(|_| LeftOut("?".to_owned()))?;
    let known: Vec<_> = known
        .into_iter()
        .map(|(name, version)| ProjectionId { name, version })
        .collect();
    let is_declared = |id: &&ProjectionId| declared.iter().any(|inline| inline.id() == **id);
    if let Some(left_out) = known.iter().find(|id| !is_declared(id)) {
        return Err(LeftOut(left_out.to_string()));
    }
    let runs = |inline: &&Inline<SqliteConnection>| known.contains(&inline.id());
    Ok(declared.iter().filter(runs).collect())
}

/// Applies what was inserted up to `head`.
pub(super) async fn project(
    db: &mut SqliteConnection,
    projections: &Active<'_>,
    head: &Head,
    admitted: &[Admitted<'_>],
    appended: &[Appended],
) -> Result<(), AppendError> {
    if projections.is_empty() {
        return Ok(());
    }
    for (admitted, appended) in admitted.iter().zip(appended) {
        let records = admitted.records(*appended, head);
        for inline in projections {
            let projected = inline.project(db, &records).await;
            projected.map_err(|source| AppendError::Projection {
                stream: admitted.append.stream.clone(),
                projection: inline.id(),
                transient: has_transient_cause(&*source),
                source,
            })?;
        }
    }
    Ok(())
}

/// Writes down which projections run inside, and brings each of them up to date, in one transaction.
pub(super) async fn register(writer: &Writer, address: &str) -> Result<(), OpenError> {
    if writer.inline.is_empty() {
        return Ok(());
    }
    let mut names = BTreeSet::new();
    for inline in &writer.inline {
        if !names.insert(inline.id().name) {
            return Err(refused(&inline.id(), "it is declared twice"));
        }
    }
    let failed = |source| backend(address, source);
    let mut connection = writer.pool().acquire().await.map_err(failed)?;
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    for inline in &writer.inline {
        register_one(&mut transaction, inline, address).await?;
    }
    transaction.commit().await.map_err(failed)
}

async fn register_one(
    db: &mut SqliteConnection,
    inline: &Inline<SqliteConnection>,
    address: &str,
) -> Result<(), OpenError> {
    let id = inline.id();
    let failed = |source| backend(address, source);
    let found: Option<Found> = sqlx::query_as(FIND)
        .bind(&id.name)
        .bind(id.version)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed)?;
    let names: Vec<_> = inline
        .event_types()
        .iter()
        .map(|known| known.name)
        .collect();
    let wanted = sorted(&names);
    if let Some((.., shards)) = &found
        && *shards != 1
    {
        let problem = format!(
            "it is divided into {shards} shards; make it one again, or raise its version to rebuild it"
        );
        return Err(refused(&id, &problem));
    }
    if let Some((stored, ..)) = &found
        && *stored != wanted
    {
        let problem = format!(
            "it was built from event types {stored}, now it wants {wanted}; raise its version to \
             rebuild it"
        );
        return Err(refused(&id, &problem));
    }
    inline
        .set_up(db)
        .await
        .map_err(|error| stopped(&id, address, "its set_up failed", error))?;
    // What was not inline was, at best, up to date when it stopped.
    let (after, applied) = match found {
        Some((_, status, ..)) if status == "inline" => return Ok(()),
        Some((_, _, position, Json(applied), _)) => (position, applied),
        None => (0, Marks::default()),
    };
    let after = Position::new(u64::try_from(after).unwrap_or_default());
    let head = catch_up(db, inline, &names, after, &applied, address).await?;
    sqlx::query(REGISTER)
        .bind(&id.name)
        .bind(id.version)
        .bind(&wanted)
        .bind(super::row::parameter(head))
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    for others in [RETIRE_OLDER, DEACTIVATE] {
        sqlx::query(others)
            .bind(&id.name)
            .bind(id.version)
            .execute(&mut *db)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Event types, status, position, what was applied beyond it, number of shards.
type Found = (String, String, i64, Json<Marks>, u32);

/// As they are stored: a JSON array in order, since a name may hold any separator.
fn sorted(types: &[&str]) -> String {
    let mut types = types.to_vec();
    types.sort_unstable();
    serde_json::json!(types).to_string()
}

/// Applies the log after `after`, and says where it ends.
async fn catch_up(
    db: &mut SqliteConnection,
    inline: &Inline<SqliteConnection>,
    names: &[&'static str],
    mut after: Position,
    applied: &Marks,
    address: &str,
) -> Result<Position, OpenError> {
    let filter = Filter::event_types(names.iter().copied());
    let id = inline.id();
    loop {
        let mut page = read::log(db, &filter, after, PAGE)
            .await
            .map_err(|error| stopped(&id, address, "the log could not be read", error.into()))?;
        let is_last = page.events.len() < PAGE as usize;
        page.events
            .retain(|event| !applied.cover(event.aggregate_id, event.position));
        if !page.events.is_empty() {
            inline
                .project(db, &page.events)
                .await
                .map_err(|error| stopped(&id, address, "it failed on an old event", error))?;
        }
        after = page.covered;
        if is_last {
            return Ok(after);
        }
    }
}

impl SqliteStore {
    /// Ends the projections of this name that run inside appends. Stores that still declare one go on
    /// without it; declared anew when a store is opened, it catches up.
    ///
    /// Answers whether there was one.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub async fn retire_inline(&self, name: &str) -> Result<bool, sqlx::Error> {
        let retired = sqlx::query(RETIRE)
            .bind(name)
            .execute(&*self.0.writer.pool())
            .await?;
        Ok(retired.rows_affected() > 0)
    }
}

fn refused(id: &ProjectionId, problem: &str) -> OpenError {
    OpenError::Inline {
        projection: id.clone(),
        problem: problem.to_owned(),
    }
}

fn stopped(id: &ProjectionId, address: &str, what: &str, error: BoxError) -> OpenError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if is_transient(&error) => backend(address, *error),
        Ok(error) => refused(id, &format!("{what}: {}", Chain(&*error))),
        Err(error) => refused(id, &format!("{what}: {}", Chain(&*error))),
    }
}

fn backend(address: &str, source: sqlx::Error) -> OpenError {
    OpenError::Backend {
        address: address.to_owned(),
        action: "declare inline projections in",
        transient: is_transient(&source),
        source: source.into(),
    }
}
