//! Where a projection stands, and the batches that move it.

use es_core::{
    Batch, Checkpoint, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore,
};
use futures::future::join_all;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Store,
    claims::{
        LONG, TYPES, acquire, advance, assert_fenced, assert_stands_at, begin, not_acquired, read,
        some_progress,
    },
    fixtures::{SOON, add, notes, projection, stream, whole_stream},
};

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
