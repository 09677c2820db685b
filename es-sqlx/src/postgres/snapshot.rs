//! Snapshots: the newest one wins, and losing one costs only time.

use async_trait::async_trait;
use chrono::NaiveDateTime;
use es_core::{
    Json, ReadError, Snapshot, SnapshotError, SnapshotStore, StreamId, StreamVisitor, Version,
    Visit,
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{
    PgStore, erase,
    read::{alive, failed},
    refused,
    row::version_parameter,
    transaction, visit,
};
use crate::error::is_transient;

/// Id, version, time, state, fingerprint.
type Row = (Uuid, i32, NaiveDateTime, String, Option<String>);

#[async_trait]
impl SnapshotStore for PgStore {
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError> {
        let sql = format!(
            "SELECT snapshot_id, version, created_at, state::text, fingerprint FROM {}.snapshots
             WHERE aggregate_id = $1 AND aggregate_type = $2 AND version <= $3
             ORDER BY version DESC LIMIT 1",
            self.0.schema
        );
        let read = || {
            sqlx::query_as(AssertSqlSafe(sql.clone()))
                .bind(stream.aggregate_id)
                .bind(stream.aggregate_type.as_str())
                .bind(version_parameter(at_most))
                .fetch_optional(&self.0.events)
        };
        let row: Option<Row> = alive(read)
            .await
            .map_err(|error| failed(&format!("the snapshot of stream `{stream}`"), error))?;
        Ok(row.map(
            |(snapshot_id, version, created_at, state, fingerprint)| Snapshot {
                snapshot_id,
                aggregate_id: stream.aggregate_id,
                aggregate_type: stream.aggregate_type.clone(),
                // The table lets in only versions above 0.
                version: Version::new(u32::try_from(version).unwrap_or_default()),
                created_at: created_at.and_utc(),
                state: Json::from_stored(state),
                fingerprint,
            },
        ))
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.save(snapshot).await.map_err(|source| SnapshotError {
            stream: snapshot.stream(),
            transient: is_transient(&source),
            source: refused::without_content(source),
        })
    }

    async fn visit_stream(
        &self,
        visit: &Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        visit::run(&self.0, visit, visitor).await
    }
}

impl PgStore {
    /// The lock keeps an erasure of the stream from passing by unseen.
    async fn save(&self, snapshot: &Snapshot) -> Result<(), sqlx::Error> {
        let lock = erase::snapshots_lock(&self.0, &snapshot.stream());
        let begin = format!(
            "{}; SELECT pg_advisory_xact_lock_shared({lock})",
            transaction::BEGIN_PATIENTLY
        );
        let sql = format!(
            "INSERT INTO {0}.snapshots (snapshot_id, aggregate_id, aggregate_type, version,
                    created_at, state, fingerprint)
             SELECT $1, $2, $3, $4, $5, $6::json, $7
              WHERE coalesce((SELECT event_type <> '$stream_erased' FROM {0}.events
                WHERE aggregate_id = $2 ORDER BY event_version DESC LIMIT 1), true)
             ON CONFLICT (aggregate_id, version) DO UPDATE SET
                    snapshot_id = excluded.snapshot_id, aggregate_type = excluded.aggregate_type,
                    created_at = excluded.created_at, state = excluded.state,
                    fingerprint = excluded.fingerprint",
            self.0.schema
        );
        let mut transaction = transaction::begin(&self.0.events, begin).await?;
        sqlx::query(AssertSqlSafe(sql))
            .bind(snapshot.snapshot_id)
            .bind(snapshot.aggregate_id)
            .bind(snapshot.aggregate_type.as_str())
            .bind(version_parameter(snapshot.version))
            .bind(snapshot.created_at.naive_utc())
            .bind(snapshot.state.as_str())
            .bind(snapshot.fingerprint.as_deref())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }
}
