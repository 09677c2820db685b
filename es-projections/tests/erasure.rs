//! What projections see of streams that were erased.

mod support;

use std::collections::BTreeMap;

use es_core::{
    BoxError, EventStore, MemoryModels, MemoryStore, Project, Projection, ProjectionId,
    ProjectionStore, Recorded, StreamErased,
};
use es_projections::{Daemon, Options};
use support::{Bystander, Noted, Seen, damaged, note, settings, stream};
use uuid::Uuid;

/// The numbers noted, by aggregate.
type Notes = BTreeMap<Uuid, Vec<u32>>;

/// Keeps what was noted and forgets an aggregate when it is told to. Another version is a rebuild.
macro_rules! notebook {
    ($notebook:ident, $event:ident, $model:ident, $version:literal) => {
        #[derive(Projection, Debug)]
        #[projection(name = "notebook", version = $version, events(Noted, StreamErased))]
        struct $notebook;

        #[derive(Debug, Default, Clone, PartialEq, Eq)]
        struct $model(Notes);

        impl Project<MemoryModels> for $notebook {
            async fn project(
                &self,
                models: &mut MemoryModels,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                let model = models.model_mut::<$model>();
                for Recorded { event, record } in events {
                    match event {
                        $event::Noted(noted) => {
                            let numbers = model.0.entry(record.aggregate_id).or_default();
                            numbers.push(noted.number);
                        }
                        $event::StreamErased(_) => {
                            model.0.remove(&record.aggregate_id);
                        }
                    }
                }
                Ok(())
            }
        }
    };
}

notebook!(Notebook, NotebookEvent, Built, 1);
notebook!(NextNotebook, NextNotebookEvent, Rebuilt, 2);

fn tombstone() -> StreamErased {
    StreamErased::new("asked to", "the officer")
}

/// Seen to fail when `fetch` does not pass erased events over: the rebuild stops at the first of them.
#[tokio::test]
async fn a_projection_forgets_when_told_and_a_rebuild_arrives_at_the_same() {
    let store = MemoryStore::new();
    let (kept, erased) = (stream(), stream());
    note(&store, &erased, [1, 2]).await;
    note(&store, &kept, [3]).await;
    let past = note(&store, &erased, [4]).await;
    let settings = settings().with_options(Options::default().with_batch_events(2));
    let daemon = Daemon::new(store.clone()).settings(settings.clone());
    let daemon = daemon.run(Notebook).start().await.unwrap();
    daemon.wait_until("notebook", past.position).await.unwrap();
    let before = store.model::<Built>().await.0;
    assert_eq!(before[&erased.aggregate_id], [1, 2, 4]);

    let told = store.erase(&erased, &tombstone()).await.unwrap();
    daemon.wait_until("notebook", told.position).await.unwrap();
    let last = note(&store, &kept, [5]).await;
    daemon.wait_until("notebook", last.position).await.unwrap();

    let built = store.model::<Built>().await.0;
    assert_eq!(built, BTreeMap::from([(kept.aggregate_id, vec![3, 5])]));
    daemon.shutdown().await.unwrap();

    let daemon = Daemon::new(store.clone()).settings(settings);
    let daemon = daemon.run(NextNotebook).start().await.unwrap();
    let rebuilt = daemon.wait_until("notebook v2", last.position);
    rebuilt.await.unwrap();

    assert_eq!(store.model::<Rebuilt>().await.0, built, "the same model");
    let status = daemon.status("notebook").unwrap();
    assert_eq!(status.events_applied, 3, "two notes and the tombstone");
    daemon.shutdown().await.unwrap();
}

/// Pages that hold nothing but erased events are covered, and the checkpoint passes them.
#[tokio::test]
async fn erased_events_count_as_covered() {
    let store = MemoryStore::new();
    let erased = stream();
    note(&store, &erased, 0..10).await;
    let told = store.erase(&erased, &tombstone()).await.unwrap();
    let settings = settings().with_options(Options::default().with_batch_events(3));
    let daemon = Daemon::new(store.clone()).settings(settings);
    let daemon = daemon.run(Bystander).start().await.unwrap();

    daemon.wait_until("bystander", told.position).await.unwrap();
    assert_eq!(store.model::<Seen>().await, Seen(0));
    daemon.shutdown().await.unwrap();

    let id = ProjectionId::new("bystander", 1);
    let held = store.checkpoint(&id).await.unwrap().unwrap();
    assert_eq!(held, told.position, "written when it was shut down");
}

/// An event that cannot be read behind erased ones stops the projection there and not before.
#[tokio::test]
async fn a_damaged_event_behind_erased_ones_is_reached() {
    let store = MemoryStore::new();
    let (erased, bad) = (stream(), stream());
    let last = note(&store, &erased, 0..2).await;
    store.erase(&erased, &tombstone()).await.unwrap();
    let damaged = damaged(&store, &bad).await;
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run(Bystander).start().await.unwrap();

    let error = daemon.wait_until("bystander", damaged.position).await;
    assert!(error.is_err(), "it cannot be read: {error:?}");
    let status = daemon.status("bystander").unwrap();
    assert_eq!(status.position, last.position, "the erased ones are passed");
    drop(daemon.shutdown().await);
}
