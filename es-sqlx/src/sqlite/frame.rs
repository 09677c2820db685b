//! Pages of events in one row: the driver hands over each row by itself, which costs more than reading it.
//!
//! Each column of the page is joined into one text. Nothing is assumed of what is stored: the pieces must
//! be as many as the events, and in order, or else the page is read again row by row.

use chrono::{DateTime, Utc};
use es_core::{EventView, Json, Metadata, Name, Position, RecordedEvent, Version};
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

/// Cannot occur in JSON, nor, as a rule, in a name.
const SEPARATOR: char = '\x1e';

/// What is selected of a page of whole events. Nothing but a BLOB is greater than the empty BLOB.
pub(super) const EVENTS: &str = "count(*) AS count,
    total(aggregate_type >= x'' OR event_type >= x'' OR event_data >= x'' OR metadata >= x''
          OR created_at >= x'') AS blobs,
    group_concat(position, ' ') AS positions,
    group_concat(hex(event_id), '') AS event_ids,
    group_concat(hex(aggregate_id), '') AS aggregate_ids,
    group_concat(aggregate_type, '\x1e') AS aggregate_types,
    group_concat(event_type, '\x1e') AS event_types,
    group_concat(event_version, ' ') AS versions,
    group_concat(schema_version, ' ') AS schema_versions,
    group_concat(event_data, '\x1e') AS data,
    group_concat(ifnull('+' || metadata, ''), '\x1e') AS metadata,
    group_concat(created_at, ' ') AS times";

/// What is selected of a page for a fold.
macro_rules! view_columns {
    () => {
        "count(*) AS count, total(event_type >= x'' OR event_data >= x'') AS blobs,
         group_concat(event_version, ' ') AS versions,
         group_concat(event_type, '\x1e') AS event_types,
         group_concat(schema_version, ' ') AS schema_versions,
         group_concat(event_data, '\x1e') AS data"
    };
}
pub(super) use view_columns;

/// In which order the events of a page must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Position,
    Version,
    Time,
}

impl Order {
    fn holds(self, before: &RecordedEvent, event: &RecordedEvent) -> bool {
        match self {
            Self::Position => before.position < event.position,
            Self::Version => before.event_version < event.event_version,
            Self::Time => (before.created_at, before.position) < (event.created_at, event.position),
        }
    }
}

/// The events of a page, or `None` if it must be read row by row.
pub(super) fn events(row: &SqliteRow, order: Order) -> Option<Vec<RecordedEvent>> {
    let frame = Frame { row };
    let count = frame.count()?;
    let mut positions = frame.words("positions")?;
    let (mut event_ids, mut aggregate_ids) = (frame.ids("event_ids")?, frame.ids("aggregate_ids")?);
    let mut aggregate_types = frame.pieces("aggregate_types", count)?;
    let mut event_types = frame.pieces("event_types", count)?;
    let mut versions = frame.words("versions")?;
    let mut schema_versions = frame.words("schema_versions")?;
    let mut data = frame.pieces("data", count)?;
    let mut metadata = frame.pieces("metadata", count)?;
    let mut times = frame.words("times")?;
    let (mut aggregate_type, mut event_type) = (Repeated::default(), Repeated::default());
    let mut created_at = ("", DateTime::UNIX_EPOCH);
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(count);
    for _ in 0..count {
        let event = RecordedEvent {
            event_id: event_ids.next()?,
            aggregate_id: aggregate_ids.next()?,
            aggregate_type: aggregate_type.name(aggregate_types.next()?),
            event_type: event_type.name(event_types.next()?),
            event_version: Version::new(versions.next()?.parse().ok()?),
            created_at: time(times.next()?, &mut created_at)?,
            event_data: Json::from_stored(data.next()?),
            position: Position::new(positions.next()?.parse().ok()?),
            schema_version: schema_versions.next()?.parse().ok()?,
            metadata: described(metadata.next()?)?,
        };
        if let Some(before) = events.last()
            && !order.holds(before, &event)
        {
            return None;
        }
        events.push(event);
    }
    let is_over = event_ids.is_over() && aggregate_ids.is_over();
    is_over.then_some(events)
}

/// The events of a page for a fold after `version`, or `None` if it must be read row by row.
pub(super) fn views(row: &SqliteRow, version: Version) -> Option<Views<'_>> {
    let frame = Frame { row };
    let count = frame.count()?;
    let (versions, schema_versions) = (frame.words("versions")?, frame.words("schema_versions")?);
    // Looked at in full before the first event is shown.
    let mut expected = version.get();
    for version in versions.clone() {
        expected = expected.checked_add(1)?;
        (version.parse() == Ok(expected)).then_some(())?;
    }
    let numbers = schema_versions
        .clone()
        .try_fold(0, |numbers, schema_version| {
            schema_version.parse::<u32>().is_ok().then_some(numbers + 1)
        })?;
    let is_whole = (expected - version.get()) as usize == count && numbers == count;
    is_whole.then_some(Views {
        version: version.get(),
        left: count,
        until: Version::new(expected),
        event_types: frame.pieces("event_types", count)?,
        schema_versions,
        data: frame.pieces("data", count)?,
    })
}

/// The events of a page, borrowed from its row.
pub(super) struct Views<'r> {
    version: u32,
    left: usize,
    until: Version,
    event_types: Pieces<'r>,
    schema_versions: Pieces<'r>,
    data: Pieces<'r>,
}

impl Views<'_> {
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// The version of the last of them.
    pub(super) fn until(&self) -> Version {
        self.until
    }
}

impl<'r> Iterator for Views<'r> {
    type Item = EventView<'r>;

    fn next(&mut self) -> Option<EventView<'r>> {
        self.left = self.left.checked_sub(1)?;
        self.version += 1;
        Some(EventView {
            version: Version::new(self.version),
            event_type: self.event_types.next()?,
            schema_version: self.schema_versions.next()?.parse().ok()?,
            data: self.data.next()?,
        })
    }
}

struct Frame<'r> {
    row: &'r SqliteRow,
}

type Pieces<'r> = std::str::Split<'r, char>;

impl<'r> Frame<'r> {
    /// How many events the page has, if all of its texts are texts.
    fn count(&self) -> Option<usize> {
        let blobs: f64 = self.row.try_get("blobs").ok()?;
        let count: i64 = self.row.try_get("count").ok()?;
        (blobs == 0.0).then_some(usize::try_from(count).ok()?)
    }

    /// Of an empty page the text is NULL.
    fn text(&self, column: &str) -> Option<&'r str> {
        let text: Option<&str> = self.row.try_get(column).ok()?;
        Some(text.unwrap_or_default())
    }

    /// Numbers and times: what is not one fails later.
    fn words(&self, column: &str) -> Option<Pieces<'r>> {
        Some(self.text(column)?.split(' '))
    }

    /// Any texts, if there is one for each event: NULL would be missing, and one with a separator
    /// inside would be two.
    fn pieces(&self, column: &str, count: usize) -> Option<Pieces<'r>> {
        let text = self.text(column)?;
        let separators = text.bytes().filter(|byte| *byte == SEPARATOR as u8).count();
        (count == 0 || separators + 1 == count).then(|| text.split(SEPARATOR))
    }

    fn ids(&self, column: &str) -> Option<Ids<'r>> {
        Some(Ids(self.text(column)?))
    }
}

/// Ids of 32 digits, one after another.
struct Ids<'r>(&'r str);

impl Ids<'_> {
    fn next(&mut self) -> Option<Uuid> {
        let (id, rest) = self.0.split_at_checked(32)?;
        self.0 = rest;
        Uuid::try_parse(id).ok()
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names come again and again: the text is copied once.
#[derive(Default)]
struct Repeated(Option<Name>);

impl Repeated {
    fn name(&mut self, text: &str) -> Name {
        match &self.0 {
            Some(name) if *name == *text => name.clone(),
            _ => self.0.insert(Name::from(text.to_owned())).clone(),
        }
    }
}

/// All events of an append have the same time: it is read once.
fn time<'r>(text: &'r str, last: &mut (&'r str, DateTime<Utc>)) -> Option<DateTime<Utc>> {
    if text != last.0 {
        *last = (text, DateTime::parse_from_rfc3339(text).ok()?.to_utc());
    }
    Some(last.1)
}

fn described(metadata: &str) -> Option<Metadata> {
    match metadata.strip_prefix('+') {
        None => Some(Metadata::default()),
        Some(metadata) => serde_json::from_str(metadata).ok(),
    }
}
