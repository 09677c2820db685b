//! Several streams in one append: all or none.
//!
//! For backends with [`atomic_across_streams`](es_core::Capabilities::atomic_across_streams).

use es_core::{Append, AppendError, EventStore, ExpectedVersion, NewEvent, StreamId, Version};
use futures::future::join_all;

use crate::{
    Store,
    fixtures::{
        add, all_refused, append, append_all, assert_holds, exact, ids, new_ids, notes, stream,
        whole_stream,
    },
};

/// Nothing to append is answered with nothing.
pub async fn an_empty_list_has_an_empty_answer(store: &dyn EventStore) {
    assert_eq!(append_all(store, &[]).await, []);
}

/// Each stream gets its events, and the answers come in the order of the appends.
pub async fn each_stream_gets_its_events_and_its_answer(store: &dyn EventStore) {
    let streams = [stream(), stream(), stream()];
    let before = notes(2);
    add(store, &streams[1], &before).await;
    let appends: Vec<_> = [2, 0, 1]
        .map(|n| Append::new(streams[n].clone(), ExpectedVersion::Any, notes(n + 1)))
        .into();

    let answers = append_all(store, &appends).await;

    for (append, answer) in appends.iter().zip(answers) {
        let held = whole_stream(store, &append.stream).await;
        let last = held.last().expect("it has events");
        assert_eq!(answer.version, last.event_version, "the last event");
        assert_eq!(answer.position, last.position, "the last event");
        let old = held.len() - append.events.len();
        assert_eq!(ids(&held[old..]), new_ids(&append.events), "its own events");
        for (held, event) in held[old..].iter().zip(&append.events) {
            assert_eq!(held.event_data, event.event_data, "the content");
        }
        for pair in held.windows(2) {
            assert!(
                pair[0].position < pair[1].position,
                "positions rise with versions, also in an append to several streams",
            );
        }
    }
    let [zero, one, two] = &streams;
    assert_holds(store, zero, &appends[1].events).await;
    assert_holds(store, one, &[before, appends[2].events.clone()].concat()).await;
    assert_holds(store, two, &appends[0].events).await;
}

/// Each append has an expected version of its own.
pub async fn each_append_has_its_own_expected_version(store: &dyn EventStore) {
    let [new, grown, any] = [stream(), stream(), stream()];
    add(store, &grown, &notes(2)).await;
    for (round, (of_new, of_grown)) in (0..).zip([
        (ExpectedVersion::NoStream, exact(2)),
        (exact(1), ExpectedVersion::StreamExists),
        (ExpectedVersion::StreamExists, exact(4)),
    ]) {
        let appends = [
            Append::new(new.clone(), of_new, notes(1)),
            Append::new(grown.clone(), of_grown, notes(1)),
            Append::new(any.clone(), ExpectedVersion::Any, notes(1)),
        ];
        let answers = append_all(store, &appends).await;
        assert_eq!(
            answers.iter().map(|a| a.version.get()).collect::<Vec<_>>(),
            [round + 1, round + 3, round + 1],
            "expecting {of_new} and {of_grown}",
        );
    }
}

/// One append in conflict, wherever it stands, and nothing of any is recorded; the error names the
/// stream and tells the truth about it.
pub async fn one_conflict_records_nothing_of_any(store: &dyn EventStore) {
    for at in 0..3 {
        for (wrong, actual) in [
            (ExpectedVersion::NoStream, 2),
            (exact(1), 2),
            (exact(3), 2),
            (ExpectedVersion::StreamExists, 0),
        ] {
            let (mut appends, held) = three(store, actual).await;
            appends[at].expected = wrong;

            let err = all_refused(store, &appends).await;

            assert!(
                matches!(
                    &err,
                    AppendError::Conflict { stream, expected, actual: a }
                        if *stream == appends[at].stream
                            && *expected == wrong
                            && *a == Version::new(actual)
                ),
                "expected a conflict of append {at} at {actual} with {wrong}, got: {err}: {err:?}",
            );
            assert_untouched(store, &appends, &held).await;

            appends[at].expected = exact(actual);
            append_all(store, &appends).await;
        }
    }
}

/// An append that is refused for another reason takes the others with it.
pub async fn one_refusal_records_nothing_of_any(store: &dyn EventStore) {
    let taken = notes(1);
    add(store, &stream(), &taken).await;
    for at in 0..3 {
        let (mut appends, held) = three(store, 2).await;
        let good = appends[at].clone();

        appends[at].events[0].event_id = taken[0].event_id;
        let err = all_refused(store, &appends).await;
        assert!(
            matches!(
                &err,
                AppendError::DuplicateId { stream, event_id }
                    if *stream == good.stream && *event_id == taken[0].event_id
            ),
            "expected DuplicateId in append {at}, got: {err}: {err:?}",
        );
        assert_untouched(store, &appends, &held).await;

        appends[at] = good.clone();
        appends[at].stream.aggregate_type = "another_type".into();
        let err = all_refused(store, &appends).await;
        assert!(
            matches!(
                &err,
                AppendError::OtherAggregateType { stream, actual }
                    if *stream == appends[at].stream && actual == "conformance"
            ),
            "expected OtherAggregateType of append {at}, got: {err}: {err:?}",
        );
        appends[at] = good;
        assert_untouched(store, &appends, &held).await;

        let good = std::mem::take(&mut appends[at].events);
        let err = all_refused(store, &appends).await;
        assert!(
            matches!(&err, AppendError::Invalid { stream, .. } if *stream == appends[at].stream),
            "expected Invalid, because append {at} has no events, got: {err}: {err:?}",
        );
        assert_untouched(store, &appends, &held).await;

        appends[at].events = good;
        append_all(store, &appends).await;
    }
}

/// A stream that occurs twice is refused: there would be two expectations of it.
pub async fn a_stream_that_occurs_twice_is_refused(store: &dyn EventStore) {
    let (mut appends, held) = three(store, 2).await;
    appends[2].stream = appends[0].stream.clone();

    let err = all_refused(store, &appends).await;

    assert!(
        matches!(&err, AppendError::Invalid { stream, .. } if *stream == appends[0].stream),
        "expected Invalid of the stream that occurs twice, got: {err}: {err:?}",
    );
    assert_untouched(store, &appends[..2], &held[..2]).await;
}

/// An id that occurs twice is refused, in one append and in two.
pub async fn an_id_that_occurs_twice_is_refused(store: &dyn EventStore) {
    for (at, n) in [(0, 1), (1, 0), (2, 1)] {
        let (mut appends, held) = three(store, 2).await;
        let id = appends[0].events[0].event_id;
        appends[at].events[n].event_id = id;

        let err = all_refused(store, &appends).await;

        assert!(
            matches!(
                &err,
                AppendError::DuplicateId { stream, event_id }
                    if *stream == appends[at].stream && *event_id == id
            ),
            "expected DuplicateId in append {at}, got: {err}: {err:?}",
        );
        assert_untouched(store, &appends, &held).await;
    }
}

/// Repeated as a whole it records nothing and returns the first answers, also after later appends.
pub async fn repeated_as_a_whole_it_returns_the_first_answers(store: &dyn EventStore) {
    for expected in [
        ExpectedVersion::Any,
        exact(2),
        ExpectedVersion::StreamExists,
    ] {
        let (mut appends, mut held) = three(store, 2).await;
        for append in &mut appends {
            append.expected = expected;
        }
        let first = append_all(store, &appends).await;
        assert_eq!(
            append_all(store, &appends).await,
            first,
            "the first answers"
        );
        for (append, held) in appends.iter().zip(&mut held) {
            held.extend(append.events.clone());
        }
        let later = notes(2);
        add(store, &appends[1].stream, &later).await;
        held[1].extend(later);

        let again = append_all(store, &appends).await;

        assert_eq!(again, first, "the first answers, expecting {expected}");
        assert_untouched(store, &appends, &held).await;
    }
}

/// Some repeated and some new is no repetition: it is refused and records nothing.
pub async fn a_mix_of_repeated_and_new_is_refused(store: &dyn EventStore) {
    for new in 0..3 {
        let (mut appends, mut held) = three(store, 2).await;
        append_all(store, &appends).await;
        for (append, held) in appends.iter().zip(&mut held) {
            held.extend(append.events.clone());
        }
        appends[new] = Append::new(stream(), ExpectedVersion::NoStream, notes(2));
        held[new] = Vec::new();

        let err = all_refused(store, &appends).await;

        assert!(
            matches!(
                &err,
                AppendError::DuplicateId { stream, .. } if *stream != appends[new].stream
            ),
            "expected DuplicateId in one of the repeated appends, got: {err}: {err:?}",
        );
        assert_untouched(store, &appends, &held).await;
    }
}

/// Writers that touch the same two streams in opposite orders all get through or are told to try
/// again, and none is recorded by half.
pub async fn crossing_writers_never_record_half<S: Store>(store: &S) {
    let (one, two) = (stream(), stream());
    for round in 0..10 {
        let expected = match round % 2 {
            0 => ExpectedVersion::Any,
            _ => exact(version(store, &one).await),
        };
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let mut pair = vec![
                    Append::new(one.clone(), expected, notes(2)),
                    Append::new(two.clone(), ExpectedVersion::Any, notes(3)),
                ];
                if n % 2 == 1 {
                    pair.reverse();
                }
                pair
            })
            .collect();
        let answers = join_all(writers.iter().cloned().map(|appends| {
            let store = store.clone();
            tokio::spawn(async move { store.append_all(&appends).await })
        }))
        .await;

        let mut won = 0;
        for (answer, appends) in answers.into_iter().zip(&writers) {
            let recorded = is_recorded(store, appends).await;
            match answer.expect("a writer must not panic") {
                Ok(_) => {
                    assert!(recorded, "an acknowledged writer is recorded");
                    won += 1;
                }
                Err(AppendError::Conflict { .. }) => {
                    assert!(!recorded, "a writer in conflict left its events");
                }
                // It may have failed while committing.
                Err(err) => assert!(
                    err.is_retryable(),
                    "a crossing writer may only be told to try again, got: {err}: {err:?}",
                ),
            }
        }
        match expected {
            ExpectedVersion::Any => assert!(won > 0, "some writer gets through"),
            _ => assert_eq!(won, 1, "exactly one writer wins, expecting {expected}"),
        }
    }
}

/// Three appends of two events, each expecting its stream to have so many events, as it does.
async fn three(store: &dyn EventStore, version: u32) -> (Vec<Append>, Vec<Vec<NewEvent>>) {
    let mut appends = Vec::new();
    let mut held = Vec::new();
    for _ in 0..3 {
        let (stream, before) = (stream(), notes(version as usize));
        if version > 0 {
            append(store, &stream, ExpectedVersion::NoStream, &before).await;
        }
        appends.push(Append::new(stream, exact(version), notes(2)));
        held.push(before);
    }
    (appends, held)
}

async fn assert_untouched(store: &dyn EventStore, appends: &[Append], held: &[Vec<NewEvent>]) {
    for (append, held) in appends.iter().zip(held) {
        assert_holds(store, &append.stream, held).await;
    }
}

/// Whether all of the appends are there; half of them is a failure.
pub(crate) async fn is_recorded(store: &dyn EventStore, appends: &[Append]) -> bool {
    let mut found = Vec::new();
    for append in appends {
        let held = ids(&whole_stream(store, &append.stream).await);
        let ids = new_ids(&append.events);
        found.push(held.windows(ids.len()).any(|part| part == ids));
        assert!(
            found.last() == Some(&true) || !ids.iter().any(|id| held.contains(id)),
            "a part of one append is recorded, or in another order",
        );
    }
    let all = found.iter().all(|found| *found);
    assert!(
        all || !found.contains(&true),
        "of appends that belong together only some are recorded: {found:?}",
    );
    all
}

async fn version(store: &dyn EventStore, stream: &StreamId) -> u32 {
    let held = whole_stream(store, stream).await;
    held.last().map_or(0, |event| event.event_version.get())
}
