//! How far the log can be read, and how far it goes.

use es_core::{Horizon, Position};

use crate::{
    Store,
    fixtures::{add, notes, settle, stream},
};

/// The horizon of an empty log is its start, and nobody holds it back.
pub async fn the_horizon_of_an_empty_log_is_its_start<S: Store>(store: &S) {
    let expected = Horizon {
        settled: Position::START,
        end: Position::START,
        blocker: None,
    };
    assert_eq!(horizon(store).await, expected);
}

/// While others append, nothing is settled above the end, and neither falls.
pub async fn nothing_is_settled_above_the_end<S: Store>(store: &S) {
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                add(&store, &stream(), &notes(2)).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let mut last = horizon(store).await;
    while !writer.is_finished() {
        let next = horizon(store).await;
        assert!(
            next.settled <= next.end,
            "{} is settled, but the log ends at {}",
            next.settled,
            next.end,
        );
        assert!(
            next.settled >= last.settled && next.end >= last.end,
            "the horizon fell from {last:?} to {next:?}",
        );
        last = next;
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer must not panic");
}

/// Once an append has settled, the horizon and the end have reached it, and nobody keeps them apart.
pub async fn a_settled_append_is_reached_by_both<S: Store>(store: &S) {
    for _ in 0..5 {
        let appended = add(store, &stream(), &notes(3)).await;
        let acknowledged = horizon(store).await;
        assert!(
            acknowledged.end >= appended.position,
            "an append at {} was acknowledged, but the log ends at {}",
            appended.position,
            acknowledged.end,
        );
        settle(store, appended.position).await;

        let settled = horizon(store).await;
        assert!(settled.settled >= appended.position, "got {settled:?}");
        assert!(settled.settled <= settled.end, "got {settled:?}");
        assert_eq!(settled.blocker, None, "no transaction is open");
    }
}

async fn horizon<S: Store>(store: &S) -> Horizon {
    let horizon = store.horizon().await;
    horizon.expect("the horizon can be read")
}
