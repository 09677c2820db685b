//! Checkpoints against logs that have changed under them.

use es_core::{
    Batch, CheckpointError, Claim, ExpectedVersion, Filter, LogPage, Position, Progress,
    ProjectionId, ProjectionStore, Shard, Version,
};
use uuid::Uuid;

use super::node;
use crate::oracle::{ReadModel, Tallies, add, lamp, several};

fn lamps() -> ProjectionId {
    ProjectionId::new("lamps", 1)
}

async fn claim(store: &impl ProjectionStore, owner: Uuid) -> Result<Claim, CheckpointError> {
    let shard = Shard::new(lamps(), 0);
    store.acquire(&shard, &["switched"], owner).await
}

/// Moves the checkpoint over a page, as a daemon does.
async fn advance(store: &impl ProjectionStore, claim: &Claim, page: &LogPage) {
    let last = page.events.last();
    let to = Progress {
        position: page.covered,
        anchor: last.map(|event| (event.position, event.event_id)),
    };
    let batch = store.begin_batch(claim, &to).await.unwrap();
    batch.commit().await.unwrap();
}

/// `cut(n)` puts the log back to an older state that ends with position `n`. A checkpoint above that is
/// told from one whose positions have been used again, and neither moves.
pub(crate) async fn checkpoint_ahead_of_log(
    store: impl ProjectionStore,
    cut: impl AsyncFnOnce(i64),
) {
    let owner = node::start(&store).await;
    node::register(&store, &lamps(), &["switched"]).await;
    add(&store, &lamp(), 5).await;
    let start = claim(&store, owner).await.unwrap();
    let page = store.read_log(&Filter::All, start.position, 100).await;
    advance(&store, &start, &page.unwrap()).await;

    cut(3).await;
    let ahead = claim(&store, owner).await;
    assert!(
        matches!(ahead, Err(CheckpointError::AheadOfLog { .. })),
        "{ahead:?}"
    );
    let again = add(&store, &lamp(), 4).await.position;
    assert_eq!(again, Position::new(7), "positions are used again");
    let diverged = claim(&store, owner).await;
    assert!(
        matches!(diverged, Err(CheckpointError::Diverged { .. })),
        "{diverged:?}"
    );
    let stands = &store.standings(Some("lamps")).await.unwrap()[0];
    assert_eq!(
        (stands.position, stands.epoch),
        (Position::new(5), start.epoch)
    );
}

/// A projection that wants other types than its read model was built from, before anything is written.
pub(crate) async fn changed_type_list(store: impl ProjectionStore) {
    let owner = node::start(&store).await;
    let shard = node::register(&store, &lamps(), &["switched"]).await;
    let held = claim(&store, owner).await.unwrap();
    for types in [&["switched", "dimmed"][..], &["dimmed"], &[]] {
        let refused = store.acquire(&shard, types, owner).await;
        assert!(
            matches!(refused, Err(CheckpointError::OtherEventTypes { .. })),
            "{refused:?}"
        );
    }
    let again = claim(&store, owner).await.unwrap();
    assert_eq!(
        again,
        Claim {
            epoch: held.epoch + 1,
            ..held
        }
    );
    // Another version is another read model, with a checkpoint of its own.
    let next = ProjectionId::new("lamps", 2);
    let next = node::register(&store, &next, &["dimmed"]).await;
    let next = store.acquire(&next, &["dimmed"], owner).await.unwrap();
    assert_eq!(next.position, Position::START);
}

/// Rows that are gone, in the middle and at the end of the log, and the whole of an aggregate each:
/// readers pass, old and new, and the positions are not used again.
pub(crate) async fn deleted_events<S: ProjectionStore>(
    store: S,
    reopen: impl AsyncFnOnce() -> S,
    delete: impl AsyncFnOnce(&[i64]),
    table: impl AsyncFnOnce() -> Tallies,
) {
    let stays = lamp();
    for n in 0..10 {
        let other = lamp();
        let stream = if n % 2 == 0 { &stays } else { &other };
        add(&store, stream, 1).await;
    }
    assert_eq!(store.settled().await.unwrap(), Position::new(10));
    node::register(&store, &lamps(), &["switched"]).await;
    let held = claim(&store, node::start(&store).await).await.unwrap();
    let half = store
        .read_log(&Filter::All, held.position, 5)
        .await
        .unwrap();
    advance(&store, &held, &half).await;
    delete(&[4, 8, 10]).await;

    assert!(store.settled().await.unwrap() >= Position::new(9));
    let again = reopen().await;
    for store in [&store, &again] {
        let position = store.settled().await.unwrap();
        assert!(
            position >= Position::new(9),
            "{position}: a hole is no stall"
        );
    }
    let expected = ExpectedVersion::Exact(Version::new(5));
    let next = again.append(&stays, expected, &several(1)).await.unwrap();
    assert_eq!(next.position, Position::new(11), "10 is not used again");

    // A reader from the middle and one from the start.
    let held = claim(&store, held.owner).await.unwrap();
    assert_eq!(held.position, half.covered);
    let rest = store.read_log(&Filter::All, held.position, 100).await;
    let rest = rest.unwrap();
    let positions: Vec<_> = rest.events.iter().map(|e| e.position.get()).collect();
    assert_eq!(positions, [6, 7, 9, 11]);
    advance(&store, &held, &rest).await;

    let mut model = ReadModel::default();
    let page = again.read_log(&Filter::All, Position::START, 100).await;
    let page = page.unwrap();
    page.events.iter().for_each(|event| model.apply(event));
    assert_eq!(page.covered, Position::new(11));
    assert_eq!(model.tallies, table().await);
}
