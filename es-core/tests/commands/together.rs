//! Several aggregates saved in one transaction.

use es_core::{
    Aggregate, AppendError, Event, MemoryStore, Repository, Root, SaveError, Start, Version,
    save_all,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    counter::{Counted, Counter, Opened, elsewhere, hot},
    watched::{Fault, Seen, Watched},
};

#[derive(Event, Serialize, Deserialize)]
struct Noted {}

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Noted), events())]
struct Receipt {}

impl Start<Noted> for Receipt {
    fn start(_: &Noted) -> Self {
        Self {}
    }
}

/// Seen to fail when each root is appended by itself, and when the events leave the roots first.
#[tokio::test]
async fn all_are_saved_or_none() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;
    let (_, other) = hot(&store, 100).await;
    let receipt = Uuid::now_v7();

    let mut from = counters.load(id).await.unwrap();
    let mut idle = counters.load(other).await.unwrap();
    let mut to = counters.load(other).await.unwrap();
    let mut new = Root::<Receipt>::start(receipt, Noted {});
    from.raise(Counted { by: 30 });
    to.raise(Counted { by: 40 });
    elsewhere(&store)
        .update(other, |c| c.count(1))
        .await
        .unwrap();

    let error = save_all(&store, &mut [&mut from, &mut new, &mut to])
        .await
        .unwrap_err();

    assert!(
        matches!(&error, SaveError::Append(AppendError::Conflict { stream, .. }) if *stream == to.stream()),
        "{error:?}"
    );
    assert_eq!((from.uncommitted().len(), to.uncommitted().len()), (1, 1));
    assert_eq!(counters.load(id).await.unwrap().version(), Version::new(3));

    let mut to = counters.load(other).await.unwrap();
    to.raise(Counted { by: 40 });
    store.forget();
    let appended = save_all(&store, &mut [&mut from, &mut idle, &mut new, &mut to])
        .await
        .unwrap();

    assert_eq!(store.seen().appends, 1);
    let versions: Vec<_> = appended.iter().map(|a| a.version.get()).collect();
    assert_eq!(versions, [4, 1, 5]);
    for (root, version) in [(&from, 4), (&idle, 3), (&to, 5)] {
        assert_eq!(root.uncommitted().len(), 0);
        assert_eq!(root.version(), Version::new(version));
    }
    assert_eq!(counters.load(id).await.unwrap().total, 32);
    assert_eq!(counters.load(other).await.unwrap().total, 43);
    let receipts = Repository::<Receipt>::new(store);
    assert_eq!(
        receipts.load(receipt).await.unwrap().version(),
        new.version()
    );
}

#[tokio::test]
async fn one_whose_answer_was_lost_can_be_repeated() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;
    let mut old = counters.load(id).await.unwrap();
    let mut new = Root::<Counter>::start(Uuid::now_v7(), Opened { limit: 1 });
    old.raise(Counted { by: 5 });

    store.fail_next(Fault::AnswerLost);
    let mut roots: [&mut dyn es_core::AnyRoot; 2] = [&mut old, &mut new];
    let error = save_all(&store, &mut roots).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    save_all(&store, &mut roots).await.unwrap();

    assert_eq!(counters.load(id).await.unwrap().total, 7);
    assert_eq!(
        (old.version(), new.version()),
        (Version::new(4), Version::new(1))
    );
}

#[tokio::test]
async fn nothing_to_save_asks_nothing_of_the_store() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;
    let mut root = counters.load(id).await.unwrap();
    store.forget();

    assert_eq!(save_all(&store, &mut [&mut root]).await.unwrap(), []);
    assert_eq!(save_all(&MemoryStore::new(), &mut []).await.unwrap(), []);

    assert_eq!(store.seen(), Seen::default());
}
