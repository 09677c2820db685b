//! Pages of dead letters.

use es_core::{
    Batch, DeadLetter, EventStore, Failure, FailureKind, Filter, LetterState, Letters, Position,
    ProjectionId, ProjectionStore,
};
use es_sqlx::SqliteStore;

use crate::{add, lamp, set_up};

/// Two letters for each event. Seen to fail (half of the letters are missing) when a page ends after
/// exactly as many letters as were asked for.
#[tokio::test]
async fn no_letter_is_lost_between_two_pages() {
    let store = SqliteStore::in_memory().await.unwrap();
    add(&store, &lamp(), 5).await;
    let log = store.read_log(&Filter::All, Position::START, 100).await;
    let projections = [ProjectionId::new("a", 1), ProjectionId::new("b", 1)];
    let letters: Vec<_> = log
        .unwrap()
        .events
        .iter()
        .flat_map(|event| projections.iter().map(move |id| (id.clone(), event)))
        .map(|(id, event)| {
            let failure = Failure::new(FailureKind::Handler, "a \u{0} b").at(event);
            DeadLetter::new(id, event, LetterState::Parked, failure, 3)
        })
        .collect();
    let mut batch = set_up(&store, &projections[0]).await;
    batch.put_letters(&letters).await.unwrap();
    batch.commit().await.unwrap();

    for limit in 1..=11 {
        let mut read = Vec::new();
        let mut wanted = Letters::default();
        loop {
            let page = store.dead_letters(&wanted, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit as usize + 1);
            wanted = wanted.after(last.position);
            read.extend(page);
        }
        // The times are those of the database.
        for (read, letter) in read.iter_mut().zip(&letters) {
            (read.since, read.tried) = (letter.since, letter.tried);
        }
        assert_eq!(read, letters, "{limit}");
    }
    assert_eq!(
        store.dead_letters(&Letters::default(), 0).await.unwrap(),
        []
    );
}
