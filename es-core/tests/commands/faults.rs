//! Commands that are dropped, fail or panic leave nothing behind that is not true.

use es_core::Repository;
use uuid::Uuid;

use crate::{
    counter::{Counted, Counter, Full, elsewhere, hot},
    watched::{Fault, Watched},
};

/// What commands decide on is what the log says.
async fn assert_true(counters: &Repository<Counter>, id: Uuid) {
    let mut remembered = Vec::new();
    counters
        .update(id, |c| {
            remembered.clone_from(&c.steps);
            c.count(1)
        })
        .await
        .unwrap();
    remembered.push(1);
    assert_eq!(remembered, counters.load(id).await.unwrap().steps);
}

/// Seen to fail when the event happens to the kept state before the append has answered.
#[tokio::test]
async fn dropped_at_any_point_a_command_leaves_the_truth() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100_000).await;
    let counters = counters.snapshot_every(2);
    let mut finished = false;
    let mut polls = 0;
    while !finished {
        polls += 1;
        // On a kept state, on none, and on one that another writer has made old.
        for round in 0..3 {
            let counters = match round {
                1 => Repository::new(store.clone()).snapshot_every(2),
                _ => counters.clone(),
            };
            if round == 2 {
                elsewhere(&store)
                    .update(id, |c| c.count(1_000))
                    .await
                    .unwrap();
            }
            let mut command = Box::pin(counters.update(id, |c| c.count(polls)));
            let mut left = polls;
            finished = loop {
                if futures::poll!(&mut command).is_ready() {
                    break true;
                }
                left -= 1;
                if left == 0 {
                    break false;
                }
            };
            drop(command);

            assert_true(&counters, id).await;
        }
    }
    // A conflict: append, tail, append, snapshot, with a pause before and after most of them.
    assert!(polls >= 7, "only {polls} points to drop at");
}

/// Seen to fail when the state is kept with the events of an append that failed.
#[tokio::test]
async fn a_failed_append_leaves_the_truth() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        let store = Watched::new();
        let (counters, id) = hot(&store, 100).await;

        store.fail_next(fault);
        let error = counters.update(id, |c| c.count(5)).await.unwrap_err();

        assert!(error.is_retryable(), "{error:?}");
        assert_true(&counters, id).await;
    }
}

#[tokio::test]
async fn a_panic_leaves_the_truth_and_the_queue() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;

    let panicking = counters.clone();
    let panicked = tokio::spawn(async move {
        let decide = |_: &Counter| -> Result<(), Full> { panic!("in a decision") };
        panicking.update(id, decide).await
    })
    .await;

    assert!(panicked.is_err_and(|error| error.is_panic()));
    assert_true(&counters, id).await;
}

/// Recorded, it would stand in the way of every load from then on. Seen to fail when the state changes only
/// after the append.
#[tokio::test]
async fn an_event_that_the_state_cannot_take_is_not_recorded() {
    let store = Watched::new();
    let (counters, id) = hot(&store, 100).await;

    let panicking = counters.clone();
    let panicked = tokio::spawn(async move {
        let decide = |_: &Counter| Ok::<_, Full>(Counted { by: u32::MAX });
        panicking.update(id, decide).await
    })
    .await;

    assert!(panicked.is_err_and(|error| error.is_panic()));
    assert_eq!(store.seen().appends, 0);
    assert_true(&counters, id).await;
}
