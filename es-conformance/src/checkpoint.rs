//! Where a projection stands, and the batches that move it.

use es_core::{Batch, CheckpointError, Claim, Position, Progress, ProjectionId, ProjectionStore};
use futures::future::join_all;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Store,
    claims::{
        TYPES, acquire, advance, assert_fenced, assert_stands_at, begin, begin_change, commit,
        fresh_standing, fresh_standings, held_up, let_go, living_node, not_acquired, of_version,
        put, registered, release, some_progress, stands, started,
    },
    fixtures::{SOON, add, notes, projection, stream, whole_stream},
    standings::make_unusual,
};

/// A projection that never ran has no checkpoint.
pub async fn a_projection_that_never_ran_has_no_checkpoint<S: ProjectionStore>(store: &S) {
    some_progress(store).await;
    assert_eq!(read(store, &projection()).await, None);
}

/// A projection that was put there stands where it was put.
pub async fn a_new_projection_stands_where_it_was_put<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    for position in [Position::START, progress.position] {
        let standing = fresh_standing(|standing| standing.position = position);
        put(store, std::slice::from_ref(&standing)).await;
        assert_eq!(
            read(store, &standing.shard.projection).await,
            Some(position)
        );

        let claim = acquire(store, &standing.shard, &living_node(store).await).await;
        assert_eq!(claim.position, position, "where the claim begins");
    }
}

/// A committed batch moves the checkpoint.
pub async fn a_committed_batch_moves_the_checkpoint<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;

    let mut batch = begin(store, &claim, &progress).await;
    let _: &mut S::Connection = batch.connection();
    commit(batch).await;

    assert_stands_at(store, &claim, progress.position).await;
    let held = read(store, &claim.shard.projection).await;
    assert_eq!(held, Some(progress.position), "the checkpoint");
    let further = some_progress(store).await;
    let claim = Claim {
        position: progress.position,
        ..claim
    };
    advance(store, &claim, &further).await;
    assert_stands_at(store, &claim, further.position).await;
}

/// A batch changes the position and the anchor of its row, and nothing else anywhere.
pub async fn a_batch_changes_nothing_but_the_position<S: ProjectionStore>(store: &S) {
    let mut all = fresh_standings(2);
    all.iter_mut().for_each(make_unusual);
    let other = registered(store).await;
    put(store, &all).await;
    let claim = acquire(store, &all[0].shard, &living_node(store).await).await;
    let before = store.standings(None).await.expect("standings can be read");
    let progress = some_progress(store).await;

    advance(store, &claim, &progress).await;

    let after = store.standings(None).await.expect("standings can be read");
    let mut expected = before;
    for standing in &mut expected {
        if standing.shard == claim.shard {
            standing.position = progress.position;
            standing.anchor = progress.anchor;
        }
    }
    assert_eq!(after, expected);
    assert!(after.iter().any(|standing| standing.shard == other));
}

/// A batch rolled back keeps nothing, and the same claim can be used again.
pub async fn a_batch_rolled_back_keeps_nothing<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;

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
    let claim = started(store).await;

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

/// A claim is good for one batch that moves: used twice, the second is fenced.
pub async fn a_claim_used_twice_is_fenced<S: ProjectionStore>(store: &S) {
    let first = some_progress(store).await;
    let second = some_progress(store).await;
    let claim = started(store).await;
    advance(store, &claim, &first).await;

    assert_fenced(store, &claim, &second).await;
    assert_fenced(store, &claim, &first).await;

    assert_stands_at(store, &claim, first.position).await;
}

/// A claim is fenced if any part of it is another: the position, the epoch, the owner, the shard.
pub async fn a_claim_of_another_is_fenced<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let further = some_progress(store).await;
    let claim = advance(store, &started(store).await, &progress).await;
    let (node, other) = (living_node(store).await, registered(store).await);
    let with = |change: fn(&mut Claim)| {
        let mut claim = claim.clone();
        change(&mut claim);
        claim
    };
    for wrong in [
        with(|claim| claim.position = Position::START),
        with(|claim| claim.position = Position::new(claim.position.get() + 1)),
        with(|claim| claim.epoch -= 1),
        with(|claim| claim.epoch += 1),
        with(|claim| claim.shard.index = 1),
        with(|claim| claim.shard.projection.version = 2),
        Claim {
            owner: node.id,
            ..claim.clone()
        },
        Claim {
            shard: other,
            ..claim.clone()
        },
    ] {
        assert_fenced(store, &wrong, &further).await;
    }
    advance(store, &claim, &further).await;
}

/// Of two batches that race with the same claim one is kept.
pub async fn of_racing_batches_with_one_claim_one_is_kept<S: Store>(store: &S) {
    for _ in 0..5 {
        let progress = some_progress(store).await;
        let claim = started(store).await;

        let answers = join_all((0..4).map(|_| {
            let (store, claim) = (store.clone(), claim.clone());
            tokio::spawn(async move {
                let batch = store.begin_batch(&claim, &progress).await?;
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

/// A batch may leave the checkpoint where it is: its claim holds for the next one too.
pub async fn a_batch_may_stay_where_it_is<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;
    let stay = |claim: &Claim| Progress {
        position: claim.position,
        anchor: None,
    };
    for _ in 0..2 {
        advance(store, &claim, &stay(&claim)).await;
        assert_stands_at(store, &claim, Position::START).await;
    }

    let claim = advance(store, &claim, &progress).await;
    advance(store, &claim, &stay(&claim)).await;
    assert_stands_at(store, &claim, progress.position).await;
    let held = stands(store, &claim.shard).await;
    assert_eq!(held.anchor, progress.anchor, "the anchor stays too");

    advance(store, &claim, &some_progress(store).await).await;
}

/// A batch that leaves the checkpoint where it is holds its row nevertheless.
pub async fn a_batch_that_stays_holds_the_shard<S: Store>(store: &S) {
    let claim = started(store).await;
    let stay = Progress {
        position: claim.position,
        anchor: None,
    };
    let batch = begin(store, &claim, &stay).await;
    let projection = claim.shard.projection.clone();

    let change = held_up(store, |store| async move {
        commit(begin_change(&store, &projection).await.0).await;
    })
    .await;

    commit(batch).await;
    let_go(change).await;
}

/// Each version of a projection has a checkpoint of its own.
pub async fn each_version_has_its_own_checkpoint<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let one = started(store).await;
    advance(store, &one, &progress).await;
    let two = ProjectionId::new(one.shard.projection.name.clone(), 2);
    assert_eq!(read(store, &two).await, None, "version 2 never ran");

    let standing = of_version(&stands(store, &one.shard).await, 2);
    put(store, std::slice::from_ref(&standing)).await;
    let claim = acquire(store, &standing.shard, &living_node(store).await).await;

    assert_eq!(
        claim.position,
        Position::START,
        "version 2 starts from the first event"
    );
    let further = some_progress(store).await;
    advance(store, &claim, &further).await;
    assert_eq!(read(store, &two).await, Some(further.position));
    let held = read(store, &one.shard.projection).await;
    assert_eq!(held, Some(progress.position), "version 1 stands still");
}

/// A projection of several shards stands where the slowest of them does.
pub async fn the_slowest_shard_says_where_a_projection_stands<S: ProjectionStore>(store: &S) {
    let standings = fresh_standings(3);
    put(store, &standings).await;
    let node = living_node(store).await;
    let (near, far) = (some_progress(store).await, some_progress(store).await);
    for (index, to, slowest) in [
        (1, far, Position::START),
        (2, near, Position::START),
        (0, far, near.position),
        (2, far, far.position),
    ] {
        let claim = acquire(store, &standings[index].shard, &node).await;
        advance(store, &claim, &to).await;
        let held = read(store, &standings[0].shard.projection).await;
        assert_eq!(held, Some(slowest), "where the slowest shard stands");
    }
}

/// A projection that wants other event types than before is refused; their order does not matter.
pub async fn other_event_types_are_refused<S: ProjectionStore>(store: &S) {
    let (node, shard) = (living_node(store).await, registered(store).await);

    for wanted in [
        &["note"][..],
        &["note", "third"],
        &["note", "other", "third"],
        &[],
    ] {
        let err = not_acquired(store, &shard, wanted, &node).await;
        assert!(
            matches!(&err, CheckpointError::OtherEventTypes { projection, .. } if *projection == shard.projection),
            "expected OtherEventTypes for {wanted:?}, got: {err}",
        );
    }
    let reversed = store.acquire(&shard, &["other", "note"], node.id).await;
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
        let progress = Progress {
            position: ahead,
            anchor,
        };
        let claim = advance(store, &started(store).await, &progress).await;
        release(store, &claim).await;

        let node = living_node(store).await;
        let err = not_acquired(store, &claim.shard, &TYPES, &node).await;
        assert!(
            matches!(&err, CheckpointError::AheadOfLog { projection } if *projection == claim.shard.projection),
            "expected AheadOfLog with the anchor {anchor:?}, got: {err}",
        );
    }
}

/// A checkpoint whose last event is another one in the log is refused: another log was put in place.
pub async fn a_checkpoint_of_another_history_is_refused<S: ProjectionStore>(store: &S) {
    let real = some_progress(store).await;
    let diverged = Progress {
        anchor: real.anchor.map(|(position, _)| (position, Uuid::now_v7())),
        ..real
    };
    let claim = advance(store, &started(store).await, &diverged).await;

    // That of the same node, and of another.
    let same = store.acquire(&claim.shard, &TYPES, claim.owner).await;
    release(store, &claim).await;
    let node = living_node(store).await;
    let other = store.acquire(&claim.shard, &TYPES, node.id).await;
    for answer in [same, other] {
        assert!(
            matches!(&answer, Err(CheckpointError::Diverged { projection }) if *projection == claim.shard.projection),
            "expected Diverged, got: {answer:?}",
        );
    }
}

/// A checkpoint whose last event is in the log goes on, and a batch without events keeps it so.
pub async fn a_checkpoint_of_this_history_goes_on<S: ProjectionStore>(store: &S) {
    let real = some_progress(store).await;
    let node = living_node(store).await;
    let claim = advance(store, &started(store).await, &real).await;
    release(store, &claim).await;
    let claim = acquire(store, &claim.shard, &node).await;
    assert_eq!(claim.position, real.position, "the anchor is in the log");

    let further = Progress {
        anchor: None,
        ..some_progress(store).await
    };
    let claim = advance(store, &claim, &further).await;
    let held = stands(store, &claim.shard).await;
    assert_eq!(held.anchor, real.anchor, "the last event that was applied");
    release(store, &claim).await;

    let claim = acquire(store, &claim.shard, &node).await;
    assert_eq!(claim.position, further.position, "where it stood");
}

async fn read<S: ProjectionStore>(store: &S, projection: &ProjectionId) -> Option<Position> {
    let checkpoint = store.checkpoint(projection).await;
    checkpoint.expect("a checkpoint can be read")
}
