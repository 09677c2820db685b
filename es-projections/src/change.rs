//! Doing what the rules of [`lifecycle`](crate::lifecycle) say, in one transaction.

use es_core::{Batch, CheckpointError, ProjectionId, ProjectionStore, Standing};

use crate::lifecycle::{Change, CommandError};

/// Holds the projection, asks the rule, and writes what it says. Whoever was at work on it is fenced.
pub(crate) async fn change<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
    rule: impl FnOnce(&[Standing]) -> Result<Change, CommandError>,
) -> Result<(), CommandError> {
    let (mut batch, standings) = store.begin_change(projection).await?;
    let change = rule(&standings)?;
    if change.is_empty() {
        return Ok(batch.rollback().await?);
    }
    write(&mut batch, &change).await?;
    Ok(batch.commit().await?)
}

/// Writes a change in a transaction that is open.
pub(crate) async fn write<B: Batch>(batch: &mut B, change: &Change) -> Result<(), CheckpointError> {
    if !change.put.is_empty() {
        batch.put_standings(&change.put).await?;
    }
    if !change.remove.is_empty() {
        batch.remove_standings(&change.remove).await?;
    }
    Ok(())
}
