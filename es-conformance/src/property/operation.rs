//! What can be done to a store, in small numbers that shrink.

use std::ops::Range;

use es_core::Version;
use proptest::{collection::vec, option, prelude::*};

/// Few streams, so that operations meet.
pub(super) const STREAMS: u8 = 3;
/// Few ids, so that some are used again.
pub(super) const IDS: u8 = 60;
const OPERATIONS: Range<usize> = 1..30;
const VERSIONS: Range<u32> = 0..12;

/// One call of the port. Streams and event ids are numbers in the history.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    ReadStream {
        stream: u8,
        after: u32,
        limit: u32,
    },
    ReadLog {
        /// How many events of the history lie behind the reader.
        passed: usize,
        limit: u32,
        only: Option<Kind>,
    },
    Scan {
        kind: Kind,
        limit: u32,
    },
    Append(Part),
    AppendAll(Vec<Part>),
    /// Some earlier append again, as it was.
    Repeat(prop::sample::Index),
    SaveSnapshot {
        stream: u8,
        version: u32,
    },
    LoadSnapshot {
        stream: u8,
        at_most: u32,
    },
    Visit(Look),
    Erase {
        stream: u8,
        under_another_type: bool,
    },
}

/// One append.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) stream: u8,
    /// Under another aggregate type than the stream has, if the stream is there.
    pub(super) under_another_type: bool,
    pub(super) expected: Expected,
    pub(super) events: Vec<u8>,
}

/// What an append expects, told by where the stream is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    Any,
    NoStream,
    StreamExists,
    /// The exact version, or so much beside it.
    Beside(i8),
}

/// A type of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Even,
    Odd,
    Tombstone,
}

/// A visit and how the visitor answers.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) stream: u8,
    pub(super) after: u32,
    pub(super) at_most: u32,
    pub(super) snapshot: bool,
    pub(super) believes: bool,
    pub(super) stop_after: Option<usize>,
}

impl Look {
    /// At the whole stream, behind its newest snapshot.
    pub(super) fn whole(stream: u8) -> Self {
        Self {
            stream,
            after: 0,
            at_most: Version::MAX.get(),
            snapshot: true,
            believes: true,
            stop_after: None,
        }
    }
}

pub(super) fn operations() -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), OPERATIONS)
}

fn operation() -> impl Strategy<Value = Operation> {
    let stream = || 0..STREAMS;
    let limit = || 0..6_u32;
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        1 => (stream(), VERSIONS, limit())
            .prop_map(|(stream, after, limit)| Operation::ReadStream { stream, after, limit }),
        2 => (0..20_usize, limit(), option::of(kind()))
            .prop_map(|(passed, limit, only)| Operation::ReadLog { passed, limit, only }),
        1 => (prop_oneof![Just(Kind::Even), Just(Kind::Odd)], 1..6_u32)
            .prop_map(|(kind, limit)| Operation::Scan { kind, limit }),
        8 => part().prop_map(Operation::Append),
        4 => vec(part(), 0..4).prop_map(Operation::AppendAll),
        3 => any::<prop::sample::Index>().prop_map(Operation::Repeat),
        2 => (stream(), 1..VERSIONS.end)
            .prop_map(|(stream, version)| Operation::SaveSnapshot { stream, version }),
        1 => (stream(), VERSIONS)
            .prop_map(|(stream, at_most)| Operation::LoadSnapshot { stream, at_most }),
        3 => look().prop_map(Operation::Visit),
        2 => (stream(), rarely()).prop_map(|(stream, under_another_type)| Operation::Erase {
            stream,
            under_another_type,
        }),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let run = (0..IDS, 1..4_u8).prop_map(|(first, count)| {
        let end = IDS.min(first + count);
        (first..end).collect()
    });
    let events = prop_oneof![12 => run, 1 => vec(0..IDS, 0..4)];
    let under_another_type = prop::bool::weighted(0.05);
    (0..STREAMS, under_another_type, expected(), events).prop_map(
        |(stream, under_another_type, expected, events)| Part {
            stream,
            under_another_type,
            expected,
            events,
        },
    )
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        4 => Just(Expected::Any),
        1 => Just(Expected::NoStream),
        1 => Just(Expected::StreamExists),
        4 => Just(Expected::Beside(0)),
        1 => (-2..=2_i8).prop_map(Expected::Beside),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Even), Just(Kind::Odd), Just(Kind::Tombstone)]
}

fn look() -> impl Strategy<Value = Look> {
    let stop_after = option::weighted(0.2, 1..5_usize);
    let ends = (VERSIONS, prop_oneof![VERSIONS, Just(Version::MAX.get())]);
    (0..STREAMS, ends, any::<bool>(), any::<bool>(), stop_after).prop_map(
        |(stream, (after, at_most), snapshot, believes, stop_after)| Look {
            stream,
            after,
            at_most,
            snapshot,
            believes,
            stop_after,
        },
    )
}
