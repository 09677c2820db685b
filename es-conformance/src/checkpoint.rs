//! Claiming a projection and moving its checkpoint.

use std::time::Duration;

use es_core::{
    Batch, Checkpoint, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore,
};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::{
    Store,
    fixtures::{SOON, add, notes, projection, settle, stream, whole_stream},
};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(50);
const TYPES: [&str; 2] = ["note", "other"];

/// A projection that never ran has no checkpoint.
pub async fn a_projection_that_never_ran_has_no_checkpoint<S: ProjectionStore>(store: &S) {
    assert_eq!(read(store, &projection()).await, None);
}

/// Acquiring creates the checkpoint at the start, and `checkpoint` reports it.
pub async fn acquiring_creates_the_checkpoint_at_the_start<S: ProjectionStore>(store: &S) {
    let (projection, owner) = (projection(), Uuid::now_v7());

    let claim = acquire(store, &projection, owner, LONG).await;

    assert_eq!(claim.projection, projection);
    assert_eq!(claim.owner, owner);
    assert_eq!(
        claim.position,
        Position::START,
        "a new checkpoint is at the start"
    );
    assert_eq!(
        read(store, &projection).await,
        Some(Checkpoint {
            position: Position::START,
            epoch: claim.epoch,
            owner: Some(owner),
        }),
    );
}

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

/// A committed batch moves the checkpoint.
pub async fn a_committed_batch_moves_the_checkpoint<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let projection = projection();
    let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;

    let mut batch = begin(store, &claim, &progress).await;
    let _: &mut S::Connection = batch.connection();
    batch.commit().await.expect("a batch can be committed");

    assert_eq!(
        read(store, &projection).await,
        Some(Checkpoint {
            position: progress.position,
            epoch: claim.epoch,
            owner: Some(claim.owner),
        }),
    );
    let further = some_progress(store).await;
    let claim = Claim {
        position: progress.position,
        ..claim
    };
    advance(store, &claim, &further).await;
    let held = read(store, &projection).await.expect("a checkpoint");
    assert_eq!(held.position, further.position, "the second batch");
}

/// A batch rolled back keeps nothing, and the same claim can be used again.
pub async fn a_batch_rolled_back_keeps_nothing<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let projection = projection();
    let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;

    for _ in 0..3 {
        let batch = begin(store, &claim, &progress).await;
        batch.rollback().await.expect("a batch can be rolled back");
        assert_stands_at(store, &claim, Position::START).await;
    }

    advance(store, &claim, &progress).await;
}

/// A dropped batch keeps nothing, and the store and the claim stay usable.
pub async fn a_dropped_batch_keeps_nothing<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let projection = projection();
    let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;

    for n in 1..=20 {
        drop(begin(store, &claim, &progress).await);

        let stream = stream();
        let usable = async {
            add(store, &stream, &notes(1)).await;
            assert_eq!(whole_stream(store, &stream).await.len(), 1, "an append");
            assert_stands_at(store, &claim, Position::START).await;
        };
        assert!(
            timeout(SOON, usable).await.is_ok(),
            "after {n} dropped batches the store must be usable",
        );
    }
    advance(store, &claim, &progress).await;
}

/// A claim is good for one batch: used twice, the second is fenced.
pub async fn a_claim_used_twice_is_fenced<S: ProjectionStore>(store: &S) {
    let first = some_progress(store).await;
    let second = some_progress(store).await;
    let projection = projection();
    let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    advance(store, &claim, &first).await;

    assert_fenced(store, &claim, &second).await;
    assert_fenced(store, &claim, &first).await;

    assert_stands_at(store, &claim, first.position).await;
}

/// Of two batches that race with the same claim one is kept.
pub async fn of_racing_batches_with_one_claim_one_is_kept<S: Store>(store: &S) {
    for _ in 0..5 {
        let progress = some_progress(store).await;
        let projection = projection();
        let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;

        let answers = join_all((0..4).map(|_| {
            let (store, claim) = (store.clone(), claim.clone());
            tokio::spawn(async move {
                let batch = store.begin_batch(&claim, &progress, LONG).await?;
                batch.commit().await
            })
        }))
        .await;

        let mut kept = 0;
        for answer in answers {
            match answer.expect("a runner must not panic") {
                Ok(()) => kept += 1,
                Err(err) => assert!(
                    matches!(err, CheckpointError::Fenced { .. }) || err.is_retryable(),
                    "expected Fenced, got: {err}: {err:?}",
                ),
            }
        }
        assert_eq!(kept, 1, "exactly one batch is kept");
        assert_stands_at(store, &claim, progress.position).await;
    }
}

/// Each version of a projection has a checkpoint of its own.
pub async fn each_version_has_its_own_checkpoint<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let one = projection();
    let two = ProjectionId::new(one.name.clone(), 2);
    let claim = acquire(store, &one, Uuid::now_v7(), LONG).await;
    advance(store, &claim, &progress).await;

    assert_eq!(read(store, &two).await, None, "version 2 never ran");
    let claim = acquire(store, &two, Uuid::now_v7(), LONG).await;

    assert_eq!(
        claim.position,
        Position::START,
        "version 2 starts from the first event"
    );
}

/// Setting up is not tied to the checkpoint: it neither makes nor moves one.
pub async fn setting_up_moves_no_checkpoint<S: ProjectionStore>(store: &S) {
    let projection = projection();
    for keep in [false, true] {
        let mut batch = match store.begin_set_up(&projection).await {
            Ok(batch) => batch,
            Err(err) => panic!("setting up must work, got: {err}: {err:?}"),
        };
        let _: &mut S::Connection = batch.connection();
        let ended = if keep {
            batch.commit().await
        } else {
            batch.rollback().await
        };
        ended.expect("setting up can be ended");
        assert_eq!(read(store, &projection).await, None);
    }

    let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    let batch = store
        .begin_set_up(&projection)
        .await
        .expect("setting up works");
    batch.commit().await.expect("setting up can be committed");
    assert_stands_at(store, &claim, Position::START).await;
}

/// A projection that wants other event types than before is refused; their order does not matter.
pub async fn other_event_types_are_refused<S: ProjectionStore>(store: &S) {
    let (projection, owner) = (projection(), Uuid::now_v7());
    let claim = acquire(store, &projection, owner, LONG).await;
    store
        .release(&claim)
        .await
        .expect("a claim can be released");

    for wanted in [
        &["note"][..],
        &["note", "third"],
        &["note", "other", "third"],
        &[],
    ] {
        let err = not_acquired(store, &projection, wanted, owner).await;
        assert!(
            matches!(&err, CheckpointError::OtherEventTypes { projection: p, .. } if *p == projection),
            "expected OtherEventTypes for {wanted:?}, got: {err}",
        );
    }
    let reversed = store
        .acquire(&projection, &["other", "note"], owner, LONG)
        .await;
    assert!(
        reversed.is_ok(),
        "the order must not matter, got: {reversed:?}"
    );
}

/// A checkpoint above the end of the log is refused: an older log was restored.
pub async fn a_checkpoint_ahead_of_the_log_is_refused<S: ProjectionStore>(store: &S) {
    let real = some_progress(store).await;
    let ahead = Position::new(real.position.get() + 1_000_000);
    for anchor in [Some((ahead, Uuid::now_v7())), None] {
        let (projection, owner) = (projection(), Uuid::now_v7());
        let claim = acquire(store, &projection, owner, LONG).await;
        let progress = Progress {
            position: ahead,
            anchor,
        };
        let claim = advance(store, &claim, &progress).await;
        store
            .release(&claim)
            .await
            .expect("a claim can be released");

        for owner in [owner, Uuid::now_v7()] {
            let err = not_acquired(store, &projection, &TYPES, owner).await;
            assert!(
                matches!(&err, CheckpointError::AheadOfLog { projection: p } if *p == projection),
                "expected AheadOfLog with the anchor {anchor:?}, got: {err}",
            );
        }
    }
}

/// A checkpoint whose last event is another one in the log is refused: another log was put in place.
pub async fn a_checkpoint_of_another_history_is_refused<S: ProjectionStore>(store: &S) {
    let real = some_progress(store).await;
    let (projection, owner) = (projection(), Uuid::now_v7());
    let claim = acquire(store, &projection, owner, LONG).await;
    let diverged = Progress {
        anchor: real.anchor.map(|(position, _)| (position, Uuid::now_v7())),
        ..real
    };
    let claim = advance(store, &claim, &diverged).await;
    store
        .release(&claim)
        .await
        .expect("a claim can be released");

    for owner in [owner, Uuid::now_v7()] {
        let err = not_acquired(store, &projection, &TYPES, owner).await;
        assert!(
            matches!(&err, CheckpointError::Diverged { projection: p } if *p == projection),
            "expected Diverged, got: {err}",
        );
    }
}

/// A checkpoint whose last event is in the log goes on, and a batch without events keeps it so.
pub async fn a_checkpoint_of_this_history_goes_on<S: ProjectionStore>(store: &S) {
    let real = some_progress(store).await;
    let (projection, owner) = (projection(), Uuid::now_v7());
    let claim = acquire(store, &projection, owner, LONG).await;
    let claim = advance(store, &claim, &real).await;
    let claim_again = acquire(store, &projection, owner, LONG).await;
    assert_eq!(claim_again, claim, "the anchor is in the log");

    let further = Progress {
        anchor: None,
        ..some_progress(store).await
    };
    let claim = advance(store, &claim, &further).await;
    store
        .release(&claim)
        .await
        .expect("a claim can be released");

    let claim = acquire(store, &projection, Uuid::now_v7(), LONG).await;
    assert_eq!(claim.position, further.position, "where it stood");
}

/// Appends one event; returns a settled position with that event as its anchor.
async fn some_progress<S: ProjectionStore>(store: &S) -> Progress {
    let events = notes(1);
    let appended = add(store, &stream(), &events).await;
    settle(store, appended.position).await;
    Progress {
        position: appended.position,
        anchor: Some((appended.position, events[0].event_id)),
    }
}

async fn acquire<S: ProjectionStore>(
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

async fn not_acquired<S: ProjectionStore>(
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
async fn take_over<S: ProjectionStore>(store: &S, projection: &ProjectionId) -> Claim {
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

async fn begin<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) -> S::Batch {
    match store.begin_batch(claim, to, LONG).await {
        Ok(batch) => batch,
        Err(err) => panic!("a batch with a good claim must begin, got: {err}: {err:?}"),
    }
}

/// Moves the checkpoint; returns the claim for the next batch.
async fn advance<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) -> Claim {
    let batch = begin(store, claim, to).await;
    batch.commit().await.expect("a batch can be committed");
    Claim {
        position: to.position,
        ..claim.clone()
    }
}

async fn assert_fenced<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) {
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

async fn assert_stands_at<S: ProjectionStore>(store: &S, claim: &Claim, position: Position) {
    let held = read(store, &claim.projection).await.expect("a checkpoint");
    assert_eq!(held.position, position, "where the projection stands");
    assert_eq!(held.epoch, claim.epoch, "the epoch stays with the owner");
    assert_eq!(held.owner, Some(claim.owner), "the owner still has it");
}

async fn read<S: ProjectionStore>(store: &S, projection: &ProjectionId) -> Option<Checkpoint> {
    store
        .checkpoint(projection)
        .await
        .expect("a checkpoint can be read")
}
