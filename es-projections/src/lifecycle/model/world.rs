//! A log, rows, read models and the effects that were emitted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    thread,
};

use es_core::{Lifecycle, Position, ProjectionId, Standing, shard_of};
use uuid::Uuid;

use super::super::*;

#[derive(Default)]
struct ReadModel {
    applied: BTreeSet<Position>,
    /// Somebody moved the checkpoint forward over them.
    passed_over: BTreeSet<Position>,
    /// The last event of each aggregate since the checkpoint was moved back.
    last: HashMap<Uuid, Position>,
    moved_back: bool,
}

pub(super) struct World {
    seed: u64,
    rolls: u64,
    events: Vec<(Position, Uuid)>,
    pub(super) rows: Vec<Standing>,
    models: BTreeMap<ProjectionId, ReadModel>,
    emitted: BTreeSet<Position>,
    given_up: BTreeSet<Position>,
    history: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            rolls: 0,
            events: Vec::new(),
            rows: Vec::new(),
            models: BTreeMap::new(),
            emitted: BTreeSet::new(),
            given_up: BTreeSet::new(),
            history: Vec::new(),
        }
    }

    /// The hash that spreads aggregates is as good as dice.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.rolls += 1;
        shard_of(Uuid::from_u64_pair(self.seed, self.rolls), end)
    }

    pub(super) fn log_line(&mut self, line: String) {
        self.history.push(line);
    }

    pub(super) fn append(&mut self) -> bool {
        for _ in 0..self.below(12) {
            // With holes.
            let next = self.end().get() + 1 + u64::from(self.below(2));
            let aggregate = Uuid::from_u128(self.below(12).into());
            self.events.push((Position::new(next), aggregate));
        }
        true
    }

    pub(super) fn end(&self) -> Position {
        self.events.last().map_or(Position::START, |event| event.0)
    }

    /// Any position, seldom one that is not there yet.
    pub(super) fn position(&mut self) -> Position {
        let end = u32::try_from(self.end().get()).unwrap();
        Position::new(self.below(end + 2).into())
    }

    /// As the store does it.
    pub(super) fn write(
        &mut self,
        command: &str,
        id: &ProjectionId,
        change: Result<Change, CommandError>,
    ) -> Result<bool, CommandError> {
        let change = change?;
        if !change.is_empty() {
            self.log_line(format!("{command} {id}"));
        }
        for mut row in change.put.iter().cloned() {
            let old = self.rows.iter().position(|old| old.shard == row.shard);
            let old = old.map(|index| self.rows.remove(index));
            row.epoch = row.epoch.max(old.map_or(0, |old| old.epoch)) + 1;
            row.owner = None;
            self.models.entry(row.shard.projection.clone()).or_default();
            self.rows.push(row);
        }
        self.rows.retain(|row| !change.remove.contains(&row.shard));
        self.rows.sort_by(|a, b| a.shard.cmp(&b.shard));
        Ok(!change.is_empty())
    }

    pub(super) fn remove(
        &mut self,
        id: &ProjectionId,
        change: Result<Change, CommandError>,
    ) -> Result<bool, CommandError> {
        let removed = self.write("remove", id, change)?;
        self.models.remove(id);
        if self.rows.is_empty() {
            self.emitted.clear();
            self.given_up.clear();
        }
        Ok(removed)
    }

    pub(super) fn reset(
        &mut self,
        id: &ProjectionId,
        change: Result<Change, CommandError>,
    ) -> Result<bool, CommandError> {
        let reset = self.write("reset", id, change)?;
        self.models.insert(id.clone(), ReadModel::default());
        Ok(reset)
    }

    pub(super) fn move_to(
        &mut self,
        id: &ProjectionId,
        to: Position,
        change: Result<Change, CommandError>,
    ) -> Result<bool, CommandError> {
        let back = self.done(id).any(|position| position > to);
        let moved = self.write(&format!("set_checkpoint {to}"), id, change)?;
        let done: Vec<_> = self.done(id).collect();
        if let Some(model) = self.models.get_mut(id) {
            let passed_over = done
                .into_iter()
                .filter(|event| !model.applied.contains(event));
            model.passed_over = passed_over.collect();
            if back {
                model.moved_back = true;
                model.last.clear();
            }
        }
        let silenced: Vec<_> = self.silenced().collect();
        let given_up = silenced
            .into_iter()
            .filter(|event| !self.emitted.contains(event));
        self.given_up = given_up.collect();
        Ok(moved)
    }

    pub(super) fn activate(
        &mut self,
        id: &ProjectionId,
        change: Result<Change, CommandError>,
    ) -> Result<bool, CommandError> {
        let served = self.rows.iter().find(|row| row.active);
        let served = served.map(|row| row.shard.projection.clone());
        let activated = self.write("activate", id, change)?;
        if let Some(served) = served.and_then(|served| self.models.get(&served)) {
            let model = &self.models[id];
            let has = |event| model.applied.contains(event) || model.passed_over.contains(event);
            assert!(served.applied.iter().all(has), "served an older read model");
        }
        Ok(activated)
    }

    /// Some shard that runs comes forward.
    pub(super) fn step(&mut self) {
        let count = u32::try_from(self.rows.len()).unwrap();
        if count > 0 {
            let index = self.below(count) as usize;
            let to = self.position().min(self.end());
            let owner = (self.below(4) == 0).then_some(Uuid::from_u128(1));
            self.run(index, to);
            self.rows[index].owner = owner;
        }
    }

    pub(super) fn drain(&mut self) {
        for index in 0..self.rows.len() {
            self.run(index, self.end());
        }
    }

    /// One batch, as a runner does it.
    fn run(&mut self, index: usize, to: Position) {
        let row = self.rows[index].clone();
        let id = &row.shard.projection;
        let to = match row.lifecycle {
            Lifecycle::Running => to,
            Lifecycle::Rebuilding => ceiling(&self.rows, id).map_or(to, |ceiling| to.min(ceiling)),
            _ => return,
        };
        let model = self.models.get_mut(id).unwrap();
        for &(position, aggregate) in &self.events {
            let mine = shard_of(aggregate, row.shards) == row.shard.index;
            let new = position > row.position && !row.applied.cover(aggregate, position);
            if !mine || !new || position > to {
                continue;
            }
            let first = model.applied.insert(position);
            assert!(first || row.repeatable, "{position} applied twice");
            let last = model.last.insert(aggregate, position);
            assert!(last < Some(position), "{position} applied after {last:?}");
            model.passed_over.remove(&position);
            if row.lifecycle == Lifecycle::Running && !row.silent.cover(aggregate, position) {
                let first = self.emitted.insert(position);
                assert!(first, "{position} emitted twice");
                assert!(
                    !self.given_up.contains(&position),
                    "{position} was given up"
                );
            }
        }
        let row = &mut self.rows[index];
        if to > row.position {
            self.history.push(format!("{} at {to}", row.shard));
            row.position = to;
        }
    }

    fn events_of<'a>(
        &'a self,
        id: &'a ProjectionId,
        want: impl Fn(&Standing, Uuid, Position) -> bool + 'a,
    ) -> impl Iterator<Item = Position> + 'a {
        let rows: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.shard.projection == *id)
            .collect();
        let shards = u32::try_from(rows.len()).unwrap();
        let events = self.events.iter().filter(move |(position, aggregate)| {
            let row = rows.get(shard_of(*aggregate, shards) as usize);
            row.is_some_and(|row| want(row, *aggregate, *position))
        });
        events.map(|(position, _)| *position)
    }

    /// What a version counts as applied.
    fn done<'a>(&'a self, id: &'a ProjectionId) -> impl Iterator<Item = Position> + 'a {
        self.events_of(id, |row, aggregate, position| {
            position <= row.position || row.applied.cover(aggregate, position)
        })
    }

    /// What the version in charge will not emit any more.
    fn silenced(&self) -> impl Iterator<Item = Position> + '_ {
        in_charge(&self.rows).into_iter().flat_map(|id| {
            self.events_of(id, |row, aggregate, position| {
                position <= row.position
                    || row.applied.cover(aggregate, position)
                    || row.silent.cover(aggregate, position)
            })
        })
    }

    pub(super) fn check(&self) {
        for (id, model) in &self.models {
            let counted: BTreeSet<_> = self.done(id).collect();
            let held: BTreeSet<_> = model.applied.union(&model.passed_over).copied().collect();
            match model.moved_back {
                true => assert!(held.is_superset(&counted), "{id} lost events"),
                false => assert_eq!(held, counted, "{id} is not the fold of the log"),
            }
            let rows = self.rows.iter().filter(|row| row.shard.projection == *id);
            let rows: Vec<_> = rows.collect();
            assert!(
                rows.iter().all(|row| row.shards as usize == rows.len()),
                "{id} has gaps"
            );
        }
        let silenced: BTreeSet<_> = self.silenced().collect();
        let told: BTreeSet<_> = self.emitted.union(&self.given_up).copied().collect();
        assert_eq!(silenced, told, "effects: what is silent, what was emitted");

        let versions = |want: fn(&Standing) -> bool| {
            let rows = self.rows.iter().filter(|row| want(row));
            rows.map(|row| &row.shard.projection)
                .collect::<BTreeSet<_>>()
                .len()
        };
        let expected = usize::from(!self.rows.is_empty());
        assert_eq!(
            versions(|row| row.active),
            expected,
            "one version is active"
        );
        assert_eq!(versions(emits), expected, "one version is in charge");
    }

    pub(super) fn check_finished(&self, id: &ProjectionId) {
        assert_eq!(in_charge(&self.rows), Some(id), "{:#?}", self.rows);
        let of = |row: &&Standing| row.shard.projection == *id;
        assert!(
            self.rows.iter().filter(of).all(|row| row.active),
            "{:#?}",
            self.rows
        );
        assert_eq!(self.done(id).count(), self.events.len());
        assert_eq!(self.emitted.len() + self.given_up.len(), self.events.len());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let last = self.history.len().saturating_sub(40);
            println!("seed {}: …\n{}", self.seed, self.history[last..].join("\n"));
        }
    }
}

pub(super) fn kind(error: &CommandError) -> &'static str {
    match error {
        CommandError::Unknown { .. } => "unknown",
        CommandError::State { .. } => "state",
        CommandError::Busy { .. } => "busy",
        CommandError::Needed { .. } => "needed",
        CommandError::BeyondLog { .. } => "beyond log",
        CommandError::NotRepeatable { .. } => "not repeatable",
        CommandError::Settling { .. } => "settling",
        CommandError::NotPromoted { .. } => "not promoted",
        CommandError::Behind { .. } => "behind",
        CommandError::Ahead { .. } => "ahead",
        error => panic!("{error}"),
    }
}
