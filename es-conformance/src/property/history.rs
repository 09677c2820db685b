//! One history: each operation on the store and on the model, and what must be the same.

use es_core::{
    Append, Appended, EraseError, ExpectedVersion, Filter, Position, RecordedEvent, Scan, Snapshot,
    Version,
};

use super::{
    model::{Call, Entry, Learned, Model, Verdict},
    names::{Names, tombstone},
    operation::{Expected, Kind, Look, Operation, Part, STREAMS},
};
use crate::{
    Store,
    fixtures::{add, notes, settle, stream},
    snapshot::{save, snapshot},
};

/// A history on a store that has others, too: its ids and event types are its own.
pub(super) struct History<'a, S> {
    pub(super) store: &'a S,
    pub(super) model: Model,
    pub(super) names: Names,
    pub(super) snapshots: Vec<Snapshot>,
    /// The appends so far, and which of them were made with `append`.
    calls: Vec<(Vec<Call>, bool)>,
    /// Everything that others have written is at or before it.
    start: Position,
}

impl<'a, S: Store> History<'a, S> {
    pub(super) async fn new(store: &'a S) -> Self {
        let marker = add(store, &stream(), &notes(1)).await;
        settle(store, marker.position).await;
        Self {
            store,
            model: Model::default(),
            names: Names::new(),
            snapshots: Vec::new(),
            calls: Vec::new(),
            start: marker.position,
        }
    }

    /// Panics where the store and the model differ.
    pub(super) async fn run(mut self, operations: &[Operation]) {
        for operation in operations {
            self.step(operation).await;
        }
        for stream in 0..STREAMS {
            self.read_stream(stream, 0, 1_000).await;
            self.load_snapshot(stream, Version::MAX.get()).await;
            self.visit(&Look::whole(stream)).await;
        }
        self.read_log(0, 1_000, None).await;
    }

    async fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::ReadStream {
                stream,
                after,
                limit,
            } => {
                self.read_stream(*stream, *after, *limit).await;
            }
            Operation::ReadLog {
                passed,
                limit,
                only,
            } => {
                self.read_log(*passed, *limit, *only).await;
            }
            Operation::Scan { kind, limit } => self.scan(*kind, *limit).await,
            Operation::Append(part) => {
                let call = self.call(part);
                self.append(vec![call], true).await;
            }
            Operation::AppendAll(parts) => {
                let calls = parts.iter().map(|part| self.call(part)).collect();
                self.append(calls, false).await;
            }
            Operation::Repeat(which) => {
                if !self.calls.is_empty() {
                    let (calls, alone) = which.get(&self.calls).clone();
                    self.append(calls, alone).await;
                }
            }
            Operation::SaveSnapshot { stream, version } => {
                let snapshot = snapshot(self.names.stream(*stream), *version);
                save(self.store, &snapshot).await;
                self.model.save_snapshot(*stream, *version);
                self.snapshots.push(snapshot);
            }
            Operation::LoadSnapshot { stream, at_most } => {
                self.load_snapshot(*stream, *at_most).await;
            }
            Operation::Visit(look) => self.visit(look).await,
            Operation::Erase {
                stream,
                under_another_type,
            } => {
                self.erase(*stream, *under_another_type).await;
            }
        }
    }

    /// Settles what is relative: an expectation, and a type that is another only if there is one.
    fn call(&self, part: &Part) -> Call {
        let version = self.model.version(part.stream);
        let expected = match part.expected {
            Expected::Any => ExpectedVersion::Any,
            Expected::NoStream => ExpectedVersion::NoStream,
            Expected::StreamExists => ExpectedVersion::StreamExists,
            Expected::Beside(by) => {
                let exact = version.saturating_add_signed(by.into());
                ExpectedVersion::Exact(Version::new(exact))
            }
        };
        Call {
            stream: part.stream,
            under_another_type: part.under_another_type && version > 0,
            expected,
            events: part.events.clone(),
        }
    }

    async fn append(&mut self, calls: Vec<Call>, alone: bool) {
        let appends: Vec<_> = calls
            .iter()
            .map(|call| self.names.as_append(call))
            .collect();
        let answer = match &appends[..] {
            [
                Append {
                    stream,
                    expected,
                    events,
                },
            ] if alone => {
                let answer = self.store.append(stream, *expected, events).await;
                answer.map(|appended| vec![appended])
            }
            appends => self.store.append_all(appends).await,
        };
        let before = self.model.log.len();
        match (self.model.append(&calls), answer) {
            (Verdict::Recorded, Ok(answers)) => {
                self.learn(before).await;
                let versions = calls.iter().map(|call| self.model.version(call.stream));
                self.assert_answers(&calls, &versions.collect::<Vec<_>>(), &answers);
            }
            (Verdict::Repeated(versions), Ok(answers)) => {
                self.assert_answers(&calls, &versions, &answers);
            }
            (Verdict::Refused(refusals), Err(err)) => assert!(
                refusals.iter().any(|refusal| self.names.is(refusal, &err)),
                "{calls:?} must be refused as {refusals:?}, got: {err}",
            ),
            (verdict, answer) => panic!("{calls:?} must be {verdict:?}, got: {answer:?}"),
        }
        self.calls.push((calls, alone));
    }

    async fn erase(&mut self, stream: u8, under_another_type: bool) {
        let mut id = self.names.stream(stream).clone();
        if under_another_type {
            id.aggregate_type = "another_type".into();
        }
        let answer = self.store.erase(&id, &tombstone()).await;
        if under_another_type || self.model.version(stream) == 0 {
            let not_found =
                matches!(&answer, Err(EraseError::NotFound { stream }) if *stream == id);
            assert!(
                not_found,
                "`{id}` is not there to be erased, got: {answer:?}"
            );
            return;
        }
        let answer = answer.expect("a stream can be erased");
        if !self.model.is_erased(stream) {
            let before = self.model.log.len();
            self.model.erase(stream);
            self.learn(before).await;
        }
        let version = self.model.version(stream);
        self.assert_place(stream, version, answer);
    }

    /// Reads what was just recorded, in the order of the log; checks all of it.
    async fn learn(&mut self, before: usize) {
        let last = self.model.log[..before]
            .iter()
            .filter_map(|entry| entry.learned)
            .next_back();
        for stream in 0..STREAMS {
            let new = &self.model.log[before..];
            let Some(first) = new.iter().find(|entry| entry.stream == stream) else {
                continue;
            };
            let after = first.version - 1;
            let count = new.iter().filter(|entry| entry.stream == stream).count();
            let id = self.names.stream(stream);
            let held = self
                .store
                .read_stream(id, Version::new(after), 1_000)
                .await
                .expect("a stream can be read");
            assert_eq!(held.len(), count, "the events that were just recorded");
            let new = self.model.log[before..].iter_mut();
            for (entry, held) in new.filter(|entry| entry.stream == stream).zip(&held) {
                entry.learned = Some(Learned {
                    event_id: held.event_id,
                    position: held.position,
                    created_at: held.created_at,
                });
                assert!(
                    last.is_none_or(|last| held.position > last.position),
                    "a later append has a higher position",
                );
            }
            self.read_stream(stream, after, 1_000).await;
        }
        self.model.log[before..].sort_by_key(|entry| entry.learned.map(|learned| learned.position));
    }

    async fn read_stream(&self, stream: u8, after: u32, limit: u32) {
        let id = self.names.stream(stream);
        let held = self.store.read_stream(id, Version::new(after), limit).await;
        let expected = self
            .model
            .stream(stream)
            .filter(|entry| entry.version > after);
        let held = held.expect("a stream can be read");
        self.assert_same(&held, expected.take(limit as usize), "a read of a stream");
    }

    async fn read_log(&self, passed: usize, limit: u32, only: Option<Kind>) {
        let log = &self.model.log;
        let passed = passed.min(log.len());
        let after = log[..passed].last().map_or(self.start, place);
        let settled = settle(self.store, log.last().map_or(self.start, place)).await;
        let filter = only.map_or(Filter::All, |kind| {
            Filter::event_types([self.names.name(kind)])
        });
        let page = self
            .store
            .read_log(&filter, after, limit)
            .await
            .expect("the log can be read");
        let wanted = log[passed..]
            .iter()
            .filter(|entry| only.is_none_or(|kind| entry.kind() == kind));

        self.assert_same(
            &page.events,
            wanted.take(limit as usize),
            "a page of the log",
        );
        let last = page.events.last().map_or(after, |event| event.position);
        if page.events.len() == limit as usize {
            assert_eq!(
                page.covered, last,
                "a full page covers up to its last event"
            );
        } else {
            assert!(
                last <= page.covered && page.covered <= settled.max(after),
                "a page after {after} with {last} covers {}, settled is {settled}",
                page.covered,
            );
        }
    }

    async fn scan(&self, kind: Kind, limit: u32) {
        let last = self.model.log.last().map_or(self.start, place);
        settle(self.store, last).await;
        let mut scan = Scan::of(self.names.name(kind));
        let mut found = Vec::new();
        loop {
            let page = self.store.scan(&scan, limit).await.expect("a scan works");
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit as usize, "a scan is limited");
            scan = scan.after(last);
            found.extend(page);
            assert!(found.len() <= self.model.log.len(), "a scan does not end");
        }
        let of_kind = self.model.log.iter().filter(|entry| entry.kind() == kind);
        let mut expected: Vec<_> = of_kind.collect();
        expected.sort_by_key(|entry| {
            entry
                .learned
                .map(|learned| (learned.created_at, learned.position))
        });
        self.assert_same(&found, expected.into_iter(), "a scan");
    }

    fn assert_answers(&self, calls: &[Call], versions: &[u32], answers: &[Appended]) {
        assert_eq!(answers.len(), calls.len(), "an answer for each append");
        for ((call, version), answer) in calls.iter().zip(versions).zip(answers) {
            self.assert_place(call.stream, *version, *answer);
        }
    }

    fn assert_place(&self, stream: u8, version: u32, answer: Appended) {
        let entry = self
            .model
            .stream(stream)
            .find(|entry| entry.version == version);
        let position = place(entry.expect("the model has it"));
        let expected = Appended {
            version: Version::new(version),
            position,
        };
        assert_eq!(
            answer, expected,
            "the place of the last event of stream {stream}"
        );
    }

    fn assert_same<'e>(
        &self,
        held: &[RecordedEvent],
        expected: impl Iterator<Item = &'e Entry>,
        what: &str,
    ) {
        let expected: Vec<_> = expected.map(|entry| self.names.recorded(entry)).collect();
        assert_eq!(held, expected, "{what}");
    }
}

fn place(entry: &Entry) -> Position {
    entry
        .learned
        .map_or(Position::START, |learned| learned.position)
}
