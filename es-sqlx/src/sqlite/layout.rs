//! Whether the tables are as the statements need them.

use sqlx::SqliteConnection;

use super::schema::failed;
use crate::{OpenError, tables};

/// Beside those that both databases have.
const LOG_HEAD: [(&str, &str); 3] = [
    ("log_head", "id"),
    ("log_head", "last_position"),
    ("log_head", "last_created_at"),
];

/// What keeps an event from being recorded twice, changed or lost, and what an index makes bearable.
const OTHERS: [&str; 16] = [
    "unique key events(event_id)",
    "unique key events(position)",
    "unique key events(aggregate_id, event_version)",
    "unique key snapshots(snapshot_id)",
    "unique key snapshots(aggregate_id, version)",
    "unique key projection_shards(name, version, shard)",
    "unique key projection_nodes(node)",
    "unique key projection_dead_letters(name, version, event_id)",
    "index idx_events_type",
    "index idx_events_type_position",
    "index idx_projections_inline",
    "index idx_dead_letters_aggregate",
    "index idx_dead_letters_projection",
    "index idx_dead_letters_position",
    "trigger events_no_update",
    "trigger events_no_delete",
];

/// What is there, in the same words. A key that has a condition is no key.
const FOUND: &str = "
    SELECT 'column ' || t.name || '.' || c.name
      FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c
     WHERE t.type = 'table' AND t.name IN ('events', 'log_head', 'snapshots', 'projection_shards',
           'projection_nodes', 'projection_dead_letters')
    UNION ALL
    SELECT 'unique key ' || t.name || '(' || (SELECT group_concat(name, ', ') FROM
               (SELECT name FROM pragma_index_info(k.name) ORDER BY seqno)) || ')'
      FROM sqlite_schema AS t JOIN pragma_index_list(t.name) AS k
     WHERE t.type = 'table' AND t.name IN ('events', 'snapshots', 'projection_shards',
           'projection_nodes', 'projection_dead_letters')
       AND k.\"unique\" AND NOT k.partial
    UNION ALL
    SELECT type || ' ' || name FROM sqlite_schema WHERE type IN ('index', 'trigger')";
const ROWS_OF_HEAD: &str = "SELECT count(*) FROM log_head WHERE id = 1";

/// Looks at the tables that so many migrations, which are all there are, have made.
pub(super) async fn check(
    db: &mut SqliteConnection,
    migrations: u32,
    address: &str,
) -> Result<(), OpenError> {
    let failed = |source| failed(address, "look at", source);
    let found: Vec<Option<String>> = sqlx::query_scalar(FOUND)
        .fetch_all(&mut *db)
        .await
        .map_err(failed)?;
    let columns = tables::columns(migrations)
        .chain(LOG_HEAD)
        .map(|(table, column)| format!("column {table}.{column}"));
    let wanted = columns.chain(OTHERS.map(str::to_owned));
    let missing: Vec<_> = wanted
        .filter(|wanted| !found.iter().flatten().any(|found| found == wanted))
        .collect();
    if !missing.is_empty() {
        let problem = format!(
            "it has no {}; add what is missing as es-sqlx/migrations/sqlite has it, or restore a backup",
            missing.join(", no ")
        );
        return Err(misconfigured(address, problem));
    }
    let rows: i64 = sqlx::query_scalar(ROWS_OF_HEAD)
        .fetch_one(db)
        .await
        .map_err(failed)?;
    if rows == 1 {
        return Ok(());
    }
    let problem = "table log_head has lost its row, so positions could repeat; restore a backup, or run \
         `INSERT INTO log_head SELECT 1, coalesce(max(position), 0), coalesce(max(created_at), '') \
         FROM events` if no events are missing at the end";
    Err(misconfigured(address, problem.to_owned()))
}

fn misconfigured(address: &str, problem: String) -> OpenError {
    OpenError::Misconfigured {
        address: address.to_owned(),
        problem,
    }
}
