//! Faults of appends to several streams.

use super::Caught;
use crate::fault::Fault;

pub(crate) const CASES: Caught = &[
    (
        Fault::AppendsStreamsOneByOne,
        &[
            "append_all::one_conflict_records_nothing_of_any",
            "append_all::one_refusal_records_nothing_of_any",
            "append_all::a_stream_that_occurs_twice_is_refused",
            "append_all::an_id_that_occurs_twice_is_refused",
            "append_all::a_mix_of_repeated_and_new_is_refused",
            "append_all::crossing_writers_never_record_half",
            "cancellation::an_append_all_dropped_after_any_poll_is_whole_or_absent",
            "cancellation::an_append_all_dropped_after_any_time_is_whole_or_absent",
        ],
    ),
    (
        Fault::ExpectsTheSameOfAllStreams,
        &["append_all::each_append_has_its_own_expected_version"],
    ),
    (
        Fault::AnswersBackwards,
        &["append_all::each_stream_gets_its_events_and_its_answer"],
    ),
    (
        Fault::RefusesAnEmptyList,
        &["append_all::an_empty_list_has_an_empty_answer"],
    ),
    (
        Fault::BlamesTheFirstStream,
        &[
            "append_all::one_conflict_records_nothing_of_any",
            "append_all::one_refusal_records_nothing_of_any",
            "append_all::an_id_that_occurs_twice_is_refused",
            "erasure::an_erased_stream_takes_no_more_events",
        ],
    ),
    (
        Fault::ForgetsRepetitionsOfSeveral,
        &[
            "append_all::repeated_as_a_whole_it_returns_the_first_answers",
            "append_all::a_mix_of_repeated_and_new_is_refused",
            "erasure::an_append_before_it_can_be_repeated",
        ],
    ),
];
