//! Faults of snapshots and visits.

use super::Caught;
use crate::fault::Fault;

pub(crate) const CASES: Caught = &[
    (
        Fault::FindsTooNewASnapshot,
        &[
            "snapshot::the_newest_at_or_below_is_found",
            "snapshot::the_same_version_is_replaced",
        ],
    ),
    (
        Fault::FindsTheSnapshotOfAnother,
        &[
            "snapshot::an_unknown_stream_has_no_snapshot",
            "snapshot::each_stream_has_its_own_snapshots",
        ],
    ),
    (
        Fault::RewritesTheState,
        &[
            "snapshot::the_example_of_the_specification_is_kept",
            "snapshot::a_snapshot_is_kept_whole",
        ],
    ),
    (Fault::VisitsOnePage, &["visit::a_visit_crosses_pages"]),
    (
        Fault::VisitsToTheEnd,
        &["visit::a_visit_shows_what_is_read"],
    ),
    (
        Fault::OffersUnasked,
        &["visit::a_snapshot_is_offered_only_when_asked_for"],
    ),
    (
        Fault::OffersTooNewASnapshot,
        &["visit::the_newest_snapshot_of_the_range_is_offered"],
    ),
    (
        Fault::OffersASnapshotAheadOfItsStream,
        &["visit::a_snapshot_ahead_of_its_stream_is_not_offered"],
    ),
    (
        Fault::BelievesForTheVisitor,
        &[
            "visit::a_snapshot_is_offered_only_when_asked_for",
            "visit::the_newest_snapshot_of_the_range_is_offered",
        ],
    ),
    (
        Fault::RepeatsWhatTheSnapshotHas,
        &["visit::after_a_believed_snapshot_only_later_events_follow"],
    ),
    (Fault::IgnoresTheBreak, &["visit::a_break_ends_the_visit"]),
];
