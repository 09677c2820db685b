//! What the checks of leases and checkpoints share.

use std::time::Duration;

use es_core::{
    Batch, Checkpoint, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::fixtures::{SOON, add, notes, settle, stream};

pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const SHORT: Duration = Duration::from_millis(50);
pub(crate) const TYPES: [&str; 2] = ["note", "other"];

/// Appends one event; returns a settled position with that event as its anchor.
pub(crate) async fn some_progress<S: ProjectionStore>(store: &S) -> Progress {
    let events = notes(1);
    let appended = add(store, &stream(), &events).await;
    settle(store, appended.position).await;
    Progress {
        position: appended.position,
        anchor: Some((appended.position, events[0].event_id)),
    }
}

pub(crate) async fn acquire<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
    owner: Uuid,
    ttl: Duration,
) -> Claim {
    match store.acquire(projection, &TYPES, owner, ttl).await {
        Ok(claim) => claim,
        Err(err) => panic!("`{projection}` must be acquired, got: {err}: {err:?}"),
    }
}

pub(crate) async fn not_acquired<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
    types: &[&str],
    owner: Uuid,
) -> CheckpointError {
    match store.acquire(projection, types, owner, LONG).await {
        Ok(claim) => panic!("`{projection}` must not be acquired, got: {claim:?}"),
        Err(err) => err,
    }
}

/// Tries as another owner until the lease has ended.
pub(crate) async fn take_over<S: ProjectionStore>(store: &S, projection: &ProjectionId) -> Claim {
    let (owner, end) = (Uuid::now_v7(), Instant::now() + SOON);
    loop {
        match store.acquire(projection, &TYPES, owner, LONG).await {
            Ok(claim) => return claim,
            Err(CheckpointError::Held { .. }) if Instant::now() < end => {
                sleep(SHORT / 5).await;
            }
            Err(err) => panic!("an ended lease must be taken over, got: {err}: {err:?}"),
        }
    }
}

pub(crate) async fn begin<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) -> S::Batch {
    match store.begin_batch(claim, to, LONG).await {
        Ok(batch) => batch,
        Err(err) => panic!("a batch with a good claim must begin, got: {err}: {err:?}"),
    }
}

/// Moves the checkpoint; returns the claim for the next batch.
pub(crate) async fn advance<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) -> Claim {
    let batch = begin(store, claim, to).await;
    batch.commit().await.expect("a batch can be committed");
    Claim {
        position: to.position,
        ..claim.clone()
    }
}

pub(crate) async fn assert_fenced<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) {
    let before = read(store, &claim.projection).await;
    match store.begin_batch(claim, to, LONG).await {
        Ok(_) => panic!("a batch with an old claim must be fenced, but it began"),
        Err(err) => assert!(
            matches!(&err, CheckpointError::Fenced { projection } if *projection == claim.projection),
            "expected Fenced, got: {err}: {err:?}",
        ),
    }
    assert_eq!(
        read(store, &claim.projection).await,
        before,
        "nothing is kept"
    );
}

pub(crate) async fn assert_stands_at<S: ProjectionStore>(
    store: &S,
    claim: &Claim,
    position: Position,
) {
    let held = read(store, &claim.projection).await.expect("a checkpoint");
    assert_eq!(held.position, position, "where the projection stands");
    assert_eq!(held.epoch, claim.epoch, "the epoch stays with the owner");
    assert_eq!(held.owner, Some(claim.owner), "the owner still has it");
}

pub(crate) async fn read<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
) -> Option<Checkpoint> {
    store
        .checkpoint(projection)
        .await
        .expect("a checkpoint can be read")
}
