//! Snapshots: the newest one wins, and losing one costs only time.

use async_trait::async_trait;
use chrono::DateTime;
use es_core::{
    Json, ReadError, Snapshot, SnapshotError, SnapshotStore, StreamId, StreamVisitor, Version,
    Visit,
};
use sqlx::Row;

use super::{SqliteStore, read::failed, row::timestamp, visit};
use crate::error::is_transient;

const LOAD: &str = "SELECT snapshot_id, version, created_at, state, fingerprint FROM snapshots
    WHERE aggregate_id = ?1 AND aggregate_type = ?2 AND version <= ?3
    ORDER BY version DESC LIMIT 1";
const SAVE: &str = "INSERT INTO snapshots
    (snapshot_id, aggregate_id, aggregate_type, version, created_at, state, fingerprint)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
    WHERE coalesce((SELECT event_type FROM events WHERE aggregate_id = ?2
                    ORDER BY event_version DESC LIMIT 1), '') <> '$stream_erased'
    ON CONFLICT (aggregate_id, version) DO UPDATE SET snapshot_id = excluded.snapshot_id,
    aggregate_type = excluded.aggregate_type, created_at = excluded.created_at,
    state = excluded.state, fingerprint = excluded.fingerprint";

#[async_trait]
impl SnapshotStore for SqliteStore {
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError> {
        let what = || format!("the snapshot of stream `{stream}`");
        let row = sqlx::query(LOAD)
            .bind(stream.aggregate_id)
            .bind(stream.aggregate_type.as_str())
            .bind(at_most.get())
            .fetch_optional(self.pool())
            .await
            .map_err(|error| failed(&what(), error))?;
        let Some(row) = row else { return Ok(None) };
        let damaged = |column: &str| ReadError::Corrupt {
            what: what(),
            problem: format!("column `{column}` does not hold what it must"),
        };
        let created_at: String = row
            .try_get("created_at")
            .map_err(|_| damaged("created_at"))?;
        let created_at = DateTime::parse_from_rfc3339(&created_at)
            .map_err(|_| damaged("created_at"))?
            .to_utc();
        let state: String = row.try_get("state").map_err(|_| damaged("state"))?;
        Ok(Some(Snapshot {
            snapshot_id: row
                .try_get("snapshot_id")
                .map_err(|_| damaged("snapshot_id"))?,
            aggregate_id: stream.aggregate_id,
            aggregate_type: stream.aggregate_type.clone(),
            version: Version::new(row.try_get("version").map_err(|_| damaged("version"))?),
            created_at,
            state: Json::from_stored(state),
            fingerprint: row
                .try_get("fingerprint")
                .map_err(|_| damaged("fingerprint"))?,
        }))
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        sqlx::query(SAVE)
            .bind(snapshot.snapshot_id)
            .bind(snapshot.aggregate_id)
            .bind(snapshot.aggregate_type.as_str())
            .bind(snapshot.version.get())
            .bind(timestamp(snapshot.created_at))
            .bind(snapshot.state.as_str())
            .bind(snapshot.fingerprint.as_deref())
            .execute(&*self.0.writer.pool())
            .await
            .map(|_| ())
            .map_err(|source| SnapshotError {
                stream: snapshot.stream(),
                transient: is_transient(&source),
                source: source.into(),
            })
    }

    async fn visit_stream(
        &self,
        visit: &Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        let what = || format!("stream `{}`", visit.stream);
        let db = self.0.readers.acquire().await;
        let mut db = db.map_err(|error| failed(&what(), error))?;
        visit::stream(&mut db, visit, visitor).await
    }
}
