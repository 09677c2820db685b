//! A projection that keeps which versions of each aggregate it has seen, tells the world of them, and
//! refuses any but the next.

use std::collections::BTreeMap;

use es_core::{
    BoxError, EventStore, Filter, MemoryModels, Position, Project, Projection, Recorded,
    RecordedEvent,
};
use uuid::Uuid;

use super::{Cues, Noted};

/// The versions by aggregate, as they came.
pub type Versions = BTreeMap<Uuid, Vec<u32>>;

/// The read model of a version of the diary.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pages<const V: u32>(pub Versions);

/// What the world was told, by whichever version.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outbox(pub Versions);

/// The version that is served.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Served(pub u32);

fn write<'a>(
    versions: &mut Versions,
    may_miss: impl Fn(Uuid, u32) -> bool,
    records: impl Iterator<Item = &'a RecordedEvent>,
) -> Result<(), BoxError> {
    for record in records {
        let (id, version) = (record.aggregate_id, record.event_version.get());
        let seen = versions.entry(id).or_default();
        let last = seen.last().copied().unwrap_or_default();
        let missed = (last + 1..version).any(|between| !may_miss(id, between));
        if version <= last || missed {
            return Err(format!("version {version} after {last}: lost, twice or inverted").into());
        }
        seen.push(version);
    }
    Ok(())
}

macro_rules! diary {
    ($diary:ident, $event:ident, $version:literal) => {
        #[derive(Projection, Debug, Default, Clone)]
        #[projection(name = "diary", version = $version, events(Noted))]
        pub struct $diary(pub Cues);

        impl Project<MemoryModels> for $diary {
            async fn project(
                &self,
                models: &mut MemoryModels,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                let pages = models.model_mut::<Pages<$version>>();
                let may_miss = |id, version| self.0.is_given_up(id, version);
                write(
                    &mut pages.0,
                    may_miss,
                    events.iter().map(|event| &event.record),
                )?;
                let numbers = events.iter().map(|event| match &event.event {
                    $event::Noted(noted) => noted.number,
                });
                self.0.obey(numbers).await
            }

            async fn emit(
                &self,
                models: &mut MemoryModels,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                let outbox = models.model_mut::<Outbox>();
                let may_miss = |id, version| self.0.is_given_up(id, version);
                write(
                    &mut outbox.0,
                    may_miss,
                    events.iter().map(|event| &event.record),
                )
            }

            async fn activate(&self, models: &mut MemoryModels) -> Result<(), BoxError> {
                models.model_mut::<Served>().0 = $version;
                Ok(())
            }

            async fn clear(&self, models: &mut MemoryModels) -> Result<(), BoxError> {
                *models.model_mut::<Pages<$version>>() = Pages::default();
                Ok(())
            }

            async fn clear_aggregate(
                &self,
                models: &mut MemoryModels,
                aggregate_id: Uuid,
            ) -> Result<(), BoxError> {
                models
                    .model_mut::<Pages<$version>>()
                    .0
                    .remove(&aggregate_id);
                Ok(())
            }
        }
    };
}

diary!(Diary, DiaryEvent, 1);
diary!(Diary2, Diary2Event, 2);

/// Bears repetition: passes over what it has.
#[derive(Projection, Debug, Default, Clone)]
#[projection(name = "scrap", version = 1, repeatable, events(Noted))]
pub struct Scrap(pub Cues);

impl Project<MemoryModels> for Scrap {
    async fn project(
        &self,
        models: &mut MemoryModels,
        events: &[Recorded<ScrapEvent>],
    ) -> Result<(), BoxError> {
        let pages = models.model_mut::<Pages<0>>();
        let new = events.iter().map(|event| &event.record).filter(|record| {
            let seen = pages.0.get(&record.aggregate_id);
            let last = seen.and_then(|seen| seen.last()).copied();
            record.event_version.get() > last.unwrap_or_default()
        });
        let new: Vec<_> = new.collect();
        write(&mut pages.0, |_, _| false, new.into_iter())?;
        self.0.obey(std::iter::empty()).await
    }

    async fn emit(
        &self,
        models: &mut MemoryModels,
        events: &[Recorded<ScrapEvent>],
    ) -> Result<(), BoxError> {
        let outbox = models.model_mut::<Outbox>();
        write(
            &mut outbox.0,
            |_, _| false,
            events.iter().map(|event| &event.record),
        )
    }
}

/// What a diary must hold in the end: the whole log, without what was given up.
pub async fn folded(store: &impl EventStore, cues: &Cues) -> Versions {
    let mut versions = Versions::new();
    let mut after = Position::START;
    loop {
        let filter = Filter::event_types(["noted"]);
        let page = store.read_log(&filter, after, 1_000).await.unwrap();
        for record in &page.events {
            let (id, version) = (record.aggregate_id, record.event_version.get());
            if !cues.is_given_up(id, version) {
                versions.entry(id).or_default().push(version);
            }
        }
        if page.events.is_empty() {
            return versions;
        }
        after = page.covered;
    }
}
