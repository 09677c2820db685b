//! A small world in which people decide at random while events are applied: whatever they do, nothing is
//! applied twice or lost, in order for each aggregate, and each effect is emitted once.
//!
//! Seen to fail when a move back or a reset leaves nothing silent, or only what the row's own position says;
//! when a move keeps `applied`, or is allowed though the read model does not bear it; when a division begins
//! anywhere but at the lowest position, or makes no marks, or is made while marks are not passed; when it
//! forgets what is silent, or hands one part's marks to all; when the heir is ahead, or gets no marks, or not
//! the old version's own; when the old version goes on; when a version is active too early; when a pause or
//! a failure forgets that a version was being rebuilt; when a retired version runs on at once; when a version
//! that is needed is retired or removed.

mod world;

use std::collections::BTreeMap;

use es_core::{Failure, FailureKind, ProjectionId, Shard};

use super::*;
use world::World;

/// More seeds find more: `LIFECYCLE_SEEDS=100000`.
fn seeds() -> u64 {
    let seeds = std::env::var("LIFECYCLE_SEEDS").ok();
    seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(80)
}

#[test]
fn whatever_people_decide_nothing_is_lost_or_doubled() {
    let mut accepted = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        assert!(matches!(start(&mut world, 1), Ok(true)));
        for _ in 0..300 {
            world.step();
            let (command, result) = decide(&mut world);
            match result {
                Ok(true) => *accepted.entry(command).or_insert(0) += 1,
                Ok(false) => {}
                Err(error) => *refused.entry(world::kind(&error)).or_insert(0) += 1,
            }
            world.check();
        }
        finish(&mut world);
    }
    // A command that never changes anything, or a refusal that never happens, would prove nothing.
    assert_eq!(accepted.len(), 14, "{accepted:?}");
    assert!(accepted.values().all(|count| *count > 20), "{accepted:?}");
    assert_eq!(refused.len(), 10, "{refused:?}");
    println!("accepted {accepted:?}, refused {refused:?}");
}

/// One decision, often foolish. Says which, and whether it changed anything.
fn decide(world: &mut World) -> (&'static str, Result<bool, CommandError>) {
    let version = 1 + world.below(4);
    let id = ProjectionId::new("p", version);
    let rows = world.rows.clone();
    let at = world.position();
    let end = world.end();
    match world.below(40) {
        0..2 => ("append", Ok(world.append())),
        2..4 => ("register", start(world, version)),
        4 => ("pause", world.write("pause", &id, pause(&rows, &id))),
        5..9 => ("resume", world.write("resume", &id, resume(&rows, &id))),
        9 => ("detach", world.write("detach", &id, detach(&rows, &id))),
        10 => ("retire", world.write("retire", &id, retire(&rows, &id))),
        11 => ("remove", world.remove(&id, remove(&rows, &id))),
        12..14 => ("fail", stop(world, &id)),
        14..16 => {
            let change = set_checkpoint(&rows, &id, at, end);
            ("set_checkpoint", world.move_to(&id, at, change))
        }
        16 => ("reset", world.reset(&id, reset(&rows, &id))),
        17..20 => {
            let shards = [1, 2, 3, 4, 6][world.below(5) as usize];
            let change = reshard(&rows, &id, shards);
            ("reshard", world.write("reshard", &id, change))
        }
        20..22 => ("promote", world.write("promote", &id, promote(&rows, &id))),
        22..30 => {
            let within = [0, 3, 20][world.below(3) as usize];
            let change = hand_over(&rows, &id, within);
            ("hand_over", world.write("hand_over", &id, change))
        }
        _ => ("activate", world.activate(&id, activate(&rows, &id))),
    }
}

fn start(world: &mut World, version: u32) -> Result<bool, CommandError> {
    let id = ProjectionId::new("p", version);
    let registration = Registration {
        id: &id,
        event_types: &["happened"],
        shards: [1, 2, 3, 4][world.below(4) as usize],
        repeatable: version.is_multiple_of(2),
        promote: world.below(2) == 0,
        resume_failed: world.below(2) == 0,
    };
    let change = register(&world.rows, registration);
    world.write("register", &id, change)
}

fn stop(world: &mut World, id: &ProjectionId) -> Result<bool, CommandError> {
    let shard = Shard::new(id.clone(), world.below(2));
    let missed = i64::from(world.below(2));
    let row = world.rows.iter().find(|row| row.shard == shard);
    let epoch = row.map_or(0, |row| row.epoch - missed);
    let failure = Failure::new(FailureKind::Handler, "broken");
    let change = fail(&world.rows, &shard, epoch, failure);
    world.write("fail", id, Ok(change))
}

/// People come to their senses: everything is resumed, and the newest version takes over. It must get there,
/// whatever happened before.
fn finish(world: &mut World) {
    world.log_line("finish".to_owned());
    let newest = world.rows.last().map(|row| row.shard.projection.clone());
    let Some(newest) = newest else { return };
    for _ in 0..4 {
        let last = in_charge(&world.rows).cloned();
        for id in [last, Some(newest.clone())].into_iter().flatten() {
            let rows = world.rows.clone();
            let resumed = world.write("resume", &id, resume(&rows, &id));
            resumed.unwrap_or_else(|error| panic!("{error}"));
            let promoted = promote(&world.rows.clone(), &id);
            let promoted = world.write("promote", &id, promoted);
            promoted.unwrap_or_else(|error| panic!("{error}"));
            world.drain();
        }
        world.check();
        let change = hand_over(&world.rows, &newest, 0);
        drop(world.write("hand_over", &newest, change));
        world.drain();
        let change = activate(&world.rows, &newest);
        drop(world.activate(&newest, change));
        world.check();
    }
    world.check_finished(&newest);
}
