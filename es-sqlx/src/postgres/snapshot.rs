//! Snapshots: the newest one wins, and losing one costs only time.

use async_trait::async_trait;
use chrono::NaiveDateTime;
use es_core::{Json, ReadError, Snapshot, SnapshotError, SnapshotStore, StreamId, Version};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{PgStore, read::failed, refused, row::version_parameter};
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
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(stream.aggregate_id)
            .bind(stream.aggregate_type.as_str())
            .bind(version_parameter(at_most))
            .fetch_optional(&self.0.events)
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
        let sql = format!(
            "INSERT INTO {}.snapshots (snapshot_id, aggregate_id, aggregate_type, version,
                    created_at, state, fingerprint)
             VALUES ($1, $2, $3, $4, $5, $6::json, $7)
             ON CONFLICT (aggregate_id, version) DO UPDATE SET
                    snapshot_id = excluded.snapshot_id, aggregate_type = excluded.aggregate_type,
                    created_at = excluded.created_at, state = excluded.state,
                    fingerprint = excluded.fingerprint",
            self.0.schema
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(snapshot.snapshot_id)
            .bind(snapshot.aggregate_id)
            .bind(snapshot.aggregate_type.as_str())
            .bind(version_parameter(snapshot.version))
            .bind(snapshot.created_at.naive_utc())
            .bind(snapshot.state.as_str())
            .bind(snapshot.fingerprint.as_deref())
            .execute(&self.0.events)
            .await
            .map(|_| ())
            .map_err(|source| SnapshotError {
                stream: snapshot.stream(),
                transient: is_transient(&source),
                source: refused::without_content(source),
            })
    }
}
