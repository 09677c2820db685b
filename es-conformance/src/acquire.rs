//! Who may run a shard.

use es_core::{
    Batch, CheckpointError, Claim, Lifecycle, Marks, Position, ProjectionId, ProjectionStore, Shard,
};
use futures::future::join_all;
use tokio::time::sleep;

use crate::{
    Store,
    claims::{
        LONG, SHORT, TYPES, acquire, advance, assert_fenced, assert_held_by, assert_stands_at,
        beat, begin, commit, fresh_standing, fresh_standings, leave, let_go, living_node,
        not_acquired, put, registered, release, some_progress, stands, started,
    },
    fixtures::projection,
};

/// A claim says everything that whoever runs the shard must know.
pub async fn a_claim_tells_where_the_shard_stands<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let node = living_node(store).await;
    let mut standings = fresh_standings(3);
    for standing in &mut standings {
        standing.position = progress.position;
        standing.anchor = progress.anchor;
        standing.lifecycle = Lifecycle::Rebuilding;
        standing.active = false;
        standing.applied = Marks::new([7, 9].map(Position::new));
        standing.silent = Marks::new([8].map(Position::new));
    }
    put(store, &standings).await;
    let shard = &standings[1].shard;

    let claim = acquire(store, shard, &node).await;

    let standing = stands(store, shard).await;
    assert_eq!(
        standing.owner,
        Some(node.id),
        "the standing names the owner"
    );
    let expected = Claim {
        shard: shard.clone(),
        shards: 3,
        owner: node.id,
        epoch: standing.epoch,
        position: progress.position,
        lifecycle: Lifecycle::Rebuilding,
        active: false,
        applied: Marks::new([7, 9].map(Position::new)),
        silent: Marks::new([8].map(Position::new)),
    };
    assert_eq!(claim, expected);
}

/// A shard that nobody has put there is unknown: another projection, another version, another part.
pub async fn an_unknown_shard_is_refused<S: ProjectionStore>(store: &S) {
    let (node, known) = (living_node(store).await, registered(store).await);
    let other_version = ProjectionId::new(known.projection.name.clone(), 2);
    for shard in [
        Shard::new(projection(), 0),
        Shard::new(other_version, 0),
        Shard::new(known.projection.clone(), 1),
    ] {
        let err = not_acquired(store, &shard, &TYPES, &node).await;
        assert!(
            matches!(&err, CheckpointError::Unknown { shard: s } if *s == shard),
            "expected Unknown, got: {err}",
        );
    }
    acquire(store, &known, &node).await;
}

/// What is paused, failed, retired or detached is not run; what is running or rebuilding is.
pub async fn only_what_is_meant_to_run_is_given<S: ProjectionStore>(store: &S) {
    let node = living_node(store).await;
    for lifecycle in [
        Lifecycle::Running,
        Lifecycle::Paused,
        Lifecycle::Rebuilding,
        Lifecycle::Failed,
        Lifecycle::Retired,
        Lifecycle::Detached,
    ] {
        let standing = fresh_standing(|standing| standing.lifecycle = lifecycle);
        put(store, std::slice::from_ref(&standing)).await;
        let shard = standing.shard;
        if lifecycle.is_running() {
            let claim = acquire(store, &shard, &node).await;
            assert_eq!(claim.lifecycle, lifecycle);
            continue;
        }
        let err = not_acquired(store, &shard, &TYPES, &node).await;
        assert!(
            matches!(
                &err,
                CheckpointError::NotRunning { projection, lifecycle: actual }
                    if *projection == shard.projection && *actual == lifecycle
            ),
            "expected NotRunning because it is {lifecycle}, got: {err}",
        );
        assert_eq!(stands(store, &shard).await.owner, None, "nobody runs it");
    }
}

/// What runs inside the appends is not given to a node.
pub async fn what_runs_inside_the_appends_is_refused<S: ProjectionStore>(store: &S) {
    let node = living_node(store).await;
    let standing = fresh_standing(|standing| standing.lifecycle = Lifecycle::Inline);
    put(store, std::slice::from_ref(&standing)).await;
    let shard = standing.shard;

    let err = not_acquired(store, &shard, &TYPES, &node).await;

    assert!(
        matches!(&err, CheckpointError::Inline { projection } if *projection == shard.projection),
        "expected Inline, got: {err}",
    );
}

/// While one node runs a shard, another is told who runs it.
pub async fn a_held_shard_is_not_given_to_another<S: ProjectionStore>(store: &S) {
    let claim = started(store).await;

    let err = not_acquired(store, &claim.shard, &TYPES, &living_node(store).await).await;

    assert_held_by(&err, &claim.shard, claim.owner);
    assert!(err.is_retryable(), "a held shard may be free later");
    assert_stands_at(store, &claim, Position::START).await;
}

/// Of eight nodes that race for a shard one gets it; the others are told it is held.
pub async fn of_racing_nodes_one_gets_the_shard<S: Store>(store: &S) {
    let nodes = join_all((0..8).map(|_| living_node(store))).await;
    for _ in 0..5 {
        let shard = registered(store).await;
        let answers = join_all(nodes.iter().map(|node| {
            let (store, shard, node) = (store.clone(), shard.clone(), node.id);
            tokio::spawn(async move { store.acquire(&shard, &TYPES, node).await })
        }))
        .await;

        let mut won = Vec::new();
        for answer in answers {
            match answer.expect("a node must not panic") {
                Ok(claim) => won.push(claim),
                Err(CheckpointError::Held { .. }) => {}
                Err(err) => panic!("expected Held, got: {err}: {err:?}"),
            }
        }
        assert_eq!(won.len(), 1, "exactly one node gets it");
        assert_stands_at(store, &won[0], Position::START).await;
    }
}

/// Each acquire raises the epoch, also that of the same node, and fences the claim before it.
pub async fn the_epoch_rises_with_each_acquire<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let (node, shard) = (living_node(store).await, registered(store).await);
    let mut claim = acquire(store, &shard, &node).await;
    for _ in 0..3 {
        let again = acquire(store, &shard, &node).await;
        assert!(
            again.epoch > claim.epoch,
            "the epoch must rise, but went from {} to {}",
            claim.epoch,
            again.epoch,
        );
        assert_stands_at(store, &again, Position::START).await;
        assert_fenced(store, &claim, &progress).await;
        claim = again;
    }
    advance(store, &claim, &progress).await;
}

/// A released shard goes to another node, with a higher epoch and where it stood.
pub async fn a_released_shard_goes_to_another_with_a_higher_epoch<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let first = started(store).await;
    let first = advance(store, &first, &progress).await;

    release(store, &first).await;

    let free = stands(store, &first.shard).await;
    assert_eq!(free.owner, None, "nobody runs a released shard");
    let second = acquire(store, &first.shard, &living_node(store).await).await;
    assert!(
        second.epoch > first.epoch,
        "the epoch must rise with a change of owner, but went from {} to {}",
        first.epoch,
        second.epoch,
    );
    assert_eq!(second.position, progress.position, "where it stood");
}

/// A claim that was released is fenced, also before another node has the shard, and though the
/// checkpoint stands where the claim says.
pub async fn a_released_claim_is_fenced<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let old = started(store).await;
    release(store, &old).await;
    assert_fenced(store, &old, &progress).await;

    let new = acquire(store, &old.shard, &living_node(store).await).await;
    assert_eq!(old.position, new.position, "both stand at the same place");
    assert_fenced(store, &old, &progress).await;

    advance(store, &new, &progress).await;
}

/// A claim that no longer holds releases nothing: neither the next claim of the same node nor that of
/// another.
pub async fn an_old_claim_does_not_release_the_new_one<S: ProjectionStore>(store: &S) {
    let (node, shard) = (living_node(store).await, registered(store).await);
    let oldest = acquire(store, &shard, &node).await;
    let older = acquire(store, &shard, &node).await;
    release(store, &oldest).await;
    assert_stands_at(store, &older, Position::START).await;

    release(store, &older).await;
    let new = acquire(store, &shard, &living_node(store).await).await;
    for old in [oldest, older] {
        release(store, &old).await;
        assert_stands_at(store, &new, Position::START).await;
    }
}

/// While a batch of another node is open, its shard is not given away, though that node is gone: whoever
/// gets it sees what the batch has kept.
pub async fn a_shard_with_an_open_batch_is_not_given_to_another<S: Store>(store: &S) {
    let (node, other) = (living_node(store).await, living_node(store).await);
    for keep in [true, false] {
        let progress = some_progress(store).await;
        let shard = registered(store).await;
        let claim = acquire(store, &shard, &node).await;
        let batch = begin(store, &claim, &progress).await;
        leave(store, &node).await;

        let asking = {
            let (store, shard, other) = (store.clone(), shard.clone(), other.id);
            tokio::spawn(async move { store.acquire(&shard, &TYPES, other).await })
        };
        // It may be told at once, or wait for the end of the batch.
        sleep(SHORT).await;
        let told = asking.is_finished();
        let stands_at = if keep {
            commit(batch).await;
            progress.position
        } else {
            batch.rollback().await.expect("a batch can be rolled back");
            Position::START
        };
        let claim = match let_go(asking).await {
            Ok(claim) if !told => claim,
            Err(err) => {
                assert_held_by(&err, &shard, node.id);
                acquire(store, &shard, &other).await
            }
            Ok(claim) => panic!("the batch was still open, got: {claim:?}"),
        };
        assert_eq!(claim.position, stands_at, "what the batch has kept");
        beat(store, &node, LONG).await;
    }
}

/// The shards of a projection are run by different nodes and move independently.
pub async fn shards_move_independently<S: ProjectionStore>(store: &S) {
    let standings = fresh_standings(3);
    put(store, &standings).await;
    let mut claims = Vec::new();
    for standing in &standings {
        let node = living_node(store).await;
        claims.push(acquire(store, &standing.shard, &node).await);
    }
    for moved in [1, 2, 1, 0] {
        let progress = some_progress(store).await;
        claims[moved] = advance(store, &claims[moved], &progress).await;
        for claim in &claims {
            assert_stands_at(store, claim, claim.position).await;
        }
    }
    release(store, &claims[2]).await;
    assert_stands_at(store, &claims[1], claims[1].position).await;
}
