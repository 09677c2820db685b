//! What a store must do, as simply as it can be said: one list of events, searched each time.

use chrono::{DateTime, Utc};
use es_core::{ExpectedVersion, Position, Version};
use uuid::Uuid;

use super::operation::Kind;

/// The events of one history in log order, and its snapshots.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) log: Vec<Entry>,
    snapshots: Vec<(u8, u32)>,
}

/// One event. What the store chooses is learned when it is first seen, and must then stay.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) stream: u8,
    pub(super) version: u32,
    /// The number of its id; a tombstone has none.
    pub(super) number: Option<u8>,
    pub(super) erased: bool,
    pub(super) learned: Option<Learned>,
}

/// What the store has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) event_id: Uuid,
    pub(super) position: Position,
    pub(super) created_at: DateTime<Utc>,
}

/// An append as it is made.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) stream: u8,
    pub(super) under_another_type: bool,
    pub(super) expected: ExpectedVersion,
    pub(super) events: Vec<u8>,
}

/// What must come of appends that are made together.
#[derive(Debug)]
pub(super) enum Verdict {
    /// They are recorded.
    Recorded,
    /// They were recorded before, up to these versions.
    Repeated(Vec<u32>),
    /// One of these answers. Where several streams stand in the way any of them may be named.
    Refused(Vec<Refusal>),
}

/// Why an append is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    Invalid {
        stream: u8,
    },
    Duplicate {
        stream: u8,
        of: Vec<u8>,
    },
    OtherType {
        stream: u8,
    },
    Erased {
        stream: u8,
    },
    Conflict {
        stream: u8,
        expected: ExpectedVersion,
        actual: Version,
    },
}

impl Entry {
    pub(super) fn kind(&self) -> Kind {
        match self.number {
            None => Kind::Tombstone,
            Some(number) if number % 2 == 0 => Kind::Even,
            Some(_) => Kind::Odd,
        }
    }
}

impl Model {
    pub(super) fn stream(&self, stream: u8) -> impl Iterator<Item = &Entry> {
        self.log.iter().filter(move |entry| entry.stream == stream)
    }

    pub(super) fn version(&self, stream: u8) -> u32 {
        self.stream(stream)
            .map(|entry| entry.version)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn is_erased(&self, stream: u8) -> bool {
        self.stream(stream).any(|entry| entry.number.is_none())
    }

    /// Decides about appends that belong together, and records them if they are to be.
    pub(super) fn append(&mut self, calls: &[Call]) -> Verdict {
        let malformed = malformed(calls);
        if !malformed.is_empty() {
            return Verdict::Refused(malformed);
        }
        let repeated: Vec<_> = calls.iter().map(|call| self.repetition(call)).collect();
        if repeated.iter().all(Option::is_some) {
            return Verdict::Repeated(repeated.into_iter().flatten().collect());
        }
        let refusals: Vec<_> = calls
            .iter()
            .zip(repeated)
            .filter_map(|(call, repeated)| match repeated {
                // Some repeated and some new.
                Some(_) => Some(Refusal::Duplicate {
                    stream: call.stream,
                    of: call.events.clone(),
                }),
                None => self.refusal(call),
            })
            .collect();
        if !refusals.is_empty() {
            return Verdict::Refused(refusals);
        }
        for call in calls {
            for number in &call.events {
                self.record(call.stream, Some(*number));
            }
        }
        Verdict::Recorded
    }

    /// Erases a stream that is there and not erased yet.
    pub(super) fn erase(&mut self, stream: u8) {
        for entry in self.log.iter_mut().filter(|entry| entry.stream == stream) {
            entry.erased = true;
        }
        self.snapshots.retain(|(of, _)| *of != stream);
        self.record(stream, None);
    }

    pub(super) fn save_snapshot(&mut self, stream: u8, version: u32) {
        if !self.is_erased(stream) {
            self.snapshots.push((stream, version));
        }
    }

    pub(super) fn newest_snapshot(&self, stream: u8, at_most: u32) -> Option<u32> {
        let of_stream = self.snapshots.iter().filter(|(of, _)| *of == stream);
        of_stream
            .map(|(_, version)| *version)
            .filter(|version| *version <= at_most)
            .max()
    }

    fn record(&mut self, stream: u8, number: Option<u8>) {
        self.log.push(Entry {
            stream,
            version: self.version(stream) + 1,
            number,
            erased: false,
            learned: None,
        });
    }

    /// The last version, if this very append is there: the same ids, in order, where expected.
    fn repetition(&self, call: &Call) -> Option<u32> {
        if call.under_another_type {
            return None;
        }
        let numbers: Vec<_> = self.stream(call.stream).map(|entry| entry.number).collect();
        let wanted: Vec<_> = call.events.iter().copied().map(Some).collect();
        let before = numbers
            .windows(wanted.len())
            .position(|there| there == wanted)?;
        let before = u32::try_from(before).expect("a short history");
        let in_place = call
            .expected
            .exact()
            .is_none_or(|exact| exact.get() == before);
        let count = u32::try_from(wanted.len()).expect("a short history");
        in_place.then_some(before + count)
    }

    fn refusal(&self, call: &Call) -> Option<Refusal> {
        let stream = call.stream;
        let actual = Version::new(self.version(stream));
        let is_taken = |number: &&u8| self.log.iter().any(|entry| entry.number == Some(**number));
        let taken: Vec<_> = call.events.iter().filter(is_taken).copied().collect();
        if call.under_another_type {
            Some(Refusal::OtherType { stream })
        } else if self.is_erased(stream) {
            Some(Refusal::Erased { stream })
        } else if !call.expected.accepts(actual) {
            let expected = call.expected;
            Some(Refusal::Conflict {
                stream,
                expected,
                actual,
            })
        } else if !taken.is_empty() {
            Some(Refusal::Duplicate { stream, of: taken })
        } else {
            None
        }
    }
}

/// What is wrong with appends whatever the store holds.
fn malformed(calls: &[Call]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut seen: Vec<u8> = Vec::new();
    for (n, Call { stream, events, .. }) in calls.iter().enumerate() {
        let stream = *stream;
        let occurs_before = calls[..n].iter().any(|call| call.stream == stream);
        if events.is_empty() || occurs_before {
            refusals.push(Refusal::Invalid { stream });
        }
        for number in events {
            if seen.contains(number) {
                let of = vec![*number];
                refusals.push(Refusal::Duplicate { stream, of });
            }
            seen.push(*number);
        }
    }
    refusals
}
