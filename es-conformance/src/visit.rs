//! Visiting a stream: the same events as reading it, perhaps behind a snapshot.

use std::ops::ControlFlow;

use es_core::{
    EventView, RecordedEvent, Snapshot, SnapshotView, StreamId, StreamVisitor, Version, Visit,
};

use crate::{
    Store,
    fixtures::{add, notes, stream, whole_stream},
    snapshot::{save, snapshot},
};

/// For every range a visit shows what `read_stream` reads.
pub async fn a_visit_shows_what_is_read<S: Store>(store: &S) {
    let stream = stream();
    let mut events = notes(7);
    events[3].schema_version = 4;
    events[4].event_type = "another".into();
    add(store, &stream, &events).await;
    let held = whole_stream(store, &stream).await;

    for after in 0..=8 {
        for at_most in (0..=8).chain([Version::MAX.get()]) {
            let visit = visit(&stream, after, at_most);
            let seen = Seen::of(store, &visit).await;
            assert_eq!(seen.offered, [], "no snapshot was asked for");
            assert_shows(&seen, &held, &visit);
        }
    }
}

/// Streams of any length are shown whole, without a hole or a double.
pub async fn a_visit_crosses_pages<S: Store>(store: &S) {
    for count in [1, 999, 1_000, 1_001, 2_500] {
        let stream = stream();
        add(store, &stream, &notes(count as usize)).await;
        let held = whole_stream(store, &stream).await;

        for (after, at_most) in [
            (0, Version::MAX.get()),
            (0, count),
            (0, count - 1),
            (0, 1_000),
            (1, 1_001),
            (count - 1, count),
            (999, 2_000),
            (1_000, 2_001),
        ] {
            let visit = visit(&stream, after, at_most);
            assert_shows(&Seen::of(store, &visit).await, &held, &visit);
        }
    }
}

/// A snapshot is offered only to who asks for it.
pub async fn a_snapshot_is_offered_only_when_asked_for<S: Store>(store: &S) {
    let (stream, held, [_, _, newest]) = with_snapshots(store).await;
    for asked in [false, true] {
        let visit = Visit {
            snapshot: asked,
            ..Visit::all(stream.clone())
        };
        let seen = Seen::of(store, &visit).await;
        assert_eq!(seen.offered, offer(asked.then_some(&newest)));
        assert_shows(&seen, &held, &visit);
    }
}

/// The newest snapshot of the range is offered, with its fingerprint and its state verbatim.
pub async fn the_newest_snapshot_of_the_range_is_offered<S: Store>(store: &S) {
    let (stream, held, [two, four, six]) = with_snapshots(store).await;

    for (after, at_most, expected) in [
        (0, 1, None),
        (0, 2, Some(&two)),
        (0, 3, Some(&two)),
        (0, 4, Some(&four)),
        (0, 6, Some(&six)),
        (0, 8, Some(&six)),
        (0, Version::MAX.get(), Some(&six)),
        (3, 5, Some(&four)),
        (1, 2, Some(&two)),
        // What is at or below `after` is known to who asks.
        (2, 3, None),
        (4, 5, None),
        (6, Version::MAX.get(), None),
        (7, Version::MAX.get(), None),
    ] {
        let visit = with_snapshot(visit(&stream, after, at_most));
        let seen = Seen::of(store, &visit).await;
        assert_eq!(
            seen.offered,
            offer(expected),
            "the snapshot between {after} and {at_most}",
        );
        assert_shows(&seen, &held, &visit);
    }
}

/// After a snapshot that is believed only later events follow.
pub async fn after_a_believed_snapshot_only_later_events_follow<S: Store>(store: &S) {
    let (stream, held, _) = with_snapshots(store).await;

    for (after, at_most, version) in [
        (0, Version::MAX.get(), 6),
        (0, 7, 6),
        (0, 6, 6),
        (1, 5, 4),
        (3, 4, 4),
    ] {
        let mut seen = Seen::answering(true, None);
        seen.visit(store, &with_snapshot(visit(&stream, after, at_most)))
            .await;
        assert_eq!(seen.offered.len(), 1, "between {after} and {at_most}");
        assert_shows(&seen, &held, &visit(&stream, version, at_most));
    }
}

/// A snapshot that is ahead of its stream is not offered: it tells of another history.
pub async fn a_snapshot_ahead_of_its_stream_is_not_offered<S: Store>(store: &S) {
    let (ahead, unknown) = (stream(), stream());
    add(store, &ahead, &notes(3)).await;
    let held = whole_stream(store, &ahead).await;
    save(store, &snapshot(&ahead, 4)).await;
    save(store, &snapshot(&unknown, 1)).await;

    for (stream, held) in [(ahead, &held[..]), (unknown, &[])] {
        let visit = with_snapshot(Visit::all(stream));
        let mut seen = Seen::answering(true, None);
        seen.visit(store, &visit).await;
        assert_eq!(seen.offered, [], "a snapshot without its event");
        assert_shows(&seen, held, &visit);
    }
}

/// `Break` ends the visit: no event follows.
pub async fn a_break_ends_the_visit<S: Store>(store: &S) {
    let stream = stream();
    add(store, &stream, &notes(1_500)).await;
    let held = whole_stream(store, &stream).await;

    for stop_after in [1, 2, 999, 1_000, 1_001, 1_499, 1_500] {
        let mut seen = Seen::answering(false, Some(stop_after));
        seen.visit(store, &Visit::all(stream.clone())).await;
        let end = u32::try_from(stop_after).expect("a small number");
        assert_shows(&seen, &held, &visit(&stream, 0, end));
    }
}

/// A stream that does not exist shows nothing, nor does another type with the same id.
pub async fn an_unknown_stream_shows_nothing<S: Store>(store: &S) {
    let (known, ..) = with_snapshots(store).await;
    let other = StreamId::new("another_type", known.aggregate_id);

    for unknown in [stream(), other] {
        let seen = Seen::of(store, &with_snapshot(Visit::all(unknown))).await;
        assert_eq!((seen.offered, seen.events), (Vec::new(), Vec::new()));
    }
}

/// Eight events and snapshots of versions 2, 4 and 6.
async fn with_snapshots<S: Store>(store: &S) -> (StreamId, Vec<RecordedEvent>, [Snapshot; 3]) {
    let stream = stream();
    add(store, &stream, &notes(8)).await;
    let mut snapshots = [2, 4, 6].map(|version| snapshot(&stream, version));
    for (snapshot, n) in snapshots.iter_mut().zip(0..) {
        snapshot.fingerprint = (n > 0).then(|| format!("feed{n}"));
        save(store, snapshot).await;
    }
    let held = whole_stream(store, &stream).await;
    (stream, held, snapshots)
}

fn visit(stream: &StreamId, after: u32, at_most: u32) -> Visit {
    Visit {
        after: Version::new(after),
        at_most: Version::new(at_most),
        ..Visit::all(stream.clone())
    }
}

fn with_snapshot(visit: Visit) -> Visit {
    Visit {
        snapshot: true,
        ..visit
    }
}

fn offer(snapshot: Option<&Snapshot>) -> Vec<Offered> {
    let offered = snapshot.map(|snapshot| Offered {
        version: snapshot.version,
        fingerprint: snapshot.fingerprint.clone(),
        state: snapshot.state.as_str().to_owned(),
    });
    offered.into_iter().collect()
}

/// A visit must have shown those of `held` that lie in its range.
#[track_caller]
fn assert_shows(seen: &Seen, held: &[RecordedEvent], visit: &Visit) {
    let expected: Vec<_> = held
        .iter()
        .filter(|event| visit.after < event.event_version && event.event_version <= visit.at_most)
        .map(|event| SeenEvent::from(EventView::from(event)))
        .collect();
    assert!(
        seen.events == expected,
        "a visit after {} up to {} showed {} events, not the {} expected, or others",
        visit.after,
        visit.at_most,
        seen.events.len(),
        expected.len(),
    );
}

/// A visitor that remembers.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    believes: bool,
    stop_after: Option<usize>,
    pub(crate) offered: Vec<Offered>,
    pub(crate) events: Vec<SeenEvent>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) version: Version,
    fingerprint: Option<String>,
    state: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenEvent {
    pub(crate) version: Version,
    pub(crate) event_type: String,
    schema_version: u32,
    pub(crate) data: String,
}

impl Seen {
    /// What a visitor sees that believes no snapshot.
    pub(crate) async fn of<S: Store>(store: &S, visit: &Visit) -> Self {
        let mut seen = Self::default();
        seen.visit(store, visit).await;
        seen
    }

    /// A visitor that believes snapshots or not, and stops after so many events.
    pub(crate) fn answering(believes: bool, stop_after: Option<usize>) -> Self {
        Self {
            believes,
            stop_after,
            ..Self::default()
        }
    }

    pub(crate) async fn visit<S: Store>(&mut self, store: &S, visit: &Visit) {
        if let Err(err) = store.visit_stream(visit, self).await {
            panic!("a stream can be visited, got: {err}: {err:?}");
        }
    }
}

impl StreamVisitor for Seen {
    fn snapshot(&mut self, snapshot: SnapshotView<'_>) -> bool {
        assert!(self.events.is_empty(), "a snapshot comes before the events");
        self.offered.push(Offered {
            version: snapshot.version,
            fingerprint: snapshot.fingerprint.map(str::to_owned),
            state: snapshot.state.to_owned(),
        });
        self.believes
    }

    fn event(&mut self, event: EventView<'_>) -> ControlFlow<()> {
        self.events.push(event.into());
        match self.stop_after {
            Some(count) if self.events.len() >= count => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl From<EventView<'_>> for SeenEvent {
    fn from(event: EventView<'_>) -> Self {
        Self {
            version: event.version,
            event_type: event.event_type.to_owned(),
            schema_version: event.schema_version,
            data: event.data.to_owned(),
        }
    }
}
