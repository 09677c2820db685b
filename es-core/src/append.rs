//! Appends, and what every backend refuses before it touches its storage.

use std::collections::HashSet;

use uuid::Uuid;

use crate::{AppendError, ExpectedVersion, NewEvent, StreamId, erasure::ERASED};

/// The longest stored name in bytes, as the tables have it.
const NAME_BYTES_MAX: usize = 255;

/// Names that begin with it are the store's own.
const RESERVED: char = '$';

/// Events for one stream, and what is expected of it: one part of
/// [`EventStore::append_all`](crate::EventStore::append_all).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// Where the caller expects it to be.
    pub expected: ExpectedVersion,
    /// What is added to its end.
    pub events: Vec<NewEvent>,
}

impl Append {
    /// Events for the end of `stream`.
    #[must_use]
    pub fn new(stream: StreamId, expected: ExpectedVersion, events: Vec<NewEvent>) -> Self {
        Self {
            stream,
            expected,
            events,
        }
    }
}

/// Checks an append on its own: for backends, as their first step.
///
/// # Errors
///
/// [`AppendError::Invalid`] for an append without events, a name that is empty, longer than 255
/// bytes, holds a NUL or begins with `$`, a schema version of 0, or the marker of erased content; [`AppendError::DuplicateId`] if
/// an id occurs twice.
pub fn check(stream: &StreamId, events: &[NewEvent]) -> Result<(), AppendError> {
    let invalid = |reason| {
        Err(AppendError::Invalid {
            stream: stream.clone(),
            reason,
        })
    };
    if events.is_empty() {
        return invalid("it has no events; append at least one".to_owned());
    }
    if let Some(problem) = name_problem("aggregate type", &stream.aggregate_type) {
        return invalid(problem);
    }
    let mut ids = HashSet::with_capacity(events.len());
    for event in events {
        if let Some(problem) = name_problem("event type", &event.event_type) {
            return invalid(problem);
        }
        if event.event_data.as_str() == ERASED {
            return invalid(format!(
                "the content of `{}` is what stands in the place of erased content; give it another shape",
                event.event_type
            ));
        }
        if event.schema_version == 0 || i32::try_from(event.schema_version).is_err() {
            return invalid(format!(
                "schema version {} of `{}` is out of range; count from 1",
                event.schema_version, event.event_type
            ));
        }
        if !ids.insert(event.event_id) {
            return Err(AppendError::DuplicateId {
                stream: stream.clone(),
                event_id: event.event_id,
            });
        }
    }
    Ok(())
}

/// Checks appends that are to be recorded together: for backends, as their first step.
///
/// # Errors
///
/// As [`check`] for each of them; also [`AppendError::Invalid`] for a stream, and
/// [`AppendError::DuplicateId`] for an event id, that occurs in two of them.
pub fn check_all(appends: &[Append]) -> Result<(), AppendError> {
    let mut streams = HashSet::with_capacity(appends.len());
    let mut ids: HashSet<Uuid> = HashSet::new();
    for Append { stream, events, .. } in appends {
        check(stream, events)?;
        if !streams.insert(stream.aggregate_id) {
            return Err(AppendError::Invalid {
                stream: stream.clone(),
                reason: "it occurs twice in one call; put its events together".to_owned(),
            });
        }
        if let Some(event) = events.iter().find(|event| !ids.insert(event.event_id)) {
            return Err(AppendError::DuplicateId {
                stream: stream.clone(),
                event_id: event.event_id,
            });
        }
    }
    Ok(())
}

fn name_problem(what: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("its {what} is empty; name it"));
    }
    if name.len() > NAME_BYTES_MAX {
        let bytes = name.len();
        return Some(format!(
            "its {what} has {bytes} bytes; use at most {NAME_BYTES_MAX}"
        ));
    }
    if name.contains('\0') {
        return Some(format!("its {what} holds a NUL character; remove it"));
    }
    if name.starts_with(RESERVED) {
        return Some(format!(
            "its {what} begins with `{RESERVED}`, which the store keeps for itself; rename it"
        ));
    }
    None
}
