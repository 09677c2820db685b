//! The tables: whose they are, whether they can be trusted, and bringing them up to date.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Inner, transaction};
use crate::{OpenError, error::is_transient, tables};

/// Name and text of each migration, oldest first; the first is version 1.
const MIGRATIONS: [(&str, &str); 3] = [
    (
        "0001_events",
        include_str!("../../migrations/postgres/0001_events.sql"),
    ),
    (
        "0002_erasure",
        include_str!("../../migrations/postgres/0002_erasure.sql"),
    ),
    (
        "0003_projections",
        include_str!("../../migrations/postgres/0003_projections.sql"),
    ),
];

/// Tables and views with one of our names.
const TABLES: &str = "SELECT c.relname::text FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND c.relname IN ('es_migrations', 'events', 'snapshots', 'projection_shards',
                        'projection_nodes', 'projection_dead_letters')
    ORDER BY c.relname";

/// Of `$2.$3` those that are not columns in the schema `$1`; and of the unique constraints on
/// `events`, by which an append tells what it lost, those that are missing.
const MISSING: &str = "SELECT 'column ' || w.t || '.' || w.c
      FROM unnest($2::text[], $3::text[]) AS w(t, c)
     WHERE NOT EXISTS (
       SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = w.t AND a.attname = w.c
          AND a.attnum > 0 AND NOT a.attisdropped)
    UNION ALL
    SELECT 'constraint ' || k
      FROM unnest('{events_pkey,idx_events_aggregate,events_position}'::text[]) AS k
     WHERE NOT EXISTS (
       SELECT 1 FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = 'events' AND o.conname = k AND o.contype IN ('p', 'u'))";

/// Looks at what is there; an empty schema is fine.
pub(super) async fn look(store: &Inner, connection: &mut PgConnection) -> Result<(), OpenError> {
    store.judge(connection).await.map(|_| ())
}

/// Takes a lock of its own first: of many processes one migrates, the others find it done.
pub(super) async fn migrate(store: &Inner) -> Result<(), OpenError> {
    let failed = |error| store.failed("migrate", error);
    let mut transaction =
        transaction::begin(&store.events, transaction::BEGIN_PATIENTLY.to_owned())
            .await
            .map_err(failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('es_migrations ' || $1, 0))")
        .bind(&store.schema)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    let applied = store.judge(&mut transaction).await?;
    if applied == 0 {
        store.lay_ground(&mut transaction).await.map_err(failed)?;
    }
    for ((name, sql), version) in MIGRATIONS.iter().zip(1..).skip(applied as usize) {
        let schema = &store.schema;
        let mut script = sql.replace("{schema}", schema);
        script.push_str(&format!(
            "\nINSERT INTO {schema}.es_migrations (version, name) VALUES ({version}, '{name}');"
        ));
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        tracing::info!(version, name, schema = store.name(), "migrated");
    }
    // What was made is held to the same rules as what was found.
    store.judge(&mut transaction).await?;
    transaction.commit().await.map_err(failed)
}

impl Inner {
    pub(super) fn failed(&self, action: &'static str, source: sqlx::Error) -> OpenError {
        OpenError::Backend {
            address: self.address.clone(),
            action,
            transient: is_transient(&source),
            source: source.into(),
        }
    }

    /// The schema, unless it is there: `IF NOT EXISTS` alone would want the right to create one.
    async fn lay_ground(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
                .bind(self.name())
                .fetch_one(&mut *connection)
                .await?;
        let schema = &self.schema;
        let create = if there {
            String::new()
        } else {
            format!("CREATE SCHEMA {schema};")
        };
        let script = format!(
            "{create}
             CREATE TABLE IF NOT EXISTS {schema}.es_migrations (
                 version    INT         PRIMARY KEY,
                 name       TEXT        NOT NULL DEFAULT '',
                 applied_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());"
        );
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(connection)
            .await
            .map(|_| ())
    }

    /// The newest migration in the schema, or 0 if it is empty.
    async fn judge(&self, connection: &mut PgConnection) -> Result<u32, OpenError> {
        let failed = |error| self.failed("look at", error);
        let schema = &self.schema;
        let tables: Vec<String> = sqlx::query_scalar(TABLES)
            .bind(self.name())
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        if !tables.iter().any(|table| table == "es_migrations") {
            return match tables.first() {
                None => Ok(0),
                Some(table) => Err(self.foreign(table)),
            };
        }
        let newest = format!("SELECT coalesce(max(version), 0) FROM {schema}.es_migrations");
        let found: Result<i32, _> = sqlx::query_scalar(AssertSqlSafe(newest))
            .fetch_one(&mut *connection)
            .await;
        let found = match found {
            Ok(found) => u32::try_from(found).unwrap_or_default(),
            Err(error) if is_other_table(&error) => return Err(self.foreign("es_migrations")),
            Err(error) => return Err(failed(error)),
        };
        if found as usize > MIGRATIONS.len() {
            return Err(OpenError::Newer {
                address: self.address.clone(),
                found,
                known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
            });
        }
        match tables.iter().find(|table| *table != "es_migrations") {
            Some(table) if found == 0 => return Err(self.foreign(table)),
            _ => {}
        }
        if found > 0 {
            self.check_columns(connection, found).await?;
            self.check_sequence(connection).await?;
        }
        Ok(found)
    }

    async fn check_columns(
        &self,
        connection: &mut PgConnection,
        migrations: u32,
    ) -> Result<(), OpenError> {
        let (tables, columns): (Vec<_>, Vec<_>) = tables::columns(migrations).unzip();
        let missing: Vec<String> = sqlx::query_scalar(MISSING)
            .bind(self.name())
            .bind(tables)
            .bind(columns)
            .fetch_all(connection)
            .await
            .map_err(|error| self.failed("look at", error))?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.misconfigured(format!(
            "schema {} has no {}; add what is missing as \
             es-sqlx/migrations/postgres has it, or restore a backup",
            self.schema,
            missing.join(", no ")
        )))
    }

    /// The horizon is exact only if positions are drawn one by one, by the INSERT itself.
    async fn check_sequence(&self, connection: &mut PgConnection) -> Result<(), OpenError> {
        let schema = &self.schema;
        // Who may not see the sequence cannot compare it; the UNIQUE constraint is still there.
        let sql = format!(
            "SELECT s.seqcache = 1, s.seqincrement = 1 AND NOT s.seqcycle, a.attidentity = 'a',
                    CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, SELECT') THEN
                      coalesce(pg_sequence_last_value(s.seqrelid), 0)
                        >= coalesce((SELECT max(position) FROM {schema}.events), 0)
                    ELSE true END
               FROM pg_attribute a
               JOIN pg_sequence s ON s.seqrelid =
                    pg_get_serial_sequence('{schema}.events', 'position')::regclass
              WHERE a.attrelid = '{schema}.events'::regclass AND a.attname = 'position'"
        );
        let found: Option<(bool, bool, bool, bool)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_optional(connection)
            .await
            .map_err(|error| self.failed("look at", error))?;
        let repair = format!("ALTER TABLE {schema}.events ALTER COLUMN position");
        Err(self.misconfigured(match found {
            Some((true, true, true, true)) => return Ok(()),
            None => format!(
                "{schema}.events.position is not an identity column, so positions could repeat; \
                 run `{repair} ADD GENERATED ALWAYS AS IDENTITY`"
            ),
            Some((false, ..)) => format!(
                "positions are drawn in blocks, so readers would lose events; run `{repair} SET CACHE 1`"
            ),
            Some((_, false, ..)) => format!(
                "positions do not rise by 1, so readers would lose events; \
                 run `{repair} SET INCREMENT BY 1 SET NO CYCLE`"
            ),
            Some((.., false, _)) => format!(
                "positions can be chosen by hand, so readers could lose events; \
                 run `{repair} SET GENERATED ALWAYS`"
            ),
            Some((.., false)) => format!(
                "the next position is not above the end of the log (was it copied without its \
                 sequence?); run `{repair} RESTART WITH n`, where n is above max(position)"
            ),
        }))
    }

    fn foreign(&self, table: &str) -> OpenError {
        OpenError::Foreign {
            address: self.address.clone(),
            problem: format!(
                "schema {} has a table `{table}` that we did not make",
                self.schema
            ),
        }
    }

    fn misconfigured(&self, problem: String) -> OpenError {
        OpenError::Misconfigured {
            address: self.address.clone(),
            problem,
        }
    }
}

/// Another program's table of that name has other columns, or other types in them.
fn is_other_table(error: &sqlx::Error) -> bool {
    match error {
        // undefined_column, undefined_function, datatype_mismatch
        sqlx::Error::Database(database) => matches!(
            database.code().as_deref(),
            Some("42703" | "42883" | "42804" | "22P02")
        ),
        sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}
