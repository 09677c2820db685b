//! A read model that knows what must not come: the wrong version, and an effect for the second time.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
};

use es_core::{BoxError, RecordedEvent};
use sqlx::error::ErrorKind;
use uuid::Uuid;

use crate::{
    faults::Faults,
    folder::Violations,
    tables::{Tables, Tally},
};

/// What a read model does with an event's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Refuses any that is not the next.
    Next,
    /// Passes over those that it has seen: it may be repeated.
    Newer,
}

/// The tables of one version of a projection.
#[derive(Debug)]
pub(crate) struct ReadModel {
    table: String,
    outbox: String,
    rule: Rule,
    faults: Faults,
    violations: Violations,
}

/// The table of one version.
pub(crate) fn table(name: &str, version: u32) -> String {
    format!("{name}_v{version}")
}

/// All versions share it.
pub(crate) fn outbox(name: &str) -> String {
    format!("{name}_outbox")
}

impl ReadModel {
    pub(crate) fn new(
        (name, version): (&str, u32),
        rule: Rule,
        faults: Faults,
        folder: &Path,
    ) -> Result<Self, BoxError> {
        Ok(Self {
            table: table(name, version),
            outbox: outbox(name),
            rule,
            faults,
            violations: Violations::open(folder)?,
        })
    }

    pub(crate) async fn set_up<C: Tables>(&self, db: &mut C) -> Result<(), BoxError> {
        let Self { table, outbox, .. } = self;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {table} (aggregate_id TEXT PRIMARY KEY,
                 version BIGINT NOT NULL, count BIGINT NOT NULL, hash BIGINT NOT NULL);
             CREATE TABLE IF NOT EXISTS {outbox} (event_id TEXT PRIMARY KEY);
             CREATE TABLE IF NOT EXISTS served (table_name TEXT NOT NULL)"
        );
        Ok(db.run(sql).await?)
    }

    pub(crate) async fn project<'a, C: Tables>(
        &self,
        db: &mut C,
        events: impl Iterator<Item = &'a RecordedEvent> + Clone,
    ) -> Result<(), BoxError> {
        let mut tallies = BTreeMap::new();
        for event in events.clone() {
            let id = event.aggregate_id;
            let (_, now) = match tallies.entry(id) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let tally = db.tally(&self.table, id).await?.unwrap_or_default();
                    entry.insert((tally, tally))
                }
            };
            self.add(now, event)?;
        }
        for (id, (before, now)) in tallies {
            if before != now && !db.put(&self.table, id, before, now).await? {
                return Err(self.refuse(format!("somebody else has written {id} meanwhile")));
            }
        }
        self.faults.strike(events).await
    }

    fn add(&self, now: &mut Tally, event: &RecordedEvent) -> Result<(), BoxError> {
        let version = i64::from(event.event_version.get());
        match self.rule {
            Rule::Newer if version <= now.version => Ok(()),
            Rule::Next if version != now.version + 1 => Err(self.refuse(format!(
                "aggregate {} is at version {}, and version {version} comes, at position {}",
                event.aggregate_id, now.version, event.position
            ))),
            _ => {
                now.add(version, event.event_id);
                Ok(())
            }
        }
    }

    pub(crate) async fn emit<'a, C: Tables>(
        &self,
        db: &mut C,
        events: impl Iterator<Item = &'a RecordedEvent> + Clone,
    ) -> Result<(), BoxError> {
        for event in events.clone() {
            db.tell(&self.outbox, event.event_id)
                .await
                .map_err(|error| {
                    let database = error.as_database_error();
                    match database.is_some_and(|error| error.kind() == ErrorKind::UniqueViolation) {
                        true => self.refuse(format!(
                            "the effect of event {} at position {} comes twice",
                            event.event_id, event.position
                        )),
                        false => error.into(),
                    }
                })?;
        }
        self.faults.strike(events).await
    }

    pub(crate) async fn serve<C: Tables>(&self, db: &mut C) -> Result<(), BoxError> {
        let table = &self.table;
        let sql = format!("DELETE FROM served; INSERT INTO served VALUES ('{table}')");
        Ok(db.run(sql).await?)
    }

    pub(crate) async fn clear<C: Tables>(&self, db: &mut C) -> Result<(), BoxError> {
        Ok(db.run(format!("DELETE FROM {}", self.table)).await?)
    }

    pub(crate) async fn clear_aggregate<C: Tables>(
        &self,
        db: &mut C,
        aggregate_id: Uuid,
    ) -> Result<(), BoxError> {
        Ok(db.remove(&self.table, aggregate_id).await?)
    }

    /// It is written down at once: the process may not live to tell.
    fn refuse(&self, what: String) -> BoxError {
        let what = format!("{}: {what}", self.table);
        self.violations.report(&what);
        what.into()
    }
}
