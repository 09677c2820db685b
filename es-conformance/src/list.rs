//! The one list of all checks. The macro and [`checks`] are both made from it.

use crate::{Check, Store};

/// Calls a macro with the arguments given and the list of all checks, by module.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_check {
    ([$($callback:tt)*] $($argument:tt)*) => {
        $($callback)*! {
            $($argument)*
            append {
                an_empty_append_is_invalid
                a_batch_with_the_same_id_twice_is_refused
                versions_count_from_one_without_holes
                any_accepts_every_version
                no_stream_accepts_only_an_empty_stream
                stream_exists_accepts_only_a_stream_with_events
                exact_accepts_only_that_version
                a_conflict_tells_the_truth_in_one_sentence
                an_aggregate_id_belongs_to_one_type
                an_event_id_of_another_stream_is_refused
                a_conflict_comes_before_a_taken_id
                of_racing_writers_with_one_expected_version_one_wins
                racing_writers_that_accept_any_version_all_succeed
                a_large_append_is_read_back_in_pages
                event_data_is_kept_verbatim
                metadata_and_schema_version_are_kept
            }
            names {
                names_may_have_255_bytes
                empty_and_longer_names_are_invalid
                names_of_the_store_itself_are_invalid
            }
            append_all {
                an_empty_list_has_an_empty_answer
                each_stream_gets_its_events_and_its_answer
                each_append_has_its_own_expected_version
                one_conflict_records_nothing_of_any
                one_refusal_records_nothing_of_any
                a_stream_that_occurs_twice_is_refused
                an_id_that_occurs_twice_is_refused
                repeated_as_a_whole_it_returns_the_first_answers
                a_mix_of_repeated_and_new_is_refused
                crossing_writers_never_record_half
            }
            idempotency {
                a_repeated_append_returns_the_first_result
                an_append_can_be_repeated_after_later_ones
                racing_repetitions_record_once
                the_same_ids_at_another_version_are_no_repetition
                a_partial_overlap_is_refused
                old_ids_in_another_order_are_refused
                ids_of_two_streams_are_refused
                a_repetition_never_changes_what_is_stored
            }
            cancellation {
                an_append_dropped_after_any_poll_is_whole_or_absent
                an_append_dropped_after_any_time_is_whole_or_absent
                an_append_all_dropped_after_any_poll_is_whole_or_absent
                an_append_all_dropped_after_any_time_is_whole_or_absent
                an_erasure_dropped_after_any_poll_is_whole_or_absent
                an_erasure_dropped_after_any_time_is_whole_or_absent
                an_aborted_writer_leaves_whole_appends
                a_dropped_append_does_not_hold_the_log_back
            }
            read {
                a_missing_stream_is_empty
                a_read_starts_after_the_version_given
                a_read_is_limited
                a_stream_holds_its_own_events_only
                another_type_with_the_same_id_is_empty
                a_recorded_event_is_complete
                an_acknowledged_append_can_be_read_at_once
            }
            log {
                the_log_is_read_in_pages_of_any_size
                a_filter_lets_through_the_types_it_names
                a_full_page_covers_up_to_its_last_event
                a_short_page_covers_no_more_than_is_settled
                covered_is_never_below_after
                a_page_starts_after_the_position_given
                a_sparse_filter_still_covers_the_log
                a_filter_without_types_finds_nothing
                a_page_of_no_events_covers_nothing
                an_empty_log_is_an_empty_page
                the_log_and_the_stream_tell_the_same
            }
            order {
                positions_rise_with_versions
                a_later_append_has_a_higher_position
                created_at_does_not_fall_in_a_stream
                nothing_appears_late
                an_acknowledged_append_settles
                the_settled_horizon_never_falls
                waiting_ends_with_an_append_of_another_handle
                waiting_for_what_is_there_ends_at_once
                a_dropped_wait_leaves_the_store_usable
                refused_appends_leave_no_trace_in_the_log
            }
            scan {
                a_scan_finds_one_type
                a_scan_reads_each_event_once
                a_scan_starts_with_the_time_given
                a_scan_ends_before_the_time_given
                a_scan_keeps_to_its_range
                a_scan_tells_equal_times_apart
                a_scan_of_no_events_is_empty
            }
            snapshot {
                an_unknown_stream_has_no_snapshot
                the_newest_at_or_below_is_found
                the_same_version_is_replaced
                each_stream_has_its_own_snapshots
                the_example_of_the_specification_is_kept
                a_snapshot_is_kept_whole
            }
            visit {
                a_visit_shows_what_is_read
                a_visit_crosses_pages
                a_snapshot_is_offered_only_when_asked_for
                the_newest_snapshot_of_the_range_is_offered
                after_a_believed_snapshot_only_later_events_follow
                a_snapshot_ahead_of_its_stream_is_not_offered
                a_break_ends_the_visit
                an_unknown_stream_shows_nothing
            }
            erasure {
                payloads_and_metadata_are_gone
                the_places_and_names_stay
                the_tombstone_comes_last_and_behind_every_reader
                snapshots_go_and_stay_away
                an_erased_stream_takes_no_more_events
                an_append_before_it_can_be_repeated
                the_ids_stay_taken
                a_second_erasure_returns_the_first_answer
                an_unknown_stream_is_not_found
                other_streams_are_untouched
                racing_erasures_and_appends_leave_one_tombstone
            }
            horizon {
                the_horizon_of_an_empty_log_is_its_start
                nothing_is_settled_above_the_end
                a_settled_append_is_reached_by_both
            }
            nodes {
                a_beat_announces_the_node
                living_nodes_see_each_other
                a_beat_tells_where_everything_stands
                a_silent_node_is_no_longer_seen
                a_node_that_stops_beating_loses_its_shards_after_its_time_and_not_before
                a_claim_that_was_taken_over_is_fenced
                a_node_that_slept_goes_on_if_nobody_took_over
                a_node_that_beats_keeps_its_shards
                a_node_that_leaves_frees_its_shards_at_once
                leaving_again_changes_nothing
                only_a_living_node_may_run_a_shard
                a_beat_does_not_wait_for_an_open_batch
                a_long_batch_does_not_lose_the_shard
            }
            acquire {
                a_claim_tells_where_the_shard_stands
                an_unknown_shard_is_refused
                only_what_is_meant_to_run_is_given
                what_runs_inside_the_appends_is_refused
                a_held_shard_is_not_given_to_another
                of_racing_nodes_one_gets_the_shard
                the_epoch_rises_with_each_acquire
                a_released_shard_goes_to_another_with_a_higher_epoch
                a_released_claim_is_fenced
                an_old_claim_does_not_release_the_new_one
                a_shard_with_an_open_batch_is_not_given_to_another
                shards_move_independently
            }
            checkpoint {
                a_projection_that_never_ran_has_no_checkpoint
                a_new_projection_stands_where_it_was_put
                a_committed_batch_moves_the_checkpoint
                a_batch_changes_nothing_but_the_position
                a_batch_rolled_back_keeps_nothing
                a_dropped_batch_keeps_nothing
                a_claim_used_twice_is_fenced
                a_claim_of_another_is_fenced
                of_racing_batches_with_one_claim_one_is_kept
                a_batch_may_stay_where_it_is
                a_batch_that_stays_holds_the_shard
                each_version_has_its_own_checkpoint
                the_slowest_shard_says_where_a_projection_stands
                other_event_types_are_refused
                a_checkpoint_ahead_of_the_log_is_refused
                a_checkpoint_of_another_history_is_refused
                a_checkpoint_of_this_history_goes_on
            }
            standings {
                everything_of_a_standing_comes_back
                each_lifecycle_comes_back
                standings_come_in_order
                one_name_means_every_version_of_it
                what_runs_inside_the_appends_stands_at_the_end
            }
            change {
                a_change_shows_every_version_and_shard
                a_change_puts_the_first_standings
                standings_are_overwritten
                a_standing_gets_a_higher_epoch_and_no_owner
                a_change_fences_the_owner
                a_change_that_puts_nothing_fences_nobody
                removed_standings_are_gone
                a_change_that_is_not_committed_keeps_nothing
                a_change_is_seen_once_it_is_committed
                a_change_waits_for_an_open_batch_and_sees_its_checkpoint
                no_batch_begins_while_a_change_is_open
                nobody_acquires_while_a_change_is_open
                changes_of_one_name_are_serial
                a_batch_puts_standings_with_its_checkpoint
            }
            letters {
                a_letter_comes_back_as_it_was_put
                letters_come_by_position_then_by_projection
                each_criterion_leaves_out_what_it_does_not_name
                letters_are_read_in_pages
                a_letter_put_again_keeps_its_time
                parked_aggregates_are_listed_by_id
                a_retry_is_asked_for_of_parked_letters
                letters_are_removed_by_event_or_all
                letters_are_seen_with_the_commit_of_their_batch
                a_batch_that_is_not_committed_keeps_no_letters
                letters_go_with_the_last_standing
            }
        }
    };
}

/// Tests a store against the whole contract: one `#[test]` for each check, named after it, in a
/// module for each part, each on a fresh store.
///
/// The expression is a future of a [`Store`]; names of the surrounding module may be used in it.
/// A test fails if the check panics or takes longer than [`TIME_LIMIT`](crate::TIME_LIMIT).
///
/// ```
/// mod memory {
///     use es_core::MemoryStore;
///
///     es_conformance::store_tests!(async { MemoryStore::new() });
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! store_tests {
    ($store:expr $(,)?) => {
        /// A store that nobody has used.
        #[cfg(test)]
        async fn fresh_store() -> impl $crate::Store {
            $store.await
        }

        $crate::for_each_check! { [$crate::__store_tests] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_tests {
    ($($module:ident { $($check:ident)* })*) => {$(
        #[cfg(test)]
        mod $module {$(
            #[test]
            fn $check() {
                $crate::test(
                    concat!(stringify!($module), "::", stringify!($check)),
                    super::fresh_store(),
                    |store| async move { $crate::$module::$check(&store).await },
                );
            }
        )*}
    )*};
}

macro_rules! list {
    ($($module:ident { $($check:ident)* })*) => {
        /// All checks, for those who want to run them one by one or to see them fail.
        #[must_use]
        pub fn checks<S: Store>() -> Vec<Check<S>> {
            vec![$($(
                Check {
                    name: concat!(stringify!($module), "::", stringify!($check)),
                    run: |store: S| Box::pin(async move { crate::$module::$check(&store).await }),
                },
            )*)*]
        }

        /// Each module of checks with its source text.
        #[cfg(test)]
        const SOURCES: &[(&str, &str)] = &[$(
            (stringify!($module), include_str!(concat!(stringify!($module), ".rs"))),
        )*];
    };
}

for_each_check! { [list] }

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use es_core::MemoryStore;

    use super::{SOURCES, checks};

    #[test]
    fn every_check_is_in_the_list() {
        let mut written = BTreeSet::new();
        for (module, source) in SOURCES {
            for line in source.lines() {
                if let Some(rest) = line.strip_prefix("pub async fn ") {
                    let name = rest.split(['<', '(']).next().expect("a name");
                    written.insert(format!("{module}::{name}"));
                }
            }
        }
        let listed: BTreeSet<_> = checks::<MemoryStore>()
            .iter()
            .map(|check| check.name().to_owned())
            .collect();

        assert_eq!(
            written, listed,
            "the checks written and the list in list.rs"
        );
    }
}
