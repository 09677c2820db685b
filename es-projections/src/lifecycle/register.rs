//! A daemon starts a version of a projection.

use es_core::{Lifecycle, ProjectionId, Shard, Standing};

use super::{Change, CommandError, MAX_SHARDS, in_charge, rows_of, version};

/// What a program says of a projection that it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registration<'a> {
    /// Which.
    pub(crate) id: &'a ProjectionId,
    /// What it wants.
    pub(crate) event_types: &'a [&'a str],
    /// Into how many parts it is divided at its first start; afterwards see [`reshard`](super::reshard).
    pub(crate) shards: u32,
    /// Whether events may be applied a second time.
    pub(crate) repeatable: bool,
    /// Whether it takes over by itself, as decided at its first start; afterwards that is up to people.
    pub(crate) promote: bool,
    /// Whether this start is taken as the repair of what had failed.
    pub(crate) resume_failed: bool,
}

/// Makes a version known at its first start. What is stored is otherwise the truth: position, division,
/// what people decided.
///
/// Other event types under the same version are refused here, so that the old programs of a rolling
/// deployment go on: a failure at work would be written down for them, too.
pub(crate) fn register(
    standings: &[Standing],
    registration: Registration<'_>,
) -> Result<Change, CommandError> {
    let Registration { id, shards, .. } = registration;
    if shards == 0 || shards > MAX_SHARDS {
        return Err(CommandError::Shards {
            projection: id.clone(),
            shards,
        });
    }
    let mut after = standings.to_vec();
    match version(standings, id) {
        Ok(rows) => {
            for row in rows {
                row.check_event_types(registration.event_types)?;
            }
            start_again(&mut after, registration);
        }
        Err(CommandError::Unknown { .. }) => after.extend(first_rows(standings, registration)),
        Err(error) => return Err(error),
    }
    Ok(Change::between(standings, after))
}

fn start_again(standings: &mut [Standing], registration: Registration<'_>) {
    for row in rows_of(standings, registration.id) {
        row.repeatable = registration.repeatable;
        if registration.resume_failed && row.lifecycle == Lifecycle::Failed {
            row.lifecycle = row.before;
            row.failure = None;
        }
    }
}

fn first_rows(standings: &[Standing], registration: Registration<'_>) -> Vec<Standing> {
    let Registration { id, shards, .. } = registration;
    let ahead = standings
        .iter()
        .filter(|row| row.active || in_charge(standings) == Some(&row.shard.projection))
        .map(|row| row.shard.projection.version)
        .max();
    let (lifecycle, before, active) = match ahead {
        None => (Lifecycle::Running, Lifecycle::Running, true),
        Some(ahead) if id.version > ahead => (Lifecycle::Rebuilding, Lifecycle::Rebuilding, false),
        // An old program beside a new one must not take anything over.
        Some(_) => (Lifecycle::Retired, Lifecycle::Rebuilding, false),
    };
    (0..shards)
        .map(|index| Standing {
            repeatable: registration.repeatable,
            lifecycle,
            before,
            active,
            promote: registration.promote,
            ..Standing::new(
                Shard::new(id.clone(), index),
                shards,
                registration.event_types,
            )
        })
        .collect()
}
