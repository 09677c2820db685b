//! Whether an append may go on: one question about all of a group, answered in one row.

use std::collections::HashMap;

use chrono::{DateTime, SubsecRound, Utc};
use es_core::{Append, AppendError, Appended, NewEvent, Version};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::row::{position, timestamp};

/// Texts of one line for each stream and place: their index among those asked for comes first.
macro_rules! question {
    ($streams:literal, $places:literal) => {
        concat!(
            "SELECT last_position, last_created_at, (SELECT ",
            $streams,
            "), (SELECT ",
            $places,
            "), (SELECT json_group_array(json_array(name, version)) FROM projection_shards
                 WHERE status = 'inline')
             FROM log_head"
        )
    };
}
/// The streams are `?1`, the event ids `?2`: JSON arrays of hexadecimal texts.
macro_rules! ask {
    () => {
        question!(
            "group_concat(s.key || ' ' || event_version || ' ' || (event_type = '$stream_erased')
                 || ' ' || octet_length(aggregate_type) || ' ' || aggregate_type, '')
             FROM json_each(?1) AS s CROSS JOIN events ON aggregate_id = unhex(s.value)
             AND event_version = (SELECT max(event_version) FROM events
                                  WHERE aggregate_id = unhex(s.value))",
            "group_concat(i.key || ' ' || hex(aggregate_id) || ' ' || event_version || ' '
                 || position, char(10))
             FROM json_each(?2) AS i CROSS JOIN events ON event_id = unhex(i.value)"
        )
    };
}
const ASK: &str = ask!();
const BEGIN_AND_ASK: &str = concat!("BEGIN IMMEDIATE; ", ask!());
const SAVEPOINT_AND_ASK: &str = concat!("SAVEPOINT es_append; ", ask!());
/// The same of one stream and one id, which most appends need, without the arrays.
const BEGIN_AND_ASK_ONE: &str = concat!(
    "BEGIN IMMEDIATE; ",
    question!(
        "'0 ' || event_version || ' ' || (event_type = '$stream_erased')
             || ' ' || octet_length(aggregate_type) || ' ' || aggregate_type
         FROM events WHERE aggregate_id = ?1 ORDER BY event_version DESC LIMIT 1",
        "'0 ' || hex(aggregate_id) || ' ' || event_version || ' ' || position
         FROM events WHERE event_id = ?2"
    )
);

/// What comes with the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// A transaction, with the write lock.
    Immediate,
    /// A savepoint in a transaction of the program.
    Savepoint,
    /// Nothing.
    Inside,
}

/// Which event ids are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// The first of each append: enough to know a repetition. The others are left to the table's
    /// primary key, which looks at them in any case.
    First,
    /// All of them.
    All,
}

/// What the database says of a group. Holding the write lock, nothing of it can change before the commit.
pub(super) struct Facts {
    pub(super) head: Head,
    /// The projections that must run inside, as JSON.
    pub(super) inline: String,
    streams: Vec<Option<Standing>>,
    places: HashMap<Uuid, Place>,
}

/// The end of the log, as it will be written.
pub(super) struct Head {
    pub(super) position: i64,
    pub(super) created_at: DateTime<Utc>,
}

struct Standing {
    version: Version,
    is_erased: bool,
    aggregate_type: String,
}

/// Where an event id is taken.
struct Place {
    aggregate_id: Uuid,
    version: u32,
    position: i64,
}

pub(super) enum Admission {
    /// This very append was recorded before.
    Repeated(Appended),
    /// The stream is at this version and may grow.
    At(Version),
}

pub(super) async fn ask(
    db: &mut SqliteConnection,
    begin: Begin,
    appends: &[Append],
    ids: Ids,
) -> Result<Facts, sqlx::Error> {
    let facts = ask_once(db, begin, appends, ids).await?;
    match facts.places.is_empty() || ids == Ids::All {
        true => Ok(facts),
        false => ask_once(db, Begin::Inside, appends, Ids::All).await,
    }
}

async fn ask_once(
    db: &mut SqliteConnection,
    begin: Begin,
    appends: &[Append],
    ids: Ids,
) -> Result<Facts, sqlx::Error> {
    let asked = || appends.iter().flat_map(move |append| ids.of(append));
    let question = match (begin, appends) {
        (Begin::Immediate, [append]) if ids == Ids::First => sqlx::query_as(BEGIN_AND_ASK_ONE)
            .bind(append.stream.aggregate_id)
            .bind(append.events.first().map(|event| event.event_id)),
        _ => sqlx::query_as(match begin {
            Begin::Immediate => BEGIN_AND_ASK,
            Begin::Savepoint => SAVEPOINT_AND_ASK,
            Begin::Inside => ASK,
        })
        .bind(json(
            appends.iter().map(|append| append.stream.aggregate_id),
        ))
        .bind(json(asked().map(|event| event.event_id))),
    };
    let row: (i64, String, Option<String>, Option<String>, String) = question.fetch_one(db).await?;
    let (last_position, last_created_at, streams, places, inline) = row;
    let mut facts = Facts {
        head: Head::now(last_position, &last_created_at)?,
        inline,
        streams: appends.iter().map(|_| None).collect(),
        places: HashMap::new(),
    };
    facts
        .read_streams(streams.as_deref().unwrap_or_default())
        .ok_or_else(|| unreadable("the state of a stream"))?;
    let asked: Vec<_> = match &places {
        Some(_) => asked().collect(),
        None => Vec::new(),
    };
    for line in places.as_deref().unwrap_or_default().lines() {
        let place = Place::read(line, &asked);
        let (event_id, place) = place.ok_or_else(|| unreadable("the place of an event"))?;
        facts.places.insert(event_id, place);
    }
    Ok(facts)
}

impl Ids {
    fn of(self, append: &Append) -> impl Iterator<Item = &NewEvent> {
        append.events.iter().take(match self {
            Self::First => 1,
            Self::All => usize::MAX,
        })
    }
}

impl Head {
    /// Time does not go back, even if the clock does.
    fn now(position: i64, last_created_at: &str) -> Result<Self, sqlx::Error> {
        let now = Utc::now().trunc_subsecs(6);
        let created_at = match last_created_at {
            "" => now,
            last => DateTime::parse_from_rfc3339(last)
                .map_err(|_| unreadable("the time of the last event"))?
                .to_utc()
                .max(now),
        };
        Ok(Self {
            position,
            created_at,
        })
    }

    /// As the column has it.
    pub(super) fn timestamp(&self) -> String {
        timestamp(self.created_at)
    }
}

impl Facts {
    pub(super) fn admit(&self, index: usize, append: &Append) -> Result<Admission, AppendError> {
        let standing = self.streams.get(index).and_then(Option::as_ref);
        let stream = || append.stream.clone();
        if let Some(first) = self.repetition(standing, append) {
            return Ok(Admission::Repeated(first));
        }
        if let Some(other) = standing
            && append.stream.aggregate_type != other.aggregate_type.as_str()
        {
            return Err(AppendError::OtherAggregateType {
                stream: stream(),
                actual: other.aggregate_type.clone(),
            });
        }
        if standing.is_some_and(|standing| standing.is_erased) {
            return Err(AppendError::Erased { stream: stream() });
        }
        let actual = standing.map_or(Version::EMPTY, |standing| standing.version);
        if !append.expected.accepts(actual) {
            return Err(AppendError::Conflict {
                stream: stream(),
                expected: append.expected,
                actual,
            });
        }
        let mut events = append.events.iter();
        if let Some(taken) = events.find(|event| self.places.contains_key(&event.event_id)) {
            return Err(AppendError::DuplicateId {
                stream: stream(),
                event_id: taken.event_id,
            });
        }
        if actual.after(append.events.len()).is_none() {
            return Err(AppendError::Invalid {
                stream: stream(),
                reason: format!("a stream holds at most {} events", Version::MAX),
            });
        }
        Ok(Admission::At(actual))
    }

    /// The first result, if all ids stand in this stream one after another, where they are expected.
    fn repetition(&self, standing: Option<&Standing>, append: &Append) -> Option<Appended> {
        let first = self.places.get(&append.events.first()?.event_id)?;
        let before = first.version.checked_sub(1)?;
        let exact = append.expected.exact();
        let in_place = append.stream.aggregate_type == standing?.aggregate_type.as_str()
            && exact.is_none_or(|exact| exact.get() == before);
        let mut last = None;
        for (event, version) in append.events.iter().zip(first.version..) {
            let place = self.places.get(&event.event_id)?;
            if place.aggregate_id != append.stream.aggregate_id || place.version != version {
                return None;
            }
            last = Some(Appended {
                version: Version::new(version),
                position: position(place.position).ok()?,
            });
        }
        last.filter(|_| in_place)
    }

    /// One after another: index, version, whether it is erased, length of the type, the type.
    fn read_streams(&mut self, mut text: &str) -> Option<()> {
        while !text.is_empty() {
            let mut parts = text.splitn(5, ' ');
            let index: usize = parts.next()?.parse().ok()?;
            let version = Version::new(parts.next()?.parse().ok()?);
            let is_erased = parts.next()? == "1";
            let length: usize = parts.next()?.parse().ok()?;
            let (aggregate_type, rest) = parts.next()?.split_at_checked(length)?;
            *self.streams.get_mut(index)? = Some(Standing {
                version,
                is_erased,
                aggregate_type: aggregate_type.to_owned(),
            });
            text = rest;
        }
        Some(())
    }

    pub(super) fn is_erased(&self, index: usize) -> bool {
        let standing = self.streams.get(index).and_then(Option::as_ref);
        standing.is_some_and(|standing| standing.is_erased)
    }

    /// Whether the stream exists, with the type that the caller names.
    pub(super) fn has(&self, index: usize, append: &Append) -> bool {
        let standing = self.streams.get(index).and_then(Option::as_ref);
        standing.is_some_and(|standing| {
            append.stream.aggregate_type == standing.aggregate_type.as_str()
        })
    }
}

impl Place {
    fn read(line: &str, asked: &[&NewEvent]) -> Option<(Uuid, Self)> {
        let mut parts = line.splitn(4, ' ');
        let event = asked.get(parts.next()?.parse::<usize>().ok()?)?;
        let place = Self {
            aggregate_id: Uuid::try_parse(parts.next()?).ok()?,
            version: parts.next()?.parse().ok()?,
            position: parts.next()?.parse().ok()?,
        };
        Some((event.event_id, place))
    }
}

fn json(ids: impl Iterator<Item = Uuid>) -> String {
    let mut text = String::with_capacity(64);
    text.push('[');
    for id in ids {
        let mut buffer = Uuid::encode_buffer();
        text.push_str(if text.len() == 1 { "\"" } else { ",\"" });
        text.push_str(id.simple().encode_lower(&mut buffer));
        text.push('"');
    }
    text.push(']');
    text
}

/// A damaged row; its content is not repeated.
fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} is damaged").into())
}
