//! Others write behind the cache's back.

use es_core::{
    AppendError, EventStore, LoadError, SaveError, StreamErased, UpdateError, Version, Visit,
};

use crate::{
    counter::{Full, elsewhere, hot},
    watched::Watched,
};

/// Seen to fail when the decision is not made again.
#[tokio::test]
async fn a_conflict_costs_a_load_and_decides_on_what_is_there() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 10).await;
    elsewhere(&store).update(id, |c| c.count(7)).await.unwrap();

    // 9 of 10: the decision on the kept state would have been to count.
    let refused = counters.update(id, |c| c.count(2)).await.unwrap_err();

    assert_eq!(refused.rejection(), Some(Full));
    let seen = store.seen();
    assert_eq!((seen.appends, seen.conflicts, seen.reads), (1, 1, 0));
    assert_eq!(seen.visits, [Visit::all(counters.stream(id))]);
    assert_eq!(counters.load(id).await.unwrap().total, 9);
}

/// Seen to fail when such a conflict counts as a retry.
#[tokio::test]
async fn a_conflict_that_only_tells_that_the_kept_state_is_old_is_no_retry() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 10).await;
    elsewhere(&store).update(id, |c| c.count(1)).await.unwrap();

    let counters = counters.retries(0);
    let appended = counters.update(id, |c| c.count(1)).await.unwrap().unwrap();

    assert_eq!(appended.version, Version::new(5));
}

/// Seen to fail when a rejection on a kept state is final at once.
#[tokio::test]
async fn a_rejection_is_final_only_if_the_stream_has_not_moved() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 2).await;

    for _ in 0..2 {
        let refused = counters.update(id, |c| c.count(1)).await.unwrap_err();
        assert_eq!(refused.rejection(), Some(Full));
        let seen = store.seen();
        assert_eq!((seen.visits.len(), seen.appends, seen.reads), (1, 0, 0));
        store.forget();
    }

    elsewhere(&store)
        .update(id, |c| c.set_limit(3))
        .await
        .unwrap();
    let appended = counters.update(id, |c| c.count(1)).await.unwrap().unwrap();

    assert_eq!(appended.version, Version::new(5));
    let seen = store.seen();
    assert_eq!((seen.visits.len(), seen.appends, seen.reads), (1, 1, 0));
}

/// Seen to fail when an empty decision on a kept state is final at once.
#[tokio::test]
async fn that_nothing_happens_is_final_only_if_the_stream_has_not_moved() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 2).await;

    let nothing = counters.update(id, |c| c.set_limit(2)).await.unwrap();
    assert_eq!(nothing, None);
    assert_eq!(store.seen().visits.len(), 1);

    elsewhere(&store)
        .update(id, |c| c.set_limit(3))
        .await
        .unwrap();
    let appended = counters.update(id, |c| c.set_limit(2)).await.unwrap();

    assert_eq!(appended.unwrap().version, Version::new(5));
    assert_eq!(counters.load(id).await.unwrap().limit, 2);
}

/// Seen to fail when an erased event is folded like any other.
#[tokio::test]
async fn an_erased_aggregate_is_not_remembered() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 2).await;
    let (appending, other) = hot(&store, 100).await;
    for id in [id, other] {
        let tombstone = StreamErased::new("asked to", "the office");
        store.erase(&counters.stream(id), &tombstone).await.unwrap();
    }

    let text = format!(
        "`counter-{id}` was erased and has no state any more; its last event says why and by whom"
    );
    for _ in 0..2 {
        let refused = counters.update(id, |c| c.count(1)).await.unwrap_err();
        assert!(
            matches!(&refused, UpdateError::Load(LoadError::Erased { .. })),
            "{refused:?}"
        );
        assert!(!refused.is_retryable());
    }
    for error in [
        counters.load(id).await.unwrap_err(),
        counters.load_at(id, Version::new(1)).await.unwrap_err(),
        counters.load_at(id, chrono::Utc::now()).await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), text);
    }

    let refused = appending.update(other, |c| c.count(1)).await.unwrap_err();
    assert!(
        matches!(
            refused,
            UpdateError::Save(SaveError::Append(AppendError::Erased { .. }))
        ),
        "{refused:?}"
    );
    let refused = appending.update(other, |c| c.count(1)).await.unwrap_err();
    assert!(
        matches!(refused, UpdateError::Load(LoadError::Erased { .. })),
        "{refused:?}"
    );
}

/// Seen to fail when the tombstone is folded like any other event: it is then an unknown one.
#[tokio::test]
async fn a_stream_erased_while_it_is_read_is_erased() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;
    let counters = counters.snapshot_every(4);
    counters.update(id, |c| c.count(1)).await.unwrap();

    store.erase_in_next_visit();
    let error = counters.load(id).await.unwrap_err();

    assert!(matches!(error, LoadError::Erased { .. }), "{error:?}");
}

/// Seen to fail when the last known event is not looked for: a rejection is then believed, and after
/// the conflict the tail is empty again and again.
#[tokio::test]
async fn a_stream_that_has_become_shorter_is_read_afresh() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 2).await;

    store.restore(&counters.stream(id), 2).await;
    // Full, as far as is remembered.
    let appended = counters.update(id, |c| c.count(1)).await.unwrap().unwrap();
    assert_eq!(appended.version, Version::new(3));

    store.restore(&counters.stream(id), 1).await;
    store.forget();
    // Appended to what is remembered, so a conflict.
    let appended = counters
        .update(id, |c| c.set_limit(c.total + 100))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(appended.version, Version::new(2));
    assert_eq!(store.seen().conflicts, 1);
    let root = counters.load(id).await.unwrap();
    assert_eq!((root.total, root.limit), (0, 100));

    store.restore(&counters.stream(id), 0).await;
    let gone = counters.update(id, |c| c.count(1)).await.unwrap_err();
    assert!(
        matches!(gone, UpdateError::Load(LoadError::NotFound { .. })),
        "{gone:?}"
    );
}
