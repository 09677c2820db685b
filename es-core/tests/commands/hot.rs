//! What commands cost, and the order in which they run.

use es_core::{AggregateCache, Repository, SnapshotStore, Version, Visit};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    counter::{Counted, Counter, Full, Opened, hot},
    watched::{Seen, Watched},
};

fn one_append() -> Seen {
    Seen {
        appends: 1,
        ..Seen::default()
    }
}

/// Seen to fail when nothing is kept after the commit.
#[tokio::test]
async fn a_command_on_a_kept_aggregate_is_one_append_and_nothing_else() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;

    for _ in 0..10 {
        counters.update(id, |c| c.count(1)).await.unwrap();
        assert_eq!(store.seen(), one_append());
        store.forget();
    }

    let root = counters.load(id).await.unwrap();
    assert_eq!((root.total, root.version()), (12, Version::new(13)));
}

/// Seen to fail when the cache hands its states out although it is switched off.
#[tokio::test]
async fn a_command_on_any_other_is_one_visit_and_one_append() {
    let store = Watched::new();
    let (warm, id) = hot(&store, 100).await;
    let stream = warm.stream(id);
    let cold = Repository::<Counter>::new(store.clone()).cache(AggregateCache::none());

    for snapshot in [false, false, true] {
        let cold = cold.clone().snapshot_every(if snapshot { 100 } else { 0 });
        cold.update(id, |c| c.count(1)).await.unwrap();
        let visit = Visit {
            snapshot,
            ..Visit::all(stream.clone())
        };
        let visits = vec![visit];
        assert_eq!(
            store.seen(),
            Seen {
                visits,
                ..one_append()
            }
        );
        store.forget();
    }
}

#[tokio::test]
async fn loading_is_one_visit_whatever_is_kept() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;

    counters.load(id).await.unwrap();
    counters.load_at(id, Version::new(2)).await.unwrap();

    let seen = store.seen();
    assert_eq!((seen.visits.len(), seen.reads), (2, 0), "{seen:?}");
}

/// Seen to fail when each command gets a slot of its own.
#[tokio::test]
async fn commands_on_one_aggregate_queue_instead_of_fighting() {
    for cache in [AggregateCache::new(), AggregateCache::none()] {
        let store = Watched::new();
        let counters = Repository::<Counter>::new(store.clone())
            .retries(0)
            .cache(cache);
        let id = Uuid::now_v7();
        counters.create(id, Opened { limit: 1_000 }).await.unwrap();

        let mut tasks = JoinSet::new();
        for by in 0..16 {
            let counters = counters.clone();
            tasks.spawn(async move { counters.update(id, |c| c.count(by)).await.unwrap() });
        }
        tasks.join_all().await;

        assert_eq!(store.seen().conflicts, 0);
        let root = counters.load(id).await.unwrap();
        assert_eq!(root.steps, (0..16).collect::<Vec<_>>());
    }
}

/// Seen to fail when each command gets a slot of its own.
#[tokio::test]
async fn a_dropped_command_leaves_the_queue() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;
    let mut first = Box::pin(counters.update(id, |c| c.count(1)));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(counters.update(id, |c| c.count(10)));
    assert!(futures::poll!(&mut second).is_pending());
    let mut third = Box::pin(counters.update(id, |c| c.count(20)));
    assert!(futures::poll!(&mut third).is_pending());

    drop(second);
    let (first, third) = futures::join!(first, third);

    assert_eq!(first.unwrap().unwrap().version, Version::new(4));
    assert_eq!(third.unwrap().unwrap().version, Version::new(5));
    assert_eq!(store.seen().conflicts, 0);
}

/// Seen to fail when the snapshot is taken of the state before the events.
#[tokio::test]
async fn snapshots_are_taken_of_the_state_in_hand() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 1_000).await;
    let counters = counters.snapshot_every(5);

    for by in 3..12 {
        counters
            .update(id, |_| Ok::<_, Full>([Counted { by }, Counted { by }]))
            .await
            .unwrap();
    }

    // From version 3 to 21 by twos: 5, 10, 15 and 20 are crossed.
    assert_eq!(
        store.seen(),
        Seen {
            appends: 9,
            snapshots: 4,
            ..Seen::default()
        }
    );
    let newest = store
        .load_snapshot(&counters.stream(id), Version::MAX)
        .await
        .unwrap()
        .unwrap();
    let then = counters
        .clone()
        .snapshot_every(0)
        .load_at(id, newest.version)
        .await
        .unwrap();
    assert_eq!(newest.version, Version::new(21));
    assert_eq!(&newest.state.decode::<Counter>().unwrap(), then.state());
}

/// Seen to fail when the slot is still locked while the snapshot is saved.
#[tokio::test]
async fn the_next_command_does_not_wait_for_a_snapshot() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;
    store.hold_snapshots();
    let with = counters.clone().snapshot_every(4);

    let slow = tokio::spawn(async move { with.update(id, |c| c.count(1)).await });
    while store.seen().snapshots == 0 {
        tokio::task::yield_now().await;
    }
    let mut next = Box::pin(counters.update(id, |c| c.count(1)));
    let mut answer = futures::poll!(&mut next);
    for _ in 0..10 {
        if answer.is_pending() {
            answer = futures::poll!(&mut next);
        }
    }

    assert!(answer.is_ready(), "it waits for the snapshot");
    assert_eq!(store.seen().conflicts, 0);
    slow.abort();
}
