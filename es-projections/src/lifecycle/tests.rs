//! Single decisions, where the random world does not look.

use es_core::{CheckpointError, Failure, FailureKind, Marks, Position};
use uuid::Uuid;

use super::*;

fn id(version: u32) -> ProjectionId {
    ProjectionId::new("rooms", version)
}

fn at(position: u64) -> Position {
    Position::new(position)
}

fn start(standings: &[Standing], version: u32, shards: u32) -> Result<Change, CommandError> {
    let registration = Registration {
        id: &id(version),
        event_types: &["b", "a"],
        shards,
        repeatable: false,
        promote: true,
        resume_failed: true,
    };
    register(standings, registration)
}

/// Version 1 in as many parts as there are positions, active and running.
fn running(positions: &[u64]) -> Vec<Standing> {
    let shards = u32::try_from(positions.len()).unwrap();
    let mut rows = start(&[], 1, shards).unwrap().put;
    for (row, position) in rows.iter_mut().zip(positions) {
        row.position = at(*position);
        row.anchor = Some((row.position, Uuid::from_u128(1)));
        row.epoch = 5;
    }
    rows
}

/// The same, and version 2 in one part beside it.
fn with_heir(positions: &[u64], heir: u64) -> Vec<Standing> {
    let mut rows = running(positions);
    let mut second = start(&rows, 2, 1).unwrap().put;
    second[0].position = at(heir);
    rows.append(&mut second);
    rows
}

/// As the store does it, without the epochs.
fn after(rows: &[Standing], change: Change) -> Vec<Standing> {
    let mut rows = rows.to_vec();
    rows.retain(|row| {
        !change.remove.contains(&row.shard) && change.put.iter().all(|new| new.shard != row.shard)
    });
    rows.extend(change.put);
    rows.sort_by(|a, b| a.shard.cmp(&b.shard));
    rows
}

fn states(rows: &[Standing]) -> Vec<Lifecycle> {
    rows.iter().map(|row| row.lifecycle).collect()
}

fn broken() -> Failure {
    Failure::new(FailureKind::Handler, "broken")
}

#[test]
fn a_first_start_runs_a_newer_version_is_built_beside_it_an_older_one_is_not_wanted() {
    let mut rows = start(&[], 2, 2).unwrap().put;
    assert_eq!(states(&rows), [Lifecycle::Running; 2]);
    assert!(
        rows.iter()
            .all(|row| row.active && row.event_types == ["a", "b"])
    );

    rows = after(&rows, start(&rows, 3, 1).unwrap());
    rows = after(&rows, start(&rows, 1, 1).unwrap());
    let [old, _, _, new] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!((old.lifecycle, old.active), (Lifecycle::Retired, false));
    assert_eq!((new.lifecycle, new.active), (Lifecycle::Rebuilding, false));
}

/// Seen to fail when the division or `promote` is taken from the program again.
#[test]
fn what_is_stored_is_kept_at_the_next_start() {
    let mut rows = running(&[5, 7]);
    for row in &mut rows {
        row.promote = false;
    }
    assert!(start(&rows, 1, 8).unwrap().is_empty());

    let registration = Registration {
        id: &id(1),
        event_types: &["a", "b"],
        shards: 8,
        repeatable: true,
        promote: true,
        resume_failed: false,
    };
    rows = after(&rows, register(&rows, registration).unwrap());
    assert!(
        rows.iter()
            .all(|row| row.repeatable && !row.promote && row.shards == 2)
    );
}

/// Seen to fail when that is left to those who acquire a shard: the failure would be everybody's.
#[test]
fn other_event_types_under_the_same_version_change_nothing() {
    let rows = running(&[5]);
    let registration = Registration {
        id: &id(1),
        event_types: &["a", "c"],
        shards: 1,
        repeatable: false,
        promote: true,
        resume_failed: true,
    };
    let refused = register(&rows, registration);
    assert!(
        matches!(
            refused,
            Err(CommandError::Store(CheckpointError::OtherEventTypes { .. }))
        ),
        "{refused:?}"
    );
}

/// Seen to fail when the epoch is not asked.
#[test]
fn only_the_owner_at_work_can_fail_a_shard_and_a_start_repairs_it() {
    let mut rows = running(&[5, 7]);
    let shard = rows[1].shard.clone();
    assert!(fail(&rows, &shard, 4, broken()).is_empty());
    rows = after(&rows, fail(&rows, &shard, 5, broken()));
    assert_eq!(states(&rows), [Lifecycle::Running, Lifecycle::Failed]);
    assert_eq!(rows[1].failure, Some(broken()));
    assert!(
        fail(&rows, &shard, 5, broken()).is_empty(),
        "it has stopped already"
    );

    rows = after(&rows, start(&rows, 1, 2).unwrap());
    assert_eq!(rows, running(&[5, 7]));
}

#[test]
fn pausing_twice_is_pausing_once_and_resuming_brings_back_what_was() {
    let before = with_heir(&[5, 7], 3);
    let mut rows = before.clone();
    for version in [1, 2] {
        rows = after(&rows, pause(&rows, &id(version)).unwrap());
        assert!(pause(&rows, &id(version)).unwrap().is_empty());
        rows = after(&rows, detach(&rows, &id(version)).unwrap());
    }
    assert_eq!(states(&rows), [Lifecycle::Detached; 3]);
    for version in [1, 2] {
        rows = after(&rows, resume(&rows, &id(version)).unwrap());
        assert!(resume(&rows, &id(version)).unwrap().is_empty());
    }
    for (row, before) in rows.iter().zip(&before) {
        assert_eq!(
            (row.lifecycle, row.position),
            (before.lifecycle, before.position)
        );
    }
}

/// Seen to fail when the old version keeps `promote` on its way back.
#[test]
fn the_way_there_and_back() {
    let mut rows = with_heir(&[10, 20], 10);
    assert_eq!(ceiling(&rows, &id(2)), Some(at(10)));
    rows = after(&rows, hand_over(&rows, &id(2), 0).unwrap());
    assert_eq!(rows[2].silent, Marks::new([at(10), at(20)]));
    assert!(matches!(
        activate(&rows, &id(2)),
        Err(CommandError::Behind { .. })
    ));
    rows[2].position = at(20);
    rows = after(&rows, activate(&rows, &id(2)).unwrap());
    assert_eq!(
        states(&rows),
        [Lifecycle::Retired, Lifecycle::Retired, Lifecycle::Running]
    );

    rows = after(&rows, resume(&rows, &id(1)).unwrap());
    assert_eq!(states(&rows)[0], Lifecycle::Rebuilding);
    assert!(matches!(
        hand_over(&rows, &id(1), 10),
        Err(CommandError::NotPromoted { .. })
    ));
    rows = after(&rows, promote(&rows, &id(1)).unwrap());
    rows = after(&rows, hand_over(&rows, &id(1), 10).unwrap());
    // A part of the whole has a single mark.
    assert!(
        rows[..2]
            .iter()
            .all(|row| row.silent == Marks::new([at(20)]))
    );
}

/// Seen to fail when the overtaken version keeps `promote`: the two would take turns.
#[test]
fn a_version_that_was_overtaken_does_not_take_over_by_itself() {
    let mut rows = with_heir(&[0], 0);
    rows = after(&rows, start(&rows, 3, 1).unwrap());
    rows = after(&rows, hand_over(&rows, &id(3), 0).unwrap());
    assert!(matches!(
        hand_over(&rows, &id(2), 0),
        Err(CommandError::NotPromoted { .. })
    ));
}

/// Seen to fail when only the heir's position is asked: what it has applied is not emitted by it later.
#[test]
fn an_heir_that_has_applied_what_nobody_emitted_has_to_wait() {
    let mut rows = with_heir(&[50], 40);
    rows[1].applied = Marks::new([at(40), at(60)]);
    let error = hand_over(&rows, &id(2), 10).unwrap_err();
    assert!(matches!(error, CommandError::Ahead { .. }) && error.is_retryable());
}

/// Seen to fail when the anchor is kept: `acquire` would take it for another log's.
#[test]
fn a_checkpoint_moves_only_where_it_may() {
    let rows = running(&[5, 7]);
    let refused = |to| {
        set_checkpoint(&rows, &id(1), at(to), at(9))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(10),
        "projection `rooms v1` cannot be moved to position 10: the log ends at 9"
    );
    assert_eq!(
        refused(6),
        "projection `rooms v1` has come to position 7; moved back to 6 it would apply events twice: declare it `repeatable`, or reset it, or raise its version"
    );
    let moved = set_checkpoint(&rows, &id(1), at(9), at(9)).unwrap().put;
    assert!(
        moved
            .iter()
            .all(|row| row.position == at(9) && row.anchor.is_none())
    );
    let again = reset(&rows, &id(1)).unwrap().put;
    assert!(
        again
            .iter()
            .all(|row| row.position == at(0) && row.anchor.is_none())
    );
    assert_eq!(again[1].silent, Marks::new([at(7)]));

    let mut owned = rows;
    owned[1].owner = Some(Uuid::nil());
    let error = reset(&owned, &id(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "projection `rooms v1` is being run by node 00000000-0000-0000-0000-000000000000; pause it first"
    );
}

/// Seen to fail when the failure is forgotten, and when the new parts' epochs begin anew.
#[test]
fn a_division_takes_position_state_and_epoch_along() {
    let mut rows = running(&[5, 7]);
    assert!(reshard(&rows, &id(1), 2).unwrap().is_empty());
    for shards in [0, 1025] {
        let refused = reshard(&rows, &id(1), shards);
        assert!(matches!(refused, Err(CommandError::Shards { .. })));
    }
    let shard = rows[1].shard.clone();
    rows = after(&rows, fail(&rows, &shard, 5, broken()));

    let four = after(&rows, reshard(&rows, &id(1), 4).unwrap());
    let positions: Vec<_> = four.iter().map(|row| row.position.get()).collect();
    assert_eq!(
        positions,
        [5, 7, 5, 7],
        "a part of a part goes on where it stood"
    );
    assert!(
        four.iter()
            .all(|row| row.failure == Some(broken()) && row.epoch == 5)
    );
    assert!(
        four.iter()
            .all(|row| row.lifecycle == Lifecycle::Failed && row.shards == 4)
    );

    let three = reshard(&rows, &id(1), 3).unwrap().put;
    let marks = Marks::new([at(5), at(7)]);
    assert!(
        three
            .iter()
            .all(|row| row.position == at(5) && row.applied == marks)
    );
    let error = reshard(&three, &id(1), 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the last change of projection `rooms v1` is still settling; let it run past position 7, then try again"
    );
}

#[test]
fn a_version_that_is_needed_cannot_go_unless_it_is_the_last() {
    let mut rows = with_heir(&[5], 3);
    assert!(matches!(
        retire(&rows, &id(1)),
        Err(CommandError::Needed { .. })
    ));
    assert!(matches!(
        remove(&rows, &id(2)),
        Err(CommandError::State { .. })
    ));
    rows = after(&rows, retire(&rows, &id(2)).unwrap());
    rows = after(&rows, remove(&rows, &id(2)).unwrap());

    rows = after(&rows, pause(&rows, &id(1)).unwrap());
    assert_eq!(
        remove(&rows, &id(1)).unwrap_err().to_string(),
        "projection `rooms v1` is paused and cannot be removed: detach it first"
    );
    rows = after(&rows, detach(&rows, &id(1)).unwrap());
    rows = after(&rows, remove(&rows, &id(1)).unwrap());
    assert!(rows.is_empty());
}

#[test]
fn what_runs_inside_the_appends_or_is_not_there_is_left_alone() {
    let mut rows = with_heir(&[5], 5);
    rows[0].lifecycle = Lifecycle::Inline;
    let inline = [
        start(&rows, 1, 1),
        pause(&rows, &id(1)),
        hand_over(&rows, &id(2), 0),
    ];
    for result in inline {
        assert!(
            matches!(result, Err(CommandError::Inline { .. })),
            "{result:?}"
        );
    }
    assert_eq!(
        pause(&rows, &id(3)).unwrap_err().to_string(),
        "projection `rooms v3` is not known to this store, which has `rooms v1`, `rooms v2`; a daemon that starts it makes it known (a `View` lives in the memory of its process and takes no commands)"
    );
}
