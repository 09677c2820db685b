//! Who is alive, and what becomes of the shards of a node that is not.

use std::time::Duration;

use es_core::{CheckpointError, Claim, Node, Position, ProjectionId, ProjectionStore};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Store,
    claims::{
        LONG, SHORT, TYPES, acquire, advance, assert_fenced, assert_held_by, beat, begin,
        begin_change, commit, fresh_standings, leave, living_node, new_node, not_acquired, put,
        registered, release, some_progress, stands, started, take_over,
    },
    fixtures::SOON,
};

/// A beat announces the node, for the time it names, with its name and what it can run; the next beat
/// says it anew.
pub async fn a_beat_announces_the_node<S: ProjectionStore>(store: &S) {
    let mut node = Node {
        name: "it's \"host\"/7".to_owned(),
        runs: vec![ProjectionId::new("rooms", 1), ProjectionId::new("é, 二", 2)],
        ..new_node()
    };
    for ttl in [LONG, LONG * 3, LONG] {
        let fleet = beat(store, &node, ttl).await;

        let [(seen, rest)] = &fleet.nodes[..] else {
            panic!("one node is alive, got: {:?}", fleet.nodes);
        };
        assert_eq!(*seen, node);
        assert!(
            *rest <= ttl && *rest > ttl - SOON,
            "a node that announced {ttl:?} lives for {rest:?}",
        );
        node.name.push_str("'s brother");
        node.runs.pop();
    }
}

/// Every living node sees all of them, by id.
pub async fn living_nodes_see_each_other<S: ProjectionStore>(store: &S) {
    let mut nodes: Vec<_> = (0..5).map(|_| new_node()).collect();
    // Not in the order in which they come.
    nodes.reverse();
    for node in &nodes {
        beat(store, node, LONG).await;
    }
    nodes.reverse();
    for node in &nodes {
        let fleet = beat(store, node, LONG).await;
        let seen: Vec<_> = fleet.nodes.into_iter().map(|(node, _)| node).collect();
        assert_eq!(seen, nodes, "all that are alive, by id");
    }
}

/// A beat tells where everything stands.
pub async fn a_beat_tells_where_everything_stands<S: ProjectionStore>(store: &S) {
    let node = living_node(store).await;
    for shards in [1, 3] {
        put(store, &fresh_standings(shards)).await;
    }
    let shard = registered(store).await;
    acquire(store, &shard, &node).await;

    let fleet = beat(store, &node, LONG).await;

    let all = store.standings(None).await.expect("standings can be read");
    assert_eq!(fleet.standings.len(), 5, "every shard of every projection");
    assert_eq!(fleet.standings, all, "where everything stands");
}

/// A node is seen for the time it announced and no longer.
pub async fn a_silent_node_is_no_longer_seen<S: ProjectionStore>(store: &S) {
    let (node, watcher) = (living_node(store).await, new_node());
    let sees = async || {
        let fleet = beat(store, &watcher, LONG).await;
        fleet.nodes.iter().any(|(seen, _)| *seen == node)
    };
    sleep(SHORT).await;
    assert!(sees().await, "the time of the node is not over");

    let began = Instant::now();
    beat(store, &node, SHORT).await;
    while sees().await {
        assert!(
            began.elapsed() < SOON,
            "a node that said it lives for {SHORT:?} is alive after {SOON:?}",
        );
        sleep(SHORT / 5).await;
    }
    assert_lasted(began, SHORT);
}

/// A node that stops beating loses its shards once its time is over, and not before.
pub async fn a_node_that_stops_beating_loses_its_shards_after_its_time_and_not_before<
    S: ProjectionStore,
>(
    store: &S,
) {
    let (node, other) = (living_node(store).await, living_node(store).await);
    let shard = registered(store).await;
    let old = acquire(store, &shard, &node).await;
    sleep(SHORT).await;
    let err = not_acquired(store, &shard, &TYPES, &other).await;
    assert_held_by(&err, &shard, node.id);

    let began = Instant::now();
    beat(store, &node, SHORT).await;
    let new = take_over(store, &shard).await;

    assert_lasted(began, SHORT);
    assert!(new.epoch > old.epoch, "the epoch rises with the owner");
    assert_eq!(stands(store, &shard).await.owner, Some(new.owner));
}

/// The claim of a node that was taken over can keep nothing any more.
pub async fn a_claim_that_was_taken_over_is_fenced<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let (node, shard) = (living_node(store).await, registered(store).await);
    let old = acquire(store, &shard, &node).await;
    beat(store, &node, SHORT).await;

    let new = take_over(store, &shard).await;

    assert_fenced(store, &old, &progress).await;
    let held = stands(store, &shard).await;
    assert_eq!(
        held.position,
        Position::START,
        "nothing of the fenced batch is kept"
    );
    assert_eq!(held.owner, Some(new.owner), "the new owner still has it");
    // Alive again, it is still not the owner.
    beat(store, &node, LONG).await;
    assert_fenced(store, &old, &progress).await;
    advance(store, &new, &progress).await;
    assert_fenced(store, &old, &progress).await;
}

/// Nobody owns the shards of a node whose time is over, but as long as nobody has taken over, its batches
/// are kept: a pause does no harm by itself.
pub async fn a_node_that_slept_goes_on_if_nobody_took_over<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let (node, shard) = (living_node(store).await, registered(store).await);
    let claim = acquire(store, &shard, &node).await;
    beat(store, &node, SHORT).await;

    let began = Instant::now();
    while stands(store, &shard).await.owner.is_some() {
        assert!(began.elapsed() < SOON, "a dead node owns nothing");
        sleep(SHORT / 5).await;
    }

    advance(store, &claim, &progress).await;
    beat(store, &node, LONG).await;
    let held = stands(store, &shard).await;
    assert_eq!(held.position, progress.position, "the batch is kept");
    assert_eq!(held.owner, Some(node.id), "alive again, it owns the shard");
}

/// A node that beats keeps its shards, for the time that its last beat names.
pub async fn a_node_that_beats_keeps_its_shards<S: ProjectionStore>(store: &S) {
    let (node, other) = (living_node(store).await, living_node(store).await);
    let shard = registered(store).await;
    acquire(store, &shard, &node).await;
    beat(store, &node, SHORT).await;
    beat(store, &node, LONG).await;

    // The short time must be over, so that only the last beat can hold.
    sleep(SHORT * 3).await;

    let err = not_acquired(store, &shard, &TYPES, &other).await;
    assert_held_by(&err, &shard, node.id);
}

/// What a node ran can be taken as soon as it has left, and nobody sees it any more.
pub async fn a_node_that_leaves_frees_its_shards_at_once<S: ProjectionStore>(store: &S) {
    let (node, other) = (living_node(store).await, living_node(store).await);
    let shard = registered(store).await;
    let old = acquire(store, &shard, &node).await;

    leave(store, &node).await;

    assert_eq!(
        stands(store, &shard).await.owner,
        None,
        "nobody runs the shard"
    );
    let fleet = beat(store, &other, LONG).await;
    assert!(
        fleet.nodes.iter().all(|(seen, _)| seen.id != node.id),
        "a node that left is not seen",
    );
    let new = acquire(store, &shard, &other).await;
    assert!(new.epoch > old.epoch, "the epoch rises with the owner");
}

/// That a node leaves which never came, or has left, changes nothing for others.
pub async fn leaving_again_changes_nothing<S: ProjectionStore>(store: &S) {
    let claim = started(store).await;
    let gone = living_node(store).await;
    leave(store, &gone).await;

    leave(store, &gone).await;
    leave(store, &new_node()).await;

    let err = not_acquired(store, &claim.shard, &TYPES, &living_node(store).await).await;
    assert_held_by(&err, &claim.shard, claim.owner);
}

/// A node that never announced itself, or too long ago, or has left, may run nothing.
pub async fn only_a_living_node_may_run_a_shard<S: ProjectionStore>(store: &S) {
    let shard = registered(store).await;
    let (silent, gone) = (living_node(store).await, living_node(store).await);
    beat(store, &silent, Duration::from_millis(1)).await;
    leave(store, &gone).await;
    sleep(SHORT).await;

    for node in [new_node(), silent, gone] {
        let err = not_acquired(store, &shard, &TYPES, &node).await;
        assert!(
            matches!(
                &err,
                CheckpointError::NotAlive { projection, node: asked }
                    if *projection == shard.projection && *asked == node.id
            ),
            "expected NotAlive, got: {err}",
        );
        assert!(err.is_retryable(), "it may announce itself and try again");
        beat(store, &node, LONG).await;
        let claim = acquire(store, &shard, &node).await;
        release(store, &claim).await;
    }
}

/// A beat waits for no batch and no change that is open, and tells what is committed.
pub async fn a_beat_does_not_wait_for_an_open_batch<S: Store>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;
    let node = new_node();
    let beats = async |what: &str| {
        let fleet = timeout(SOON, beat(store, &node, LONG)).await;
        let fleet = fleet.unwrap_or_else(|_| panic!("a beat waits for {what}"));
        let mut standings = fleet.standings.into_iter();
        let standing = standings.find(|standing| standing.shard == claim.shard);
        standing.expect("the shard is there")
    };

    let batch = begin(store, &claim, &progress).await;
    let seen = beats("a batch").await;
    assert_eq!(seen.position, Position::START, "what is committed");
    commit(batch).await;

    let (change, _) = begin_change(store, &claim.shard.projection).await;
    let seen = beats("a change").await;
    assert_eq!(seen.position, progress.position, "what is committed");
    commit(change).await;
}

/// A batch may take longer than a node's time: the shard stays with the node as long as it beats.
pub async fn a_long_batch_does_not_lose_the_shard<S: Store>(store: &S) {
    let progress = some_progress(store).await;
    let (node, other) = (living_node(store).await, living_node(store).await);
    let shard = registered(store).await;
    let claim = acquire(store, &shard, &node).await;
    beat(store, &node, SHORT).await;

    let batch = begin(store, &claim, &progress).await;
    sleep(SHORT * 2).await;
    beat(store, &node, LONG).await;
    commit(batch).await;

    let err = not_acquired(store, &shard, &TYPES, &other).await;
    assert_held_by(&err, &shard, node.id);
    let claim = Claim {
        position: progress.position,
        ..claim
    };
    advance(store, &claim, &some_progress(store).await).await;
}

/// The store's clock may count in milliseconds.
#[track_caller]
fn assert_lasted(began: Instant, ttl: Duration) {
    let lasted = began.elapsed() + Duration::from_millis(2);
    assert!(
        lasted >= ttl,
        "the node's time of {ttl:?} was over after {lasted:?}"
    );
}
