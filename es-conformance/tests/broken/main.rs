//! Each check is worth something only if it fails where its mechanism is taken out: stores broken
//! on purpose, and the checks that must see it.

mod store;

use std::time::Duration;

use es_conformance::{Check, checks};

use self::store::{Fault, FaultyStore};

const LIMIT: Duration = Duration::from_secs(30);

fn find(name: &str) -> Check<FaultyStore> {
    checks()
        .into_iter()
        .find(|check| check.name() == name)
        .unwrap_or_else(|| panic!("there is no check `{name}`"))
}

/// Each of the checks must fail on a store with this fault.
async fn caught(fault: Fault, names: &[&str]) {
    for name in names {
        match find(name).run(FaultyStore::new(fault), LIMIT).await {
            Ok(()) => panic!("`{name}` passes on a store that is broken: {fault:?}"),
            Err(failure) => println!("{fault:?}: {name}: {failure}"),
        }
    }
}

#[tokio::test]
async fn the_unbroken_wrapper_passes_all() {
    for check in checks::<FaultyStore>() {
        let outcome = check.run(FaultyStore::new(Fault::None), LIMIT).await;
        assert!(outcome.is_ok(), "{}: {outcome:?}", check.name());
    }
}

#[tokio::test]
async fn a_store_that_ignores_the_expected_version_is_caught() {
    caught(
        Fault::IgnoresExpectedVersion,
        &[
            "append::no_stream_accepts_only_an_empty_stream",
            "append::stream_exists_accepts_only_a_stream_with_events",
            "append::exact_accepts_only_that_version",
            "append::a_conflict_tells_the_truth_in_one_sentence",
            "append::of_racing_writers_with_one_expected_version_one_wins",
            "idempotency::the_same_ids_at_another_version_are_no_repetition",
            "order::refused_appends_leave_no_trace_in_the_log",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_whose_events_appear_late_is_caught() {
    caught(Fault::ShowsSomeEventsLate, &["order::nothing_appears_late"]).await;
}

#[tokio::test]
async fn a_store_that_appends_half_is_caught() {
    caught(
        Fault::AppendsHalf,
        &[
            "append::versions_count_from_one_without_holes",
            "append::racing_writers_that_accept_any_version_all_succeed",
            "append::a_large_append_is_read_back_in_pages",
            "append::event_data_is_kept_verbatim",
            "cancellation::an_append_dropped_after_any_poll_is_whole_or_absent",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_appends_in_two_steps_is_caught() {
    caught(
        Fault::AppendsInTwoSteps,
        &[
            "cancellation::an_append_dropped_after_any_poll_is_whole_or_absent",
            "cancellation::an_aborted_writer_leaves_whole_appends",
            "append::racing_writers_that_accept_any_version_all_succeed",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_forgets_ids_is_caught() {
    caught(
        Fault::ForgetsIds,
        &[
            "idempotency::a_repeated_append_returns_the_first_result",
            "idempotency::an_append_can_be_repeated_after_later_ones",
            "idempotency::racing_repetitions_record_once",
            "idempotency::a_partial_overlap_is_refused",
            "append::an_event_id_of_another_stream_is_refused",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_checks_the_version_before_the_ids_is_caught() {
    caught(
        Fault::ChecksTheVersionFirst,
        &[
            "idempotency::a_repeated_append_returns_the_first_result",
            "idempotency::an_append_can_be_repeated_after_later_ones",
            "idempotency::racing_repetitions_record_once",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_lies_in_a_conflict_is_caught() {
    caught(
        Fault::LiesInAConflict,
        &[
            "append::no_stream_accepts_only_an_empty_stream",
            "append::a_conflict_tells_the_truth_in_one_sentence",
            "append::of_racing_writers_with_one_expected_version_one_wins",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_changes_what_it_is_given_is_caught() {
    caught(
        Fault::RewritesTheContent,
        &["append::event_data_is_kept_verbatim"],
    )
    .await;
    caught(
        Fault::ForgetsTheMetadata,
        &["append::metadata_and_schema_version_are_kept"],
    )
    .await;
    caught(
        Fault::MendsNames,
        &["append::empty_and_longer_names_are_invalid"],
    )
    .await;
    caught(
        Fault::TakesEachWritersClock,
        &["order::created_at_does_not_fall_in_a_stream"],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_covers_more_than_it_read_is_caught() {
    caught(
        Fault::CoversMoreThanItRead,
        &[
            "log::a_full_page_covers_up_to_its_last_event",
            "log::the_log_is_read_in_pages_of_any_size",
            "order::nothing_appears_late",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_covers_more_than_is_settled_is_caught() {
    caught(
        Fault::CoversMoreThanIsSettled,
        &[
            "log::a_short_page_covers_no_more_than_is_settled",
            "order::nothing_appears_late",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_whose_sparse_filter_stands_still_is_caught() {
    caught(
        Fault::CoversOnlyWhatMatched,
        &[
            "log::a_sparse_filter_still_covers_the_log",
            "log::a_filter_without_types_finds_nothing",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_does_not_fence_is_caught() {
    caught(
        Fault::DoesNotFence,
        &[
            "checkpoint::an_ended_lease_is_taken_over_and_the_old_claim_is_fenced",
            "checkpoint::a_released_claim_is_fenced_once_another_has_it",
            "checkpoint::a_claim_used_twice_is_fenced",
            "checkpoint::of_racing_batches_with_one_claim_one_is_kept",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_gives_a_held_projection_away_is_caught() {
    caught(
        Fault::IgnoresTheHolder,
        &[
            "checkpoint::a_held_projection_is_not_given_to_another",
            "checkpoint::of_racing_owners_one_gets_the_projection",
            "checkpoint::a_batch_renews_the_lease",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_forgets_the_anchor_is_caught() {
    caught(
        Fault::ForgetsTheAnchor,
        &["checkpoint::a_checkpoint_of_another_history_is_refused"],
    )
    .await;
}

#[tokio::test]
async fn a_store_with_a_careless_checkpoint_is_caught() {
    caught(
        Fault::MovesTheCheckpointBeforehand,
        &[
            "checkpoint::a_batch_rolled_back_keeps_nothing",
            "checkpoint::a_dropped_batch_keeps_nothing",
        ],
    )
    .await;
    caught(
        Fault::TakesTheLogsEnd,
        &["checkpoint::a_checkpoint_ahead_of_the_log_is_refused"],
    )
    .await;
    caught(
        Fault::IgnoresTheProjectionsVersion,
        &["checkpoint::each_version_has_its_own_checkpoint"],
    )
    .await;
    caught(
        Fault::IgnoresTheEventTypes,
        &["checkpoint::other_event_types_are_refused"],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_hangs_is_caught_by_time() {
    for (fault, name) in [
        (
            Fault::NeverWakes,
            "order::waiting_for_what_is_there_ends_at_once",
        ),
        (
            Fault::NeverWakes,
            "order::waiting_ends_with_an_append_of_another_handle",
        ),
        (Fault::NeverSettles, "order::an_acknowledged_append_settles"),
        (
            Fault::NeverSettles,
            "cancellation::a_dropped_append_does_not_hold_the_log_back",
        ),
    ] {
        let check = find(name);
        let short = Duration::from_millis(200);
        let outcome = check.run(FaultyStore::new(fault), short).await;

        let failure = outcome.expect_err("a hang is a failure");
        assert_eq!(failure.to_string(), "did not end within 200ms", "{name}");
    }
}

#[tokio::test]
async fn a_store_with_a_careless_scan_is_caught() {
    caught(
        Fault::ScansToTheEndInclusive,
        &[
            "scan::a_scan_ends_before_the_time_given",
            "scan::a_scan_keeps_to_its_range",
        ],
    )
    .await;
    caught(
        Fault::ScansByTimeOnly,
        &["scan::a_scan_tells_equal_times_apart"],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_finds_too_new_a_snapshot_is_caught() {
    caught(
        Fault::FindsTooNewASnapshot,
        &[
            "snapshot::the_newest_at_or_below_is_found",
            "snapshot::the_same_version_is_replaced",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_changes_a_snapshot_is_caught() {
    caught(
        Fault::RewritesTheState,
        &[
            "snapshot::the_example_of_the_specification_is_kept",
            "snapshot::a_snapshot_is_kept_whole",
        ],
    )
    .await;
}
