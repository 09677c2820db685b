//! What people decide about a projection: transactions that hold all of its versions.

use es_core::{
    Batch, CheckpointError, Claim, Lifecycle, Position, ProjectionId, ProjectionStore, Shard,
    Standing,
};
use futures::future::join_all;
use tokio::time::{sleep, timeout};

use crate::{
    Store,
    claims::{
        LONG, SHORT, TYPES, acquire, advance, as_put, assert_fenced, assert_stands_at, beat, begin,
        begin_change, commit, find, fresh_standing, fresh_standings, held_up, let_go, living_node,
        new_node, not_acquired, of_version, put, registered, release, some_progress, standings,
        stands, started,
    },
    fixtures::{SOON, projection},
    standings::make_unusual,
};

/// A change shows every version and shard of the name, in order, whichever version it names.
pub async fn a_change_shows_every_version_and_shard<S: ProjectionStore>(store: &S) {
    let ours = fresh_standings(3);
    let two = of_version(&ours[0], 2);
    registered(store).await;
    put(store, std::slice::from_ref(&two)).await;
    put(store, &ours).await;
    let claim = acquire(store, &ours[1].shard, &living_node(store).await).await;
    let all = [&ours[..], std::slice::from_ref(&two)].concat();

    for version in [1, 2, 3] {
        let id = of_version(&two, version).shard.projection;
        let (mut change, held) = begin_change(store, &id).await;
        let _: &mut S::Connection = change.connection();
        assert_eq!(as_put(&held), all, "through version {version}");
        assert_eq!(held[1].owner, Some(claim.owner), "who runs it");
        assert_eq!(held[1].epoch, claim.epoch);
        commit(change).await;
        assert_stands_at(store, &claim, Position::START).await;
    }
}

/// A change of a name that nobody has put there shows nothing, and can put the first standings there.
pub async fn a_change_puts_the_first_standings<S: ProjectionStore>(store: &S) {
    let ours = fresh_standings(2);
    let id = &ours[0].shard.projection;
    let (mut change, held) = begin_change(store, id).await;
    assert_eq!(held, [], "there is nothing yet");
    let put = change.put_standings(&ours).await;
    put.expect("standings can be put");
    commit(change).await;

    assert_eq!(as_put(&standings(store, id).await), ours);
    let node = living_node(store).await;
    for standing in &ours {
        acquire(store, &standing.shard, &node).await;
    }
}

/// Standings that are there are overwritten, whole.
pub async fn standings_are_overwritten<S: ProjectionStore>(store: &S) {
    let mut ours = fresh_standings(2);
    put(store, &ours).await;
    make_unusual(&mut ours[1]);
    ours[1].position = some_progress(store).await.position;
    ours[1].shards = 7;
    ours[1].event_types = vec!["third".to_owned()];

    put(store, &ours[1..]).await;
    let held = standings(store, &ours[0].shard.projection).await;
    assert_eq!(as_put(&held), ours);

    ours[1] = fresh_standing(|standing| standing.shard = ours[1].shard.clone());
    put(store, &ours[1..]).await;
    let held = standings(store, &ours[0].shard.projection).await;
    assert_eq!(as_put(&held), ours, "nothing of the second is left");
}

/// Standings that are put get a higher epoch and no owner, whatever they say.
pub async fn a_standing_gets_a_higher_epoch_and_no_owner<S: ProjectionStore>(store: &S) {
    let (node, shard) = (living_node(store).await, registered(store).await);
    for _ in 0..3 {
        acquire(store, &shard, &node).await;
    }
    let before = stands(store, &shard).await;
    let mut last = before.epoch;
    for (epoch, owner) in [(0, None), (before.epoch, Some(node.id)), (1, Some(node.id))] {
        let standing = Standing {
            epoch,
            owner,
            ..before.clone()
        };
        put(store, &[standing]).await;
        let held = stands(store, &shard).await;
        assert!(
            held.epoch > last,
            "the epoch must rise, but went from {last} to {}",
            held.epoch,
        );
        assert_eq!(held.owner, None, "nobody runs what was changed");
        last = held.epoch;
    }
    let claim = acquire(store, &shard, &node).await;
    assert!(claim.epoch > last, "and rises on");
}

/// A change fences whoever was at work, even if it puts what was there.
pub async fn a_change_fences_the_owner<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let further = some_progress(store).await;
    let old = advance(store, &started(store).await, &progress).await;
    let standing = stands(store, &old.shard).await;

    put(store, std::slice::from_ref(&standing)).await;

    assert_fenced(store, &old, &further).await;
    let new = acquire(store, &old.shard, &living_node(store).await).await;
    assert_eq!(new.position, progress.position, "where it stood");
    assert_fenced(store, &old, &further).await;
    release(store, &old).await;
    assert_stands_at(store, &new, progress.position).await;
    advance(store, &new, &further).await;
}

/// A change that only looks fences nobody.
pub async fn a_change_that_puts_nothing_fences_nobody<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;

    commit(begin_change(store, &claim.shard.projection).await.0).await;

    assert_stands_at(store, &claim, Position::START).await;
    advance(store, &claim, &progress).await;
}

/// What is removed is gone: nobody may run it, and who did is fenced. The rest stays.
pub async fn removed_standings_are_gone<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let (node, ours) = (living_node(store).await, fresh_standings(3));
    let two = of_version(&ours[0], 2);
    put(store, &ours).await;
    put(store, std::slice::from_ref(&two)).await;
    let other = started(store).await;
    let kept = acquire(store, &ours[0].shard, &node).await;
    let removed = acquire(store, &ours[1].shard, &node).await;

    let (mut change, _) = begin_change(store, &ours[0].shard.projection).await;
    let unknown = Shard::new(ours[0].shard.projection.clone(), 9);
    let shards = [ours[1].shard.clone(), ours[2].shard.clone(), unknown];
    let gone = change.remove_standings(&shards).await;
    gone.expect("standings can be removed, also those that are not there");
    commit(change).await;

    let held = standings(store, &ours[0].shard.projection).await;
    assert_eq!(as_put(&held), [ours[0].clone(), two]);
    assert_fenced(store, &removed, &progress).await;
    let err = not_acquired(store, &removed.shard, &TYPES, &node).await;
    assert!(
        matches!(&err, CheckpointError::Unknown { .. }),
        "expected Unknown, got: {err}",
    );
    assert_stands_at(store, &kept, Position::START).await;
    assert_stands_at(store, &other, Position::START).await;
}

/// A change that is rolled back or dropped keeps nothing, and fences nobody.
pub async fn a_change_that_is_not_committed_keeps_nothing<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;
    let id = &claim.shard.projection;
    let before = standings(store, id).await;

    for roll_back in [true, false, true, false] {
        let (mut change, held) = begin_change(store, id).await;
        assert_eq!(held, before);
        let paused = Standing {
            lifecycle: Lifecycle::Paused,
            ..held[0].clone()
        };
        let put = [paused, of_version(&held[0], 2)];
        let put = change.put_standings(&put).await;
        put.expect("standings can be put");
        let gone = change
            .remove_standings(std::slice::from_ref(&claim.shard))
            .await;
        gone.expect("standings can be removed");
        if roll_back {
            let rolled_back = change.rollback().await;
            rolled_back.expect("a change can be rolled back");
        } else {
            drop(change);
        }
        assert_eq!(standings(store, id).await, before);
    }
    advance(store, &claim, &progress).await;
}

/// What a change writes is seen once it is committed, and not before.
pub async fn a_change_is_seen_once_it_is_committed<S: Store>(store: &S) {
    let (watcher, ours) = (new_node(), fresh_standings(2));
    put(store, &ours).await;
    // A beat is what waits for nothing.
    let seen = async || as_put(&beat(store, &watcher, LONG).await.standings);
    let (mut change, _) = begin_change(store, &ours[0].shard.projection).await;
    let paused = Standing {
        lifecycle: Lifecycle::Paused,
        ..ours[0].clone()
    };
    let put = change.put_standings(std::slice::from_ref(&paused)).await;
    put.expect("standings can be put");
    let gone = change
        .remove_standings(std::slice::from_ref(&ours[1].shard))
        .await;
    gone.expect("standings can be removed");

    let before = timeout(SOON, seen()).await;
    assert_eq!(before.expect("a beat waits for nothing"), ours);
    commit(change).await;
    assert_eq!(seen().await, [paused]);
}

/// A change waits for a batch that is open, and sees what it has kept.
pub async fn a_change_waits_for_an_open_batch_and_sees_its_checkpoint<S: Store>(store: &S) {
    for keep in [true, false] {
        let progress = some_progress(store).await;
        let claim = started(store).await;
        let batch = begin(store, &claim, &progress).await;

        // Another version of the name does as well.
        let id = ProjectionId::new(claim.shard.projection.name.clone(), 2);
        let change = held_up(store, |store| async move {
            let (change, held) = begin_change(&store, &id).await;
            commit(change).await;
            held
        })
        .await;
        let expected = if keep {
            commit(batch).await;
            progress.position
        } else {
            drop(batch);
            Position::START
        };

        let held = let_go(change).await;
        assert_eq!(held.len(), 1, "the one shard of the name");
        assert_eq!(held[0].position, expected, "what the batch has kept");
    }
}

/// While a change is open no batch begins, in any version; then it meets what was changed.
pub async fn no_batch_begins_while_a_change_is_open<S: Store>(store: &S) {
    let progress = some_progress(store).await;
    let old = started(store).await;
    let other = ProjectionId::new(old.shard.projection.name.clone(), 2);
    for changes in [false, true] {
        let (mut change, held) = begin_change(store, &other).await;
        let claim = old.clone();
        let batch = held_up(store, |store| async move {
            let batch = store.begin_batch(&claim, &progress).await;
            batch.map(drop)
        })
        .await;
        if changes {
            let put = change.put_standings(&held).await;
            put.expect("standings can be put");
        }
        commit(change).await;

        match let_go(batch).await {
            Ok(()) => assert!(!changes, "the claim was fenced"),
            Err(CheckpointError::Fenced { .. }) => assert!(changes, "the claim holds"),
            Err(err) => panic!("expected Fenced, got: {err}: {err:?}"),
        }
    }
}

/// While a change is open nobody acquires a shard, in any version; then whoever does meets what was
/// changed.
pub async fn nobody_acquires_while_a_change_is_open<S: Store>(store: &S) {
    let progress = some_progress(store).await;
    let (node, shard) = (living_node(store).await, registered(store).await);
    let other = ProjectionId::new(shard.projection.name.clone(), 2);
    let (mut change, mut held) = begin_change(store, &other).await;

    let asking = {
        let (store, shard, node) = (store.clone(), shard.clone(), node.id);
        tokio::spawn(async move { store.acquire(&shard, &TYPES, node).await })
    };
    // It may be told at once, or wait for the end of the change.
    sleep(SHORT).await;
    let told = asking.is_finished();
    held[0].position = progress.position;
    let put = change.put_standings(&held).await;
    put.expect("standings can be put");
    commit(change).await;

    let claim = match let_go(asking).await {
        Ok(claim) if !told => claim,
        Err(CheckpointError::Held { .. }) => acquire(store, &shard, &node).await,
        answer => panic!("the change was still open, got: {answer:?}"),
    };
    assert_stands_at(store, &claim, progress.position).await;
}

/// Changes of one name come one after the other, through whichever version, and also while there is no
/// row that could be locked: each sees what the one before has put there.
pub async fn changes_of_one_name_are_serial<S: Store>(store: &S) {
    for _ in 0..3 {
        let first = fresh_standing(|_| {});
        let changes = join_all((1..=8).map(|version| {
            let (store, standing) = (store.clone(), of_version(&first, version));
            tokio::spawn(async move {
                let (mut change, held) = begin_change(&store, &standing.shard.projection).await;
                tokio::task::yield_now().await;
                let put = change.put_standings(&[standing]).await;
                put.expect("standings can be put");
                commit(change).await;
                held.len()
            })
        }))
        .await;

        let mut seen: Vec<_> = changes
            .into_iter()
            .map(|change| change.expect("a change must not panic"))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7], "what each change saw");
        let held = standings(store, &first.shard.projection).await;
        assert_eq!(held.len(), 8, "what each change has put there");
    }
}

/// A batch may put standings as well, and they are kept with it or not at all: so a runner says that it
/// has failed.
pub async fn a_batch_puts_standings_with_its_checkpoint<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let claim = started(store).await;
    let failed = Standing {
        lifecycle: Lifecycle::Failed,
        position: progress.position,
        anchor: progress.anchor,
        ..stands(store, &claim.shard).await
    };
    for keep in [false, true] {
        let mut batch = begin(store, &claim, &progress).await;
        let put = batch.put_standings(std::slice::from_ref(&failed)).await;
        put.expect("standings can be put in a batch");
        if !keep {
            drop(batch);
            assert_stands_at(store, &claim, Position::START).await;
            continue;
        }
        commit(batch).await;
    }
    let held = stands(store, &claim.shard).await;
    assert_eq!(as_put(&[held]), as_put(&[failed]));
    let used = Claim {
        position: progress.position,
        ..claim
    };
    assert_fenced(store, &used, &some_progress(store).await).await;
    assert_eq!(find(store, &Shard::new(projection(), 0)).await, None);
}
