//! What the checks share: names, events, and reading to the end.

use std::time::Duration;

use es_core::{
    Append, AppendError, Appended, EventStore, ExpectedVersion, Filter, Json, NewEvent, Position,
    ProjectionId, RecordedEvent, StreamId, Version,
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// How long something that must happen soon may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A stream that nobody has used.
pub(crate) fn stream() -> StreamId {
    StreamId::new("conformance", Uuid::now_v7())
}

/// A projection that nobody has run.
pub(crate) fn projection() -> ProjectionId {
    ProjectionId::new(format!("conformance_{}", Uuid::now_v7().simple()), 1)
}

/// A fresh event of one type.
pub(crate) fn event(event_type: &'static str) -> NewEvent {
    NewEvent::new(event_type, Json::from_stored("{}"))
}

/// Fresh events of type `note`.
pub(crate) fn notes(count: usize) -> Vec<NewEvent> {
    (0..count)
        .map(|n| NewEvent::new("note", Json::from_stored(format!(r#"{{"n":{n}}}"#))))
        .collect()
}

pub(crate) fn exact(version: u32) -> ExpectedVersion {
    ExpectedVersion::Exact(Version::new(version))
}

/// An append that must succeed.
pub(crate) async fn append(
    store: &dyn EventStore,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> Appended {
    match store.append(stream, expected, events).await {
        Ok(appended) => appended,
        Err(error) => panic!(
            "appending {} event(s) to `{stream}` expecting {expected} must succeed, got: {error}: {error:?}",
            events.len(),
        ),
    }
}

/// An append to any version that must succeed.
pub(crate) async fn add(
    store: &dyn EventStore,
    stream: &StreamId,
    events: &[NewEvent],
) -> Appended {
    append(store, stream, ExpectedVersion::Any, events).await
}

/// An append that must be refused.
pub(crate) async fn refused(
    store: &dyn EventStore,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> AppendError {
    match store.append(stream, expected, events).await {
        Ok(appended) => panic!(
            "appending {} event(s) to `{stream}` expecting {expected} must be refused, got: {appended:?}",
            events.len(),
        ),
        Err(error) => error,
    }
}

/// Appends that must be recorded together.
pub(crate) async fn append_all(store: &dyn EventStore, appends: &[Append]) -> Vec<Appended> {
    match store.append_all(appends).await {
        Ok(appended) => {
            assert_eq!(appended.len(), appends.len(), "an answer for each append");
            appended
        }
        Err(error) => panic!(
            "{} appends together must succeed, got: {error}: {error:?}",
            appends.len(),
        ),
    }
}

/// Appends of which the store must refuse all.
pub(crate) async fn all_refused(store: &dyn EventStore, appends: &[Append]) -> AppendError {
    match store.append_all(appends).await {
        Ok(appended) => panic!(
            "{} appends together must be refused, got: {appended:?}",
            appends.len(),
        ),
        Err(error) => error,
    }
}

/// A whole stream in pages of `limit`, until an empty page.
pub(crate) async fn stream_in_pages(
    store: &dyn EventStore,
    stream: &StreamId,
    limit: u32,
) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(Version::EMPTY, |e| e.event_version);
        let page = store
            .read_stream(stream, after, limit)
            .await
            .expect("a stream can be read");
        assert!(
            page.len() <= limit as usize,
            "a page of at most {limit} has {} events",
            page.len(),
        );
        let Some(first) = page.first() else {
            return events;
        };
        assert!(
            first.event_version > after,
            "a page after version {after} starts with version {}",
            first.event_version,
        );
        events.extend(page);
        tokio::task::yield_now().await;
    }
}

/// A whole stream, whose versions must be 1, 2, 3, and so on.
pub(crate) async fn whole_stream(store: &dyn EventStore, stream: &StreamId) -> Vec<RecordedEvent> {
    let events = stream_in_pages(store, stream, 1000).await;
    for (event, version) in events.iter().zip(1..) {
        assert_eq!(
            event.event_version,
            Version::new(version),
            "the versions of `{stream}` have a hole or a double: {:?}",
            events
                .iter()
                .map(|e| e.event_version.get())
                .collect::<Vec<_>>(),
        );
        assert_eq!(event.stream(), *stream, "an event of another stream");
    }
    events
}

/// A stream must hold exactly these events, and so must the log say of the stream.
pub(crate) async fn assert_holds(store: &dyn EventStore, stream: &StreamId, events: &[NewEvent]) {
    let held = whole_stream(store, stream).await;
    assert_eq!(
        ids(&held),
        new_ids(events),
        "`{stream}` must hold exactly these events",
    );
    if let Some(last) = held.last() {
        settle(store, last.position).await;
    }
    let log: Vec<_> = whole_log(store, &Filter::All, 1000)
        .await
        .into_iter()
        .filter(|event| event.stream() == *stream)
        .collect();
    assert_eq!(
        ids(&log),
        new_ids(events),
        "the log must hold exactly these events of `{stream}`",
    );
}

pub(crate) fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.event_id).collect()
}

pub(crate) fn new_ids(events: &[NewEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.event_id).collect()
}

/// Waits, as a reader would, until everything up to `position` is settled; returns the horizon.
pub(crate) async fn settle(store: &dyn EventStore, position: Position) -> Position {
    let end = Instant::now() + SOON;
    loop {
        let settled = store.settled().await.expect("the horizon can be read");
        if settled >= position {
            return settled;
        }
        assert!(
            Instant::now() < end,
            "position {position} was acknowledged, but after {SOON:?} only {settled} is settled",
        );
        let wait = store.wait_for_events(settled);
        if let Ok(waited) = timeout(SOON, wait).await {
            waited.expect("the log can be waited for");
        }
        tokio::task::yield_now().await;
    }
}

/// The settled log in pages of `limit`, each checked against the rules of a page.
pub(crate) async fn whole_log(
    store: &dyn EventStore,
    filter: &Filter,
    limit: u32,
) -> Vec<RecordedEvent> {
    let target = store.settled().await.expect("the horizon can be read");
    let mut reader = Reader::new(filter.clone(), limit);
    let mut stalled = 0;
    while reader.after < target {
        if reader.page(store).await {
            stalled = 0;
            continue;
        }
        stalled += 1;
        assert!(
            stalled < 100,
            "a reader is stuck at {}, though {target} was settled before",
            reader.after,
        );
        tokio::task::yield_now().await;
    }
    reader.seen
}

/// A reader that pages through the log and holds each page to the rules.
#[derive(Debug)]
pub(crate) struct Reader {
    filter: Filter,
    limit: u32,
    pub(crate) after: Position,
    pub(crate) seen: Vec<RecordedEvent>,
}

impl Reader {
    pub(crate) fn new(filter: Filter, limit: u32) -> Self {
        Self {
            filter,
            limit,
            after: Position::START,
            seen: Vec::new(),
        }
    }

    /// Reads one page; returns whether it led further.
    pub(crate) async fn page(&mut self, store: &dyn EventStore) -> bool {
        let page = store
            .read_log(&self.filter, self.after, self.limit)
            .await
            .expect("the log can be read");
        let settled = store.settled().await.expect("the horizon can be read");

        assert!(
            page.events.len() <= self.limit as usize,
            "a page of at most {} has {} events",
            self.limit,
            page.events.len(),
        );
        let mut last = self.after;
        for event in &page.events {
            assert!(
                event.position > last,
                "position {} comes after {last} in the page after {}",
                event.position,
                self.after,
            );
            last = event.position;
        }
        assert!(
            page.covered >= last,
            "a page with an event at {last} says it covers only {}",
            page.covered,
        );
        assert!(
            page.covered <= settled.max(self.after),
            "a page covers {}, but only {settled} is settled",
            page.covered,
        );
        if page.events.len() == self.limit as usize {
            assert_eq!(
                page.covered, last,
                "a full page covers the log up to its last event",
            );
        }

        let moved = page.covered > self.after;
        self.after = page.covered;
        self.seen.extend(page.events);
        tokio::task::yield_now().await;
        moved
    }
}
