//! When a snapshot is taken, and that it never fails a command.

use chrono::Utc;
use uuid::Uuid;

use super::{Repository, load};
use crate::{Aggregate, Chain, Json, Snapshot, StreamId, Version};

impl<A: Aggregate> Repository<A> {
    /// Whether the events from `before` to `version` cross a multiple.
    pub(super) fn is_due(&self, before: Version, version: Version) -> bool {
        self.snapshot_every
            .is_some_and(|every| before.get() / every < version.get() / every)
    }

    /// A snapshot of `state`, if the events from `before` to `version` cross a multiple.
    pub(super) fn due_snapshot(
        &self,
        stream: &StreamId,
        before: Version,
        version: Version,
        state: &A,
    ) -> Option<Snapshot> {
        if !self.is_due(before, version) {
            return None;
        }
        let state = Json::encode(state)
            .inspect_err(|error| {
                let error = crate::json::describe(error);
                tracing::warn!(%stream, error, "state cannot be encoded, no snapshot");
            })
            .ok()?;
        Some(Snapshot {
            snapshot_id: Uuid::now_v7(),
            aggregate_id: stream.aggregate_id,
            aggregate_type: stream.aggregate_type.clone(),
            version,
            created_at: Utc::now(),
            state,
            fingerprint: Some(load::fingerprint::<A>()),
        })
    }

    /// Never fails the command: the events are recorded, and a snapshot is only a cache.
    pub(super) async fn keep_snapshot(&self, snapshot: Option<Snapshot>) {
        let Some(snapshot) = snapshot else { return };
        if let Err(error) = self.store.save_snapshot(&snapshot).await {
            let stream = snapshot.stream();
            tracing::warn!(%stream, error = %Chain(&error), "snapshot not saved");
        }
    }
}
