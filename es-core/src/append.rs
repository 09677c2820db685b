//! What every backend refuses before it touches its storage.

use std::collections::HashSet;

use crate::{AppendError, NewEvent, StreamId};

/// The longest stored name in bytes, as the tables have it.
const NAME_BYTES_MAX: usize = 255;

/// Checks an append on its own: for backends, as their first step.
///
/// # Errors
///
/// [`AppendError::Invalid`] for an append without events, a name that is empty, longer than 255
/// bytes or holds a NUL, or a schema version of 0; [`AppendError::DuplicateId`] if an id occurs
/// twice.
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
    None
}
