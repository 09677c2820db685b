//! Appends that are repeated, raced, or very large.

use std::sync::Arc;

use es_core::{
    AppendError, Appended, EventStore, ExpectedVersion, Filter, NewEvent, Position, RecordedEvent,
    StreamId, Version,
};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::oracle::{add, lamp, several};

const WRITERS: usize = 20;

/// One copy and one answer: concurrently, and again after the stream has grown. At another version or
/// in another stream the same ids are refused.
pub(crate) async fn append_idempotent(stores: [impl EventStore + Clone + 'static; 2]) {
    use ExpectedVersion::{Any, Exact, NoStream};
    let store = &stores[0];

    for expected in [NoStream, Any, Exact(Version::EMPTY)] {
        let (stream, events) = (lamp(), several(3));
        let answers = race(&stores, |_| (stream.clone(), expected, events.clone())).await;
        let first = *answers[0].as_ref().unwrap();
        for answer in answers {
            assert_eq!(answer.unwrap(), first);
        }
        add(store, &stream, 2).await;
        let again = store.append(&stream, expected, &events).await.unwrap();
        assert_eq!(again, first);

        let elsewhere = [
            (&stream, Exact(Version::new(1))),
            (&stream, Exact(Version::new(5))),
            (&lamp(), NoStream),
        ];
        for (stream, expected) in elsewhere {
            let error = store.append(stream, expected, &events).await.unwrap_err();
            let told = match &error {
                AppendError::Conflict { actual, .. } => !expected.accepts(*actual),
                AppendError::DuplicateId { event_id, .. } => *event_id == events[0].event_id,
                _ => false,
            };
            assert!(told, "{error:?}");
        }
        let stored = store.read_stream(&stream, Version::EMPTY, 100).await;
        let stored = stored.unwrap();
        assert_eq!((stored.len(), stored[2].position), (5, first.position));
        assert!(ids(&stored).take(3).eq(events.iter().map(|e| e.event_id)));
    }
}

/// Of those who expect the same version one wins, the others are told the truth, and nothing of theirs
/// is stored.
pub(crate) async fn occ_single_winner(stores: [impl EventStore + Clone + 'static; 2]) {
    let store = &stores[1];
    let stream = lamp();
    for round in 0..10 {
        let before = Version::new(round * 2);
        let tries: Vec<_> = (0..WRITERS).map(|_| several(2)).collect();
        let expected = ExpectedVersion::Exact(before);
        let answers = race(&stores, |n| (stream.clone(), expected, tries[n].clone())).await;

        let mut winners = Vec::new();
        for (answer, events) in answers.into_iter().zip(&tries) {
            match answer {
                Ok(appended) => {
                    assert_eq!(Some(appended.version), before.after(2));
                    winners.push(events);
                }
                Err(AppendError::Conflict { actual, .. }) => {
                    assert_eq!(Some(actual), before.after(2), "the truth about the stream");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = store.read_stream(&stream, before, 100).await.unwrap();
        assert!(
            ids(&stored).eq(winners[0].iter().map(|e| e.event_id)),
            "only what was acknowledged is stored"
        );
    }
    let log = store.read_log(&Filter::All, Position::START, 1_000).await;
    assert_eq!(
        log.unwrap().events.len(),
        20,
        "no event without a success answer"
    );
}

/// 50,000 events in one append, read in pages that fall on, before and behind round numbers.
pub(crate) async fn huge_batch(store: impl EventStore) {
    const COUNT: usize = 50_000;
    let (stream, events) = (lamp(), several(COUNT));
    let first = store
        .append(&stream, ExpectedVersion::NoStream, &events)
        .await
        .unwrap();
    assert_eq!(first.version.get() as usize, COUNT);
    let again = store
        .append(&stream, ExpectedVersion::NoStream, &events)
        .await
        .unwrap();
    assert_eq!(again, first);

    for (limit, pages) in [(1, 200), (999, 100), (1_000, 20), (1_001, 100)] {
        let (mut after, mut read) = (Position::START, 0);
        for _ in 0..pages {
            let page = store.read_log(&Filter::All, after, limit).await.unwrap();
            assert!(page.events.len() <= limit as usize, "a page is bounded");
            // A resumed reader starts where the page says, exactly.
            for (event, new) in page.events.iter().zip(&events[read..]) {
                read += 1;
                assert_eq!(event.event_version.get() as usize, read);
                assert_eq!(event.event_id, new.event_id);
                assert_eq!(event.event_data, new.event_data);
            }
            after = page.covered;
        }
        let expected = COUNT.min(limit as usize * pages);
        assert_eq!(read, expected, "in {pages} pages of {limit}");
    }
    let tail = Version::new(first.version.get() - 1_001);
    let tail = store.read_stream(&stream, tail, 2_000).await.unwrap();
    assert_eq!(tail.len(), 1_001);
}

/// All at once, as far as two cores can, half of them in each store: to the database these are two
/// processes.
async fn race(
    stores: &[impl EventStore + Clone + 'static; 2],
    append: impl Fn(usize) -> (StreamId, ExpectedVersion, Vec<NewEvent>),
) -> Vec<Result<Appended, AppendError>> {
    let start = Arc::new(Barrier::new(WRITERS));
    let writers = (0..WRITERS).map(|n| {
        let (store, start) = (stores[n % 2].clone(), Arc::clone(&start));
        let (stream, expected, events) = append(n);
        tokio::spawn(async move {
            start.wait().await;
            store.append(&stream, expected, &events).await
        })
    });
    let mut answers = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        answers.push(writer.await.unwrap());
    }
    answers
}

fn ids(events: &[RecordedEvent]) -> impl Iterator<Item = Uuid> {
    events.iter().map(|event| event.event_id)
}
