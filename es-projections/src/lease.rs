//! The right to run a projection: taken, renewed, lost, given back.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use es_core::{Chain, CheckpointError, Claim, ProjectionId, ProjectionStore};
use futures::FutureExt;
use uuid::Uuid;

/// One daemon's lease on one projection.
#[derive(Debug)]
pub(crate) struct Lease<S> {
    pub(crate) store: Arc<S>,
    pub(crate) projection: ProjectionId,
    pub(crate) event_types: Vec<&'static str>,
    /// Tells this daemon's claims from others'.
    pub(crate) owner: Uuid,
    pub(crate) ttl: Duration,
    /// What to give back at the end.
    pub(crate) held: Option<Claim>,
}

impl<S: ProjectionStore> Lease<S> {
    /// Takes or renews it, and reads the stored checkpoint.
    pub(crate) async fn claim(&mut self) -> Result<Claim, CheckpointError> {
        let (store, types) = (&self.store, &self.event_types);
        let claim = store
            .acquire(&self.projection, types, self.owner, self.ttl)
            .await?;
        self.held = Some(claim.clone());
        Ok(claim)
    }

    /// Another daemon has taken over: there is nothing to give back.
    pub(crate) fn lost(&mut self) {
        self.held = None;
    }

    /// Gives it back. If that fails it ends by itself.
    pub(crate) async fn release(&mut self) {
        let Some(claim) = self.held.take() else {
            return;
        };
        let released = AssertUnwindSafe(self.store.release(&claim)).catch_unwind();
        match released.await {
            Ok(Ok(())) => tracing::debug!("lease released"),
            Ok(Err(error)) => tracing::warn!(
                error = %Chain(&error),
                "could not release the lease; it ends by itself"
            ),
            Err(_) => tracing::error!("the store panicked while releasing the lease"),
        }
    }
}
