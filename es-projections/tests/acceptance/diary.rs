//! The oracle: a read model of the last version of each aggregate and how many events there were, which
//! refuses any event that is not the next of its aggregate; and an outbox that refuses what it has.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use es_core::{
    BoxError, EventStore, Filter, Position, Project, Projection, Recorded, RecordedEvent,
};
use es_projections::{Daemon, DaemonHandle, Options, Settings};
use uuid::Uuid;

use crate::{
    bench::{Bench, Db},
    support::{Cues, Noted, PATIENCE, until},
};

/// By aggregate: the last version, and how many events.
pub(crate) type Pages = BTreeMap<String, (u32, i64)>;

macro_rules! diary {
    ($diary:ident, $event:ident, $version:literal, $table:literal) => {
        #[derive(Projection, Debug, Default, Clone)]
        #[projection(name = "diary", version = $version, events(Noted))]
        pub(crate) struct $diary(pub(crate) Cues);

        impl<C: Db> Project<C> for $diary {
            async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
                let tables = concat!(
                    "CREATE TABLE IF NOT EXISTS ",
                    $table,
                    " (id TEXT PRIMARY KEY, version INT NOT NULL, events INT NOT NULL);
                     CREATE TABLE IF NOT EXISTS outbox (
                        id TEXT NOT NULL, version INT NOT NULL, PRIMARY KEY (id, version))"
                );
                db.change(tables.to_owned()).await?;
                Ok(())
            }

            async fn project(
                &self,
                db: &mut C,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                let records = events.iter().map(|event| &event.record);
                write_down(db, $table, &self.0, records).await?;
                let numbers = events.iter().map(|event| match &event.event {
                    $event::Noted(noted) => noted.number,
                });
                self.0.obey(numbers).await
            }

            async fn emit(&self, db: &mut C, events: &[Recorded<$event>]) -> Result<(), BoxError> {
                tell(db, events.iter().map(|event| &event.record)).await
            }

            async fn activate(&self, db: &mut C) -> Result<(), BoxError> {
                let view = concat!(
                    "DROP VIEW IF EXISTS pages; CREATE VIEW pages AS SELECT * FROM ",
                    $table
                );
                db.change(view.to_owned()).await?;
                Ok(())
            }

            async fn clear(&self, db: &mut C) -> Result<(), BoxError> {
                db.change(concat!("DELETE FROM ", $table).to_owned())
                    .await?;
                Ok(())
            }
        }
    };
}

diary!(Diary, DiaryEvent, 1, "pages_1");
diary!(Diary2, Diary2Event, 2, "pages_2");

/// Refuses what is not the next of its aggregate.
pub(crate) async fn write_down<C: Db>(
    db: &mut C,
    table: &str,
    cues: &Cues,
    records: impl Iterator<Item = &RecordedEvent>,
) -> Result<(), BoxError> {
    let (mut moves, mut count) = (String::new(), 0);
    for record in records {
        let (id, version) = (record.aggregate_id, record.event_version.get());
        let mut before = version - 1;
        while cues.is_given_up(id, before) {
            before -= 1;
        }
        moves += &step(table, id, before, version, 1);
        count += 1;
    }
    match db.change(moves).await? == count {
        true => Ok(()),
        false => Err("lost, twice or inverted".into()),
    }
}

/// The same for many events of few aggregates.
pub(crate) async fn leap<C: Db>(
    db: &mut C,
    table: &str,
    moves: BTreeMap<Uuid, RangeInclusive<u32>>,
) -> Result<(), BoxError> {
    let count = moves.len() as u64;
    let moves = moves.into_iter().map(|(id, versions)| {
        let (before, last) = (versions.start() - 1, *versions.end());
        step(table, id, before, last, last - before)
    });
    match db.change(moves.collect()).await? == count {
        true => Ok(()),
        false => Err("lost, twice or inverted".into()),
    }
}

/// Passes over what is not the next of its aggregate: after a loss nothing comes any more.
pub(crate) async fn write_again<C: Db>(
    db: &mut C,
    table: &str,
    records: impl Iterator<Item = &RecordedEvent>,
) -> Result<(), BoxError> {
    let steps = records.map(|record| {
        let version = record.event_version.get();
        step(table, record.aggregate_id, version - 1, version, 1)
    });
    db.change(steps.collect()).await?;
    Ok(())
}

/// Moves an aggregate from one version to another, with so many events.
fn step(table: &str, id: Uuid, before: u32, version: u32, events: u32) -> String {
    format!(
        "INSERT INTO {table} SELECT '{id}', {version}, {events}
          WHERE {before} = 0 OR EXISTS (SELECT 1 FROM {table} WHERE id = '{id}')
         ON CONFLICT (id) DO UPDATE SET version = {version}, events = {table}.events + {events}
          WHERE {table}.version = {before};"
    )
}

/// Adds effects to the outbox, which refuses what it has.
pub(crate) async fn tell<C: Db>(
    db: &mut C,
    records: impl Iterator<Item = &RecordedEvent>,
) -> Result<(), BoxError> {
    let effects = records.map(|record| {
        let (id, version) = (record.aggregate_id, record.event_version);
        format!("INSERT INTO outbox VALUES ('{id}', {version});")
    });
    db.change(effects.collect()).await?;
    Ok(())
}

/// What a diary must hold in the end: the whole log, without what was given up.
pub(crate) async fn folded(store: &impl EventStore, cues: &Cues) -> Pages {
    let mut pages = Pages::new();
    let (filter, mut after) = (Filter::event_types(["noted"]), Position::START);
    loop {
        let page = store.read_log(&filter, after, 1_000).await.unwrap();
        for record in &page.events {
            let (id, version) = (record.aggregate_id, record.event_version.get());
            if !record.is_erased() && !cues.is_given_up(id, version) {
                let (last, events) = pages.entry(id.to_string()).or_default();
                (*last, *events) = (version, *events + 1);
            }
        }
        if page.events.is_empty() {
            return pages;
        }
        after = page.covered;
    }
}

pub(crate) async fn pages(bench: &impl Bench, table: &str) -> Pages {
    // Both numbers in one, to see them at one moment.
    let query = format!("SELECT id, CAST(version AS BIGINT) * 1000000 + events FROM {table}");
    let rows = bench.rows(&query).await.into_iter();
    let page = |number| {
        (
            u32::try_from(number / 1_000_000).unwrap(),
            number % 1_000_000,
        )
    };
    rows.map(|(id, number)| (id, page(number))).collect()
}

/// The outbox as pages: an effect for each event, none twice.
pub(crate) async fn outbox(bench: &impl Bench) -> Pages {
    let mut pages = Pages::new();
    let query = "SELECT id, CAST(version AS BIGINT) FROM outbox ORDER BY version";
    for (id, version) in bench.rows(query).await {
        let (last, events) = pages.entry(id).or_default();
        (*last, *events) = (u32::try_from(version).unwrap(), *events + 1);
    }
    pages
}

/// Waits until a version's read model is a fold of the log; then so must be the outbox.
pub(crate) async fn until_complete(bench: &impl Bench, table: &str, cues: &Cues) {
    let complete = async || pages(bench, table).await == folded(bench.store(), cues).await;
    until("the read model is a fold of the log", complete).await;
    assert_eq!(outbox(bench).await, folded(bench.store(), cues).await);
}

pub(crate) async fn start<B: Bench>(
    bench: &B,
    cues: &Cues,
    options: Options,
) -> DaemonHandle<B::Store> {
    start_on(bench.store(), cues, options, "one").await
}

pub(crate) async fn start_on<S>(
    store: &S,
    cues: &Cues,
    options: Options,
    name: &str,
) -> DaemonHandle<S>
where
    S: es_core::ProjectionStore<Connection: Db> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings().with_node_name(name));
    let daemon = daemon.run_with(Diary(cues.clone()), options);
    daemon.start().await.unwrap()
}

pub(crate) async fn reach<S: es_core::ProjectionStore + 'static>(
    daemon: &DaemonHandle<S>,
    position: Position,
) {
    let reached = daemon.wait_until_within("diary", position, PATIENCE);
    reached.await.unwrap();
}

pub(crate) fn settings() -> Settings {
    Settings::default()
        .with_backoff(Duration::from_millis(1), Duration::from_millis(20))
        .with_lease_ttl(Duration::from_millis(400))
}
