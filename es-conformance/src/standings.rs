//! Reading where projections stand.

use es_core::{
    Failure, FailureKind, Lifecycle, Marks, Position, ProjectionId, ProjectionStore, Shard,
    Standing,
};
use uuid::Uuid;

use crate::{
    claims::{
        LONG, TYPES, as_put, beat, begin_change, fresh_standing, fresh_standings, living_node,
        of_version, put, some_progress, standings, stands,
    },
    fixtures::projection,
};

/// Beyond what a floating-point number holds.
const BIG: Position = Position::new((1 << 53) + 1);

/// Fills every field of a standing with something that a new one does not have.
pub(crate) fn make_unusual(standing: &mut Standing) {
    standing.repeatable = true;
    standing.lifecycle = Lifecycle::Rebuilding;
    standing.before = Lifecycle::Paused;
    standing.active = false;
    standing.promote = false;
    standing.applied = Marks::new([BIG, Position::START, Position::new(3)]);
    standing.silent = Marks::new([Position::new(17)]);
    standing.failure = Some(failure());
}

fn failure() -> Failure {
    let mut failure = Failure::new(
        FailureKind::Handler,
        "it's \"bad\": é, 二, a \\ and \u{0} and\nmore",
    );
    failure.position = Some(BIG);
    failure.event_type = Some("note".to_owned());
    failure.event_id = Some(Uuid::now_v7());
    failure
}

/// Everything of a standing comes back as it was put, in the list and in the next change.
pub async fn everything_of_a_standing_comes_back<S: ProjectionStore>(store: &S) {
    let new = fresh_standing(|_| {});
    let unusual = fresh_standing(|standing| {
        make_unusual(standing);
        standing.position = BIG;
        standing.anchor = Some((BIG, Uuid::now_v7()));
        standing.event_types = ["$erased", "a, b", "it's \"odd\"", "é"]
            .map(str::to_owned)
            .to_vec();
    });
    let short = fresh_standing(|standing| {
        standing.event_types.clear();
        standing.failure = Some(Failure::new(FailureKind::Infrastructure, ""));
        // No marks and one mark at the start are not the same.
        standing.applied = Marks::new([Position::START]);
    });
    let last = fresh_standing(|standing| {
        standing.shard.projection.version = i32::MAX.unsigned_abs();
        standing.shard.index = 1_023;
        standing.shards = 1_024;
    });
    for standing in [new, unusual, short, last] {
        let expected = [standing];
        put(store, &expected).await;

        let id = &expected[0].shard.projection;
        assert_eq!(as_put(&standings(store, id).await), expected, "listed");
        let (_, changing) = begin_change(store, id).await;
        assert_eq!(as_put(&changing), expected, "in the next change");
    }
}

/// Each state that a projection can be in comes back, also as the one to resume.
pub async fn each_lifecycle_comes_back<S: ProjectionStore>(store: &S) {
    for lifecycle in [
        Lifecycle::Running,
        Lifecycle::Rebuilding,
        Lifecycle::Paused,
        Lifecycle::Failed,
        Lifecycle::Retired,
        Lifecycle::Detached,
    ] {
        let expected = [fresh_standing(|standing| {
            standing.lifecycle = lifecycle;
            standing.before = lifecycle;
        })];
        put(store, &expected).await;

        let held = standings(store, &expected[0].shard.projection).await;
        assert_eq!(as_put(&held), expected);
    }
}

/// Standings come in order: by name, byte by byte, then by version, then by shard.
pub async fn standings_come_in_order<S: ProjectionStore>(store: &S) {
    let mut expected = Vec::new();
    for name in ["B", "a", "a b", "a_b", "aa", "é"] {
        for version in [2, 10] {
            let id = ProjectionId::new(name, version);
            let part = |index| Standing::new(Shard::new(id.clone(), index), 12, &TYPES);
            expected.extend((0..12).map(part));
        }
    }
    for one in expected.iter().rev() {
        put(store, std::slice::from_ref(one)).await;
    }

    let all = store.standings(None).await.expect("standings can be read");
    assert_eq!(as_put(&all), expected);
    let id = &expected[0].shard.projection;
    let (_, changing) = begin_change(store, id).await;
    assert_eq!(as_put(&changing), expected[..24], "in a change");
}

/// One name means every version of it and no other name.
pub async fn one_name_means_every_version_of_it<S: ProjectionStore>(store: &S) {
    let ours = fresh_standings(2);
    let version = of_version(&ours[0], 2);
    let name = &ours[0].shard.projection.name;
    put(store, &ours).await;
    put(store, std::slice::from_ref(&version)).await;
    for other in [
        format!("{name}s"),
        name[1..].to_owned(),
        name.to_uppercase(),
    ] {
        let id = ProjectionId::new(other, 1);
        put(store, &[Standing::new(Shard::new(id, 0), 1, &TYPES)]).await;
    }

    let held = standings(store, &ours[0].shard.projection).await;
    assert_eq!(as_put(&held), [&ours[..], &[version]].concat());
    assert_eq!(standings(store, &projection()).await, [], "nobody put it");
    let unlike = ProjectionId::new("%", 1);
    assert_eq!(standings(store, &unlike).await, [], "a name is no pattern");
    let all = store.standings(None).await.expect("standings can be read");
    assert_eq!(all.len(), 6, "without a name all of them");
}

/// What runs inside the appends stands at the settled end of the log.
pub async fn what_runs_inside_the_appends_stands_at_the_end<S: ProjectionStore>(store: &S) {
    let progress = some_progress(store).await;
    let inline = fresh_standing(|standing| standing.lifecycle = Lifecycle::Inline);
    put(store, std::slice::from_ref(&inline)).await;
    let shard = &inline.shard;

    assert_eq!(stands(store, shard).await.position, progress.position);
    let checkpoint = store.checkpoint(&shard.projection).await;
    let checkpoint = checkpoint.expect("a checkpoint can be read");
    assert_eq!(checkpoint, Some(progress.position));
    let node = living_node(store).await;
    let fleet = beat(store, &node, LONG).await;
    assert_eq!(fleet.standings[0].position, progress.position, "in a beat");
}
