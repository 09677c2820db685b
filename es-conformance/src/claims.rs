//! What the checks of projections share: nodes, standings, claims and batches.

use std::time::Duration;

use es_core::{
    Batch, CheckpointError, Claim, Fleet, Node, Position, Progress, ProjectionId, ProjectionStore,
    Shard, Standing,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    Store,
    fixtures::{SOON, add, notes, projection, settle, stream},
};

pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const SHORT: Duration = Duration::from_millis(50);
pub(crate) const TYPES: [&str; 2] = ["note", "other"];

/// A node that nobody has heard of.
pub(crate) fn new_node() -> Node {
    Node {
        id: Uuid::now_v7(),
        name: "conformance/1".to_owned(),
        runs: Vec::new(),
    }
}

/// A node that lives as long as the check.
pub(crate) async fn living_node<S: ProjectionStore>(store: &S) -> Node {
    let node = new_node();
    beat(store, &node, LONG).await;
    node
}

pub(crate) async fn beat<S: ProjectionStore>(store: &S, node: &Node, ttl: Duration) -> Fleet {
    match store.beat(node, ttl).await {
        Ok(fleet) => fleet,
        Err(err) => panic!("a node must be able to announce itself, got: {err}: {err:?}"),
    }
}

pub(crate) async fn leave<S: ProjectionStore>(store: &S, node: &Node) {
    let left = store.leave(node.id).await;
    left.expect("a node can leave");
}

/// The standings of a projection that nobody has run, divided into this many shards.
pub(crate) fn fresh_standings(shards: u32) -> Vec<Standing> {
    let projection = projection();
    (0..shards)
        .map(|index| Standing::new(Shard::new(projection.clone(), index), shards, &TYPES))
        .collect()
}

/// The first of the standings, changed; most projections have one.
pub(crate) fn fresh_standing(change: impl FnOnce(&mut Standing)) -> Standing {
    let mut standing = fresh_standings(1).remove(0);
    change(&mut standing);
    standing
}

/// Another version of the same projection that has not begun.
pub(crate) fn of_version(standing: &Standing, version: u32) -> Standing {
    let id = ProjectionId::new(standing.shard.projection.name.clone(), version);
    Standing::new(Shard::new(id, 0), 1, &TYPES)
}

pub(crate) async fn begin_change<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
) -> (S::Batch, Vec<Standing>) {
    match store.begin_change(projection).await {
        Ok(change) => change,
        Err(err) => panic!("a change of `{projection}` must begin, got: {err}: {err:?}"),
    }
}

/// Puts standings of one projection there, in a change of their own.
pub(crate) async fn put<S: ProjectionStore>(store: &S, standings: &[Standing]) {
    let (mut change, _) = begin_change(store, &standings[0].shard.projection).await;
    let put = change.put_standings(standings).await;
    put.expect("standings can be put");
    commit(change).await;
}

pub(crate) async fn commit<B: Batch>(batch: B) {
    batch.commit().await.expect("a batch can be committed");
}

/// A projection of one shard that stands at the start.
pub(crate) async fn registered<S: ProjectionStore>(store: &S) -> Shard {
    let standings = fresh_standings(1);
    put(store, &standings).await;
    standings[0].shard.clone()
}

/// A projection of one shard, run by a node that lives as long as the check.
pub(crate) async fn started<S: ProjectionStore>(store: &S) -> Claim {
    let (node, shard) = (living_node(store).await, registered(store).await);
    acquire(store, &shard, &node).await
}

pub(crate) async fn acquire<S: ProjectionStore>(store: &S, shard: &Shard, node: &Node) -> Claim {
    match store.acquire(shard, &TYPES, node.id).await {
        Ok(claim) => claim,
        Err(err) => panic!("`{shard}` must be acquired, got: {err}: {err:?}"),
    }
}

pub(crate) async fn not_acquired<S: ProjectionStore>(
    store: &S,
    shard: &Shard,
    types: &[&str],
    node: &Node,
) -> CheckpointError {
    match store.acquire(shard, types, node.id).await {
        Ok(claim) => panic!("`{shard}` must not be acquired, got: {claim:?}"),
        Err(err) => err,
    }
}

#[track_caller]
pub(crate) fn assert_held_by(err: &CheckpointError, shard: &Shard, owner: Uuid) {
    assert!(
        matches!(
            err,
            CheckpointError::Held { projection, owner: holder }
                if *projection == shard.projection && *holder == owner
        ),
        "expected Held by {owner}, got: {err}",
    );
}

/// Tries as another node until the owner is no longer alive.
pub(crate) async fn take_over<S: ProjectionStore>(store: &S, shard: &Shard) -> Claim {
    let (node, end) = (living_node(store).await, Instant::now() + SOON);
    loop {
        match store.acquire(shard, &TYPES, node.id).await {
            Ok(claim) => return claim,
            Err(CheckpointError::Held { .. }) if Instant::now() < end => {
                sleep(SHORT / 5).await;
            }
            Err(err) => panic!("what a dead node ran must be taken over, got: {err}: {err:?}"),
        }
    }
}

pub(crate) async fn release<S: ProjectionStore>(store: &S, claim: &Claim) {
    let released = store.release(claim).await;
    released.expect("a claim can be released");
}

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

pub(crate) async fn begin<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) -> S::Batch {
    match store.begin_batch(claim, to).await {
        Ok(batch) => batch,
        Err(err) => panic!("a batch with a good claim must begin, got: {err}: {err:?}"),
    }
}

/// Moves the checkpoint; returns the claim for the next batch.
pub(crate) async fn advance<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) -> Claim {
    commit(begin(store, claim, to).await).await;
    Claim {
        position: to.position,
        ..claim.clone()
    }
}

pub(crate) async fn assert_fenced<S: ProjectionStore>(store: &S, claim: &Claim, to: &Progress) {
    let before = find(store, &claim.shard).await;
    match store.begin_batch(claim, to).await {
        Ok(_) => panic!("a batch with an old claim must be fenced, but it began"),
        Err(err) => assert!(
            matches!(&err, CheckpointError::Fenced { projection } if *projection == claim.shard.projection),
            "expected Fenced, got: {err}: {err:?}",
        ),
    }
    assert_eq!(find(store, &claim.shard).await, before, "nothing is kept");
}

pub(crate) async fn assert_stands_at<S: ProjectionStore>(
    store: &S,
    claim: &Claim,
    position: Position,
) {
    let held = stands(store, &claim.shard).await;
    assert_eq!(held.position, position, "where the projection stands");
    assert_eq!(held.epoch, claim.epoch, "the epoch stays with the owner");
    assert_eq!(held.owner, Some(claim.owner), "the owner still has it");
}

/// Every version of one name.
pub(crate) async fn standings<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
) -> Vec<Standing> {
    let standings = store.standings(Some(&projection.name)).await;
    standings.expect("standings can be read")
}

pub(crate) async fn find<S: ProjectionStore>(store: &S, shard: &Shard) -> Option<Standing> {
    let mut standings = standings(store, &shard.projection).await;
    standings.retain(|standing| standing.shard == *shard);
    assert!(standings.len() <= 1, "one row for `{shard}`");
    standings.pop()
}

/// The standing of a shard that is there.
pub(crate) async fn stands<S: ProjectionStore>(store: &S, shard: &Shard) -> Standing {
    match find(store, shard).await {
        Some(standing) => standing,
        None => panic!("`{shard}` must be there"),
    }
}

/// The standings without what the store decides: epoch and owner.
pub(crate) fn as_put(standings: &[Standing]) -> Vec<Standing> {
    let as_put = |standing: &Standing| Standing {
        epoch: 0,
        owner: None,
        ..standing.clone()
    };
    standings.iter().map(as_put).collect()
}

/// Lets another task begin something that an open transaction is to hold up, and sees that it does not
/// end by itself.
pub(crate) async fn held_up<S, F, T>(store: &S, begin: impl FnOnce(S) -> F) -> JoinHandle<T>
where
    S: Store,
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let task = tokio::spawn(begin(store.clone()));
    sleep(SHORT).await;
    assert!(
        !task.is_finished(),
        "it must wait for the transaction that is open",
    );
    task
}

/// What was held up must end soon once nothing is in its way.
pub(crate) async fn let_go<T>(task: JoinHandle<T>) -> T {
    let ended = timeout(SOON, task).await;
    ended
        .expect("nothing is in the way any more")
        .expect("no task may panic")
}
