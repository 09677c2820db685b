//! Who may run a projection, and for how long.

use es_core::{CheckpointError, Position, ProjectionStore};
use futures::future::join_all;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    Store,
    claims::{
        LONG, SHORT, TYPES, acquire, advance, assert_fenced, not_acquired, read, some_progress,
        take_over,
    },
    fixtures::projection,
};

/// While one owner holds a projection, another is told who holds it.
pub async fn a_held_projection_is_not_given_to_another<S: ProjectionStore>(store: &S) {
    let (projection, owner) = (projection(), Uuid::now_v7());
    acquire(store, &projection, owner, LONG).await;

    let err = not_acquired(store, &projection, &TYPES, Uuid::now_v7()).await;

    assert!(
        matches!(&err, CheckpointError::Held { projection: p, owner: o } if *p == projection && *o == owner),
        "expected Held by {owner}, got: {err}",
    );
    assert!(err.is_retryable(), "a held projection may be free later");
}

/// Of eight owners that race for a projection one gets it; the others are told it is held.
pub async fn of_racing_owners_one_gets_the_projection<S: Store>(store: &S) {
    for _ in 0..5 {
        let projection = projection();
        let answers = join_all((0..8).map(|_| {
            let (store, projection) = (store.clone(), projection.clone());
            tokio::spawn(async move {
                store
                    .acquire(&projection, &TYPES, Uuid::now_v7(), LONG)
                    .await
            })
        }))
        .await;

        let mut won = Vec::new();
        for answer in answers {
            match answer.expect("an owner must not panic") {
                Ok(claim) => won.push(claim),
                Err(CheckpointError::Held { .. }) => {}
                Err(err) => panic!("expected Held, got: {err}: {err:?}"),
            }
        }
        assert_eq!(won.len(), 1, "exactly one owner gets it");
        let owner = read(store, &projection).await.and_then(|c| c.owner);
        assert_eq!(owner, Some(won[0].owner), "the one that got it");
    }
}

/// A released projection goes to another owner, with a higher epoch and where it stood.
pub async fn a_released_projection_goes_to_another_with_a_higher_epoch<S: ProjectionStore>(
    store: &S,
) {
    let progress = some_progress(store).await;
    let projection = projection();
    let first = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    let first = advance(store, &first, &progress).await;

    store
        .release(&first)
        .await
        .expect("a claim can be released");

    let free = read(store, &projection).await.expect("a checkpoint");
    assert_eq!(free.owner, None, "nobody runs a released projection");
    let second = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    assert!(
        second.epoch > first.epoch,
        "the epoch must rise with a change of owner, but went from {} to {}",
        first.epoch,
        second.epoch,
    );
    assert_eq!(second.position, progress.position, "where it stood");
}

/// The same owner renews its claim and keeps its epoch.
pub async fn the_same_owner_renews_with_the_same_epoch<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let (projection, owner) = (projection(), Uuid::now_v7());
    let first = acquire(store, &projection, owner, LONG).await;

    let renewed = acquire(store, &projection, owner, LONG).await;
    assert_eq!(renewed, first, "a renewed claim is the same claim");

    let moved = advance(store, &renewed, &progress).await;
    let renewed = acquire(store, &projection, owner, LONG).await;
    assert_eq!(
        renewed, moved,
        "a renewed claim tells where the projection stands"
    );
}

/// A lease that has ended is taken over, and the old claim can keep nothing any more.
pub async fn an_ended_lease_is_taken_over_and_the_old_claim_is_fenced<S: ProjectionStore>(
    store: &S,
) {
    let progress = some_progress(store).await;
    let projection = projection();
    let old = acquire(store, &projection, Uuid::now_v7(), SHORT).await;

    let new = take_over(store, &projection).await;

    assert!(new.epoch > old.epoch, "the epoch rises with the owner");
    assert_fenced(store, &old, &progress).await;
    let held = read(store, &projection).await.expect("a checkpoint");
    assert_eq!(
        held.position,
        Position::START,
        "nothing of the fenced batch is kept"
    );
    assert_eq!(held.owner, Some(new.owner), "the new owner still has it");
    advance(store, &new, &progress).await;
    assert_fenced(store, &old, &progress).await;
}

/// A claim is fenced by its epoch even if the checkpoint stands where the claim says.
pub async fn a_released_claim_is_fenced_once_another_has_it<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let projection = projection();
    let old = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    store.release(&old).await.expect("a claim can be released");
    let new = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    assert_eq!(old.position, new.position, "both stand at the same place");

    assert_fenced(store, &old, &progress).await;

    advance(store, &new, &progress).await;
}

/// An owner that was taken over cannot release the new owner's claim.
pub async fn an_old_claim_does_not_release_the_new_one<S: ProjectionStore>(store: &S) {
    let projection = projection();
    let old = acquire(store, &projection, Uuid::now_v7(), SHORT).await;
    let new = take_over(store, &projection).await;

    // Whether it is told does not matter.
    drop(store.release(&old).await);

    let err = not_acquired(store, &projection, &TYPES, Uuid::now_v7()).await;
    assert!(
        matches!(&err, CheckpointError::Held { owner, .. } if *owner == new.owner),
        "expected Held by {}, got: {err}",
        new.owner,
    );
}

/// A batch renews the lease for the time it names.
pub async fn a_batch_renews_the_lease<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let projection = projection();
    let claim = acquire(store, &projection, Uuid::now_v7(), SHORT).await;
    advance(store, &claim, &progress).await;

    // The first lease must be over, so that only the renewed one can hold.
    sleep(SHORT * 3).await;

    let err = not_acquired(store, &projection, &TYPES, Uuid::now_v7()).await;
    assert!(
        matches!(err, CheckpointError::Held { .. }),
        "expected Held, because the batch renewed the lease, got: {err}",
    );
}
