//! Dead letters: events that a projection put aside.

use chrono::{DateTime, TimeDelta, Utc};
use es_core::{
    Batch, DeadLetter, Failure, FailureKind, LetterState, Letters, Parked, Position, ProjectionId,
    ProjectionStore, RecordedEvent, StreamId,
};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    Store,
    claims::{
        SHORT, advance, begin, begin_change, commit, fresh_standings, let_go, of_version, put,
        some_progress, standings, started,
    },
    fixtures::{add, event, notes, projection, settle, stream, whole_stream},
};

/// A letter comes back as it was put, with the times of the store's clock.
pub async fn a_letter_comes_back_as_it_was_put<S: ProjectionStore>(store: &S) {
    let stream = stream();
    add(store, &stream, &notes(2)).await;
    add(store, &stream, &[event("odd, \"é\"")]).await;
    let held = whole_stream(store, &stream).await;
    let projection = projection();
    let mut unusual = letter(&projection, &held[2], LetterState::Skipped);
    unusual.failure = Failure::new(FailureKind::Undecodable, "it's \"é\" \\ \u{0} and\nmore");
    unusual.failure = unusual.failure.at(&held[2]);
    unusual.attempts = 1_000_000;
    unusual.retry = true;
    unusual.since = DateTime::UNIX_EPOCH;
    unusual.tried = DateTime::UNIX_EPOCH + TimeDelta::days(40_000);
    let letters = [letter(&projection, &held[0], LetterState::Parked), unusual];

    put_letters(store, &projection, &letters).await;

    let listed = list(store, &Letters::of(projection)).await;
    assert_eq!(without_times(&listed), without_times(&letters));
    for letter in &listed {
        assert_eq!(letter.since, letter.tried, "put aside when it was tried");
        let age = letter.since - held[2].created_at;
        assert!(
            age.abs() < TimeDelta::minutes(5),
            "the time must be that of the store's clock, got {}",
            letter.since,
        );
    }
}

/// Letters come by position, then by projection.
pub async fn letters_come_by_position_then_by_projection<S: ProjectionStore>(store: &S) {
    let events = events(store, &[5]).await;
    let one = projection();
    let ids = [
        ProjectionId::new("B", 1),
        ProjectionId::new("a", 2),
        ProjectionId::new("a", 10),
        one,
    ];
    let mut expected = Vec::new();
    for event in &events[0] {
        expected.extend(ids.iter().map(|id| letter(id, event, LetterState::Parked)));
    }
    for (n, id) in ids.iter().enumerate() {
        let mut own: Vec<_> = expected.clone();
        own.retain(|letter| letter.projection == *id);
        own.rotate_left(n);
        put_letters(store, id, &own).await;
    }

    let listed = list(store, &Letters::default()).await;
    assert_eq!(without_times(&listed), without_times(&expected));
}

/// Each criterion leaves out what it does not name, and they work together.
pub async fn each_criterion_leaves_out_what_it_does_not_name<S: ProjectionStore>(store: &S) {
    let events = events(store, &[3, 3]).await;
    let one = projection();
    let ids = [
        one.clone(),
        ProjectionId::new(one.name.clone(), 2),
        projection(),
    ];
    for id in &ids {
        let all = events.iter().flatten().enumerate();
        let letters = all.map(|(n, event)| match n % 2 {
            0 => letter(id, event, LetterState::Parked),
            _ => letter(id, event, LetterState::Skipped),
        });
        put_letters(store, id, &letters.collect::<Vec<_>>()).await;
    }
    let all = list(store, &Letters::default()).await;
    assert_eq!(all.len(), 18, "every letter of every projection");

    let states = [None, Some(LetterState::Parked), Some(LetterState::Skipped)];
    let projections = ids.iter().cloned().map(Some).chain([None]);
    let aggregates = events.iter().map(|stream| Some(stream[0].aggregate_id));
    let aggregates: Vec<_> = aggregates.chain([None, Some(Uuid::now_v7())]).collect();
    let after = [Position::START, events[0][1].position];
    for projection in projections {
        for aggregate_id in &aggregates {
            for (state, after) in states.iter().flat_map(|s| after.map(|after| (*s, after))) {
                let wanted = Letters {
                    projection: projection.clone(),
                    aggregate_id: *aggregate_id,
                    state,
                    after,
                };
                let mut expected = all.clone();
                expected.retain(|letter| {
                    let id = letter.stream.aggregate_id;
                    projection.as_ref().is_none_or(|p| *p == letter.projection)
                        && aggregate_id.is_none_or(|wanted| wanted == id)
                        && state.is_none_or(|state| state == letter.state)
                        && letter.position > after
                });
                assert_eq!(list(store, &wanted).await, expected, "{wanted:?}");
            }
        }
    }
}

/// The letters of a projection are read in pages, each after the last position of the one before.
pub async fn letters_are_read_in_pages<S: ProjectionStore>(store: &S) {
    let events = events(store, &[7]).await;
    let id = projection();
    let as_letter = |event| letter(&id, event, LetterState::Parked);
    let letters: Vec<_> = events[0].iter().map(as_letter).collect();
    put_letters(store, &id, &letters).await;

    for limit in [1, 2, 7, 8] {
        let mut seen = Vec::new();
        let mut after = Position::START;
        loop {
            let wanted = Letters::of(id.clone()).after(after);
            let page = store.dead_letters(&wanted, limit).await;
            let page = page.expect("letters can be read");
            assert!(page.len() <= limit as usize, "a page of at most {limit}");
            let Some(last) = page.last() else { break };
            assert!(last.position > after, "a page leads on");
            after = last.position;
            seen.extend(page);
        }
        assert_eq!(
            without_times(&seen),
            without_times(&letters),
            "in pages of {limit}"
        );
    }
    let none = store.dead_letters(&Letters::of(id), 0).await;
    assert_eq!(none.expect("letters can be read"), []);
}

/// A letter that is put again is overwritten, but keeps since when it is there.
pub async fn a_letter_put_again_keeps_its_time<S: ProjectionStore>(store: &S) {
    let events = events(store, &[2]).await;
    let id = projection();
    let [first, second] = &events[0][..] else {
        panic!("two events");
    };
    let other = letter(&id, second, LetterState::Parked);
    let old = letter(&id, first, LetterState::Parked);
    put_letters(store, &id, &[old.clone(), other.clone()]).await;
    let before = list(store, &Letters::of(id.clone())).await;

    for (state, retry) in [(LetterState::Skipped, true), (LetterState::Parked, false)] {
        sleep(SHORT).await;
        let again = DeadLetter {
            state,
            retry,
            attempts: old.attempts + 4,
            failure: Failure::new(FailureKind::Panicked, "again"),
            ..old.clone()
        };
        put_letters(store, &id, std::slice::from_ref(&again)).await;

        let after = list(store, &Letters::of(id.clone())).await;
        assert_eq!(
            without_times(&after),
            without_times(&[again, other.clone()])
        );
        assert_eq!(after[0].since, before[0].since, "put aside when it was");
        assert!(after[0].tried > before[0].tried, "tried once more");
        assert_eq!(after[1], before[1], "the other letter is untouched");
    }
}

/// The aggregates with parked letters are listed by id, and whether a retry was asked for.
pub async fn parked_aggregates_are_listed_by_id<S: ProjectionStore>(store: &S) {
    let mut events = events(store, &[2, 2, 2, 1]).await;
    events.sort_unstable_by_key(|stream| stream[0].aggregate_id);
    let skipped = events.remove(1);
    let (id, other) = (projection(), projection());
    let mut letters = Vec::new();
    for event in events.iter().flatten() {
        letters.push(letter(&id, event, LetterState::Parked));
    }
    letters.extend(skipped.iter().map(|e| letter(&id, e, LetterState::Skipped)));
    // One letter that is to be tried again says so of its aggregate.
    letters[0].retry = true;
    put_letters(store, &id, &letters).await;
    let elsewhere = letter(&other, &skipped[0], LetterState::Parked);
    put_letters(store, &other, &[elsewhere]).await;

    let expected: Vec<_> = (0..3)
        .map(|n| Parked {
            aggregate_id: events[n][0].aggregate_id,
            retry: n == 0,
        })
        .collect();
    assert_eq!(parked(store, &id, 10).await, expected);
    for limit in 0..=3 {
        let page = parked(store, &id, limit).await;
        assert_eq!(page, expected[..limit as usize], "at most {limit}");
    }
    let one = Parked {
        aggregate_id: skipped[0].aggregate_id,
        retry: false,
    };
    assert_eq!(parked(store, &other, 10).await, [one]);
    assert_eq!(parked(store, &projection(), 10).await, []);
}

/// A retry is asked for of the parked letters of one aggregate or of all, and the answer says how many
/// there are.
pub async fn a_retry_is_asked_for_of_parked_letters<S: ProjectionStore>(store: &S) {
    let events = events(store, &[3, 2]).await;
    let (id, other) = (projection(), projection());
    for id in [&id, &other] {
        let as_letter = |event| letter(id, event, LetterState::Parked);
        let mut letters: Vec<_> = events.iter().flatten().map(as_letter).collect();
        letters[1].state = LetterState::Skipped;
        put_letters(store, id, &letters).await;
    }
    let (first, second) = (events[0][0].aggregate_id, events[1][0].aggregate_id);
    let mut expected = list(store, &Letters::default()).await;

    for (aggregate, count) in [
        (Some(Uuid::now_v7()), 0),
        (Some(second), 2),
        (Some(second), 2),
        (None, 4),
    ] {
        let (mut batch, _) = begin_change(store, &id).await;
        let asked = batch.retry_letters(&id, aggregate).await;
        assert_eq!(asked.expect("a retry can be asked for"), count);
        commit(batch).await;
        for letter in &mut expected {
            let named = aggregate.is_none_or(|id| id == letter.stream.aggregate_id);
            letter.retry |= named && letter.projection == id && letter.state == LetterState::Parked;
        }
        let listed = list(store, &Letters::default()).await;
        assert_eq!(listed, expected, "after a retry of {aggregate:?}");
    }
    let asked = parked(store, &id, 10).await;
    assert!(asked.iter().all(|parked| parked.retry), "got {asked:?}");
    assert!(asked.iter().any(|parked| parked.aggregate_id == first));
}

/// Letters are removed by their events, or all of a projection; the answer says how many there were.
pub async fn letters_are_removed_by_event_or_all<S: ProjectionStore>(store: &S) {
    let events = events(store, &[3, 2]).await;
    let (id, other) = (projection(), projection());
    for id in [&id, &other] {
        let as_letter = |event| letter(id, event, LetterState::Parked);
        let letters: Vec<_> = events.iter().flatten().map(as_letter).collect();
        put_letters(store, id, &letters).await;
    }
    let mut expected = list(store, &Letters::of(id.clone())).await;

    let some = [events[0][0].event_id, events[1][0].event_id, Uuid::now_v7()];
    for (named, count) in [
        (Some(&[][..]), 0),
        (Some(&some[..]), 2),
        (Some(&some[..]), 0),
        (None, 3),
        (None, 0),
    ] {
        let (mut batch, _) = begin_change(store, &id).await;
        let removed = batch.remove_letters(&id, named).await;
        assert_eq!(removed.expect("letters can be removed"), count);
        commit(batch).await;
        expected.retain(|letter| named.is_some_and(|ids| !ids.contains(&letter.event_id)));
        let listed = list(store, &Letters::of(id.clone())).await;
        assert_eq!(listed, expected, "after {named:?} was removed");
    }
    let theirs = list(store, &Letters::of(other)).await;
    assert_eq!(theirs.len(), 5, "another projection keeps its own");
}

/// Letters are seen once their batch is committed, together with its checkpoint, and not before.
pub async fn letters_are_seen_with_the_commit_of_their_batch<S: Store>(store: &S) {
    let events = events(store, &[1]).await;
    let claim = started(store).await;
    let progress = some_progress(store).await;
    let id = &claim.shard.projection;
    let letters = [letter(id, &events[0][0], LetterState::Parked)];
    let mut batch = begin(store, &claim, &progress).await;
    let put = batch.put_letters(&letters).await;
    put.expect("letters can be put");

    let reading = {
        let (store, id) = (store.clone(), id.clone());
        tokio::spawn(async move {
            let letters = list(&store, &Letters::of(id.clone())).await;
            (letters, parked(&store, &id, 10).await)
        })
    };
    // It may read what is committed, or wait for the end of the batch.
    sleep(SHORT).await;
    let early = reading.is_finished();
    commit(batch).await;

    let (listed, aggregates) = let_go(reading).await;
    if early {
        assert_eq!((listed, aggregates), (vec![], vec![]), "not committed yet");
    }
    let listed = list(store, &Letters::of(id.clone())).await;
    assert_eq!(without_times(&listed), without_times(&letters));
    assert_eq!(parked(store, id, 10).await.len(), 1);
    let held = standings(store, id).await;
    assert_eq!(held[0].position, progress.position);
}

/// What a batch that was rolled back or dropped did to letters is not kept.
pub async fn a_batch_that_is_not_committed_keeps_no_letters<S: ProjectionStore>(store: &S) {
    let events = events(store, &[2]).await;
    let claim = started(store).await;
    let progress = some_progress(store).await;
    let id = &claim.shard.projection;
    let [first, second] = [0, 1].map(|n| letter(id, &events[0][n], LetterState::Parked));
    put_letters(store, id, &[first]).await;
    let before = list(store, &Letters::default()).await;

    for roll_back in [true, false, true, false] {
        let mut batch = begin(store, &claim, &progress).await;
        let put = batch.put_letters(std::slice::from_ref(&second)).await;
        put.expect("letters can be put");
        let asked = batch.retry_letters(id, None).await;
        assert_eq!(asked.expect("a retry can be asked for"), 2, "its own too");
        let removed = batch.remove_letters(id, Some(&[before[0].event_id])).await;
        assert_eq!(removed.expect("letters can be removed"), 1);
        if roll_back {
            let rolled_back = batch.rollback().await;
            rolled_back.expect("a batch can be rolled back");
        } else {
            drop(batch);
        }
        assert_eq!(list(store, &Letters::default()).await, before);
    }
    advance(store, &claim, &progress).await;
}

/// The letters of a projection go with its last standing, and those of other versions stay.
pub async fn letters_go_with_the_last_standing<S: ProjectionStore>(store: &S) {
    let events = events(store, &[2]).await;
    let ours = fresh_standings(2);
    let two = of_version(&ours[0], 2);
    put(store, &ours).await;
    put(store, std::slice::from_ref(&two)).await;
    let (id, other) = (&ours[0].shard.projection, &two.shard.projection);
    for id in [id, other] {
        let as_letter = |event| letter(id, event, LetterState::Parked);
        let letters: Vec<_> = events[0].iter().map(as_letter).collect();
        put_letters(store, id, &letters).await;
    }

    for (standing, left) in [(&ours[1], 2), (&ours[0], 0)] {
        let (mut change, _) = begin_change(store, id).await;
        let shards = [standing.shard.clone()];
        let removed = change.remove_standings(&shards).await;
        removed.expect("standings can be removed");
        commit(change).await;
        assert_eq!(list(store, &Letters::of(id.clone())).await.len(), left);
    }
    assert_eq!(parked(store, id, 10).await, []);
    let theirs = list(store, &Letters::of(other.clone())).await;
    assert_eq!(theirs.len(), 2, "another version keeps its own");
}

/// Streams with these numbers of events, in turn, so that positions and streams cross.
async fn events<S: ProjectionStore>(store: &S, counts: &[usize]) -> Vec<Vec<RecordedEvent>> {
    let streams: Vec<StreamId> = counts.iter().map(|_| stream()).collect();
    for n in 0..counts.iter().copied().max().unwrap_or_default() {
        for (stream, count) in streams.iter().zip(counts) {
            if n < *count {
                let appended = add(store, stream, &notes(1)).await;
                settle(store, appended.position).await;
            }
        }
    }
    let mut events = Vec::new();
    for stream in &streams {
        events.push(whole_stream(store, stream).await);
    }
    events
}

fn letter(projection: &ProjectionId, event: &RecordedEvent, state: LetterState) -> DeadLetter {
    let failure = Failure::new(FailureKind::Handler, "it does not work").at(event);
    DeadLetter::new(projection.clone(), event, state, failure, 3)
}

async fn put_letters<S: ProjectionStore>(store: &S, id: &ProjectionId, letters: &[DeadLetter]) {
    let (mut batch, _) = begin_change(store, id).await;
    let put = batch.put_letters(letters).await;
    put.expect("letters can be put");
    commit(batch).await;
}

async fn list<S: ProjectionStore>(store: &S, wanted: &Letters) -> Vec<DeadLetter> {
    let letters = store.dead_letters(wanted, 1_000).await;
    letters.expect("letters can be read")
}

async fn parked<S: ProjectionStore>(store: &S, id: &ProjectionId, limit: u32) -> Vec<Parked> {
    let parked = store.parked(id, limit).await;
    parked.expect("parked aggregates can be read")
}

/// Letters without what the store decides.
fn without_times(letters: &[DeadLetter]) -> Vec<DeadLetter> {
    let without = |letter: &DeadLetter| DeadLetter {
        since: DateTime::<Utc>::UNIX_EPOCH,
        tried: DateTime::<Utc>::UNIX_EPOCH,
        ..letter.clone()
    };
    letters.iter().map(without).collect()
}
