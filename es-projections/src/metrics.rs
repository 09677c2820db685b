//! What is told to the program's `metrics` recorder, if it has installed one. All names begin with
//! `es_projection_`; each carries the label `projection`.

use es_core::ProjectionId;
use metrics::{counter, gauge, histogram};

use crate::Status;

/// Events applied and committed.
pub(crate) fn applied(projection: &ProjectionId, events: usize) {
    counter!("es_projection_events_total", "projection" => projection.to_string())
        .increment(events as u64);
}

/// Errors, also those after which it went on.
pub(crate) fn error(projection: &ProjectionId) {
    counter!("es_projection_errors_total", "projection" => projection.to_string()).increment(1);
}

/// How long a batch took from its first statement to the acknowledged commit.
pub(crate) fn batch(projection: &ProjectionId, time: std::time::Duration) {
    histogram!("es_projection_batch_seconds", "projection" => projection.to_string()).record(time);
}

/// What only makes sense at one moment.
pub(crate) fn status(status: &Status) {
    let name = status.projection.to_string();
    gauge!("es_projection_position", "projection" => name.clone())
        .set(float(status.position.get()));
    gauge!("es_projection_head", "projection" => name.clone()).set(float(status.head.get()));
    gauge!("es_projection_lag", "projection" => name.clone()).set(float(status.lag()));
    gauge!("es_projection_parked", "projection" => name.clone()).set(float(status.parked as u64));
    if let Some(behind) = status.behind {
        gauge!("es_projection_behind_seconds", "projection" => name.clone()).set(behind);
    }
    let failed = if status.failure.is_some() { 1.0 } else { 0.0 };
    gauge!("es_projection_failed", "projection" => name).set(failed);
    if let Some(blocker) = &status.blocker {
        gauge!("es_projection_horizon_blocked_seconds").set(blocker.age);
    } else {
        gauge!("es_projection_horizon_blocked_seconds").set(0.0);
    }
}

/// Exact up to 2^53: gauges are floats.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn float(number: u64) -> f64 {
    number as f64
}
