//! The tables: whose they are, whether they can be trusted, and bringing them up to date.

use sqlx::{AssertSqlSafe, PgConnection};

use super::Inner;
use crate::{OpenError, error::is_transient};

/// All migrations, oldest first; the first is version 1.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/postgres/0001_events.sql")];

const TABLES: &str = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1
    AND tablename IN ('es_migrations', 'events', 'snapshots', 'projection_shards')";

/// Looks at what is there; an empty schema is fine.
pub(super) async fn look(store: &Inner) -> Result<(), OpenError> {
    let mut connection = store
        .pool
        .acquire()
        .await
        .map_err(|e| store.failed("look at", e))?;
    store.judge(&mut connection).await.map(|_| ())
}

/// Takes a lock of its own first: of many processes one migrates, the others find it done.
pub(super) async fn migrate(store: &Inner) -> Result<(), OpenError> {
    let failed = |error| store.failed("migrate", error);
    let mut transaction = store.pool.begin().await.map_err(failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('es_migrations ' || $1, 0))")
        .bind(&store.schema)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    let applied = store.judge(&mut transaction).await?;
    for (sql, version) in MIGRATIONS.iter().zip(1..).skip(applied as usize) {
        let schema = &store.schema;
        let mut script = sql.replace("{schema}", schema);
        if version == 1 {
            let first = format!(
                "CREATE SCHEMA IF NOT EXISTS {schema};
                 CREATE TABLE {schema}.es_migrations (
                     version INT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now());"
            );
            script.insert_str(0, &first);
        }
        script.push_str(&format!(
            "INSERT INTO {schema}.es_migrations (version) VALUES ({version});"
        ));
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

impl Inner {
    fn failed(&self, action: &'static str, source: sqlx::Error) -> OpenError {
        OpenError::Backend {
            address: self.address.clone(),
            action,
            transient: is_transient(&source),
            source: source.into(),
        }
    }

    /// The newest migration in the schema, or 0 if it is empty.
    async fn judge(&self, connection: &mut PgConnection) -> Result<u32, OpenError> {
        let failed = |error| self.failed("look at", error);
        let schema = &self.schema;
        let tables: Vec<String> = sqlx::query_scalar(TABLES)
            .bind(schema.trim_matches('"'))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        if !tables.iter().any(|table| table == "es_migrations") {
            return match tables.first() {
                None => Ok(0),
                Some(table) => Err(OpenError::Foreign {
                    address: self.address.clone(),
                    problem: format!("schema {schema} has a table `{table}` that we did not make"),
                }),
            };
        }
        let newest = format!("SELECT coalesce(max(version), 0) FROM {schema}.es_migrations");
        let found: i32 = sqlx::query_scalar(AssertSqlSafe(newest))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        let (found, known) = (u32::try_from(found).unwrap_or_default(), MIGRATIONS.len());
        if found as usize > known {
            return Err(OpenError::Newer {
                address: self.address.clone(),
                found,
                known: u32::try_from(known).unwrap_or(u32::MAX),
            });
        }
        if found > 0 {
            self.check_sequence(connection).await?;
        }
        Ok(found)
    }

    /// The horizon is exact only if positions are drawn one by one, by the INSERT itself.
    async fn check_sequence(&self, connection: &mut PgConnection) -> Result<(), OpenError> {
        let schema = &self.schema;
        let sql = format!(
            "SELECT s.seqcache = 1, a.attidentity = 'a',
                    coalesce(pg_sequence_last_value(s.seqrelid), 0)
                      >= coalesce((SELECT max(position) FROM {schema}.events), 0)
               FROM pg_attribute a
               JOIN pg_sequence s ON s.seqrelid =
                    pg_get_serial_sequence('{schema}.events', 'position')::regclass
              WHERE a.attrelid = '{schema}.events'::regclass AND a.attname = 'position'"
        );
        let found: Option<(bool, bool, bool)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| self.failed("look at", error))?;
        let table = format!("ALTER TABLE {schema}.events ALTER COLUMN position");
        let problem = match found {
            Some((true, true, true)) => return Ok(()),
            None => format!(
                "{schema}.events.position is not an identity column, so positions could repeat; \
                 {table} ADD GENERATED ALWAYS AS IDENTITY"
            ),
            Some((false, ..)) => format!(
                "positions are drawn in blocks, so readers would lose events; {table} SET CACHE 1"
            ),
            Some((_, false, _)) => format!(
                "positions can be chosen by hand, so readers could lose events; \
                 {table} SET GENERATED ALWAYS"
            ),
            Some((.., false)) => format!(
                "the next position is below the end of the log (was it restored as a replica?); \
                 {table} RESTART WITH a number above max(position)"
            ),
        };
        Err(OpenError::Misconfigured {
            address: self.address.clone(),
            problem,
        })
    }
}
