//! More than a projection can take, and stalls that people must be shown.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use es_core::{
    BoxError, Event, EventStore, ExpectedVersion, NewEvent, Project, Projection, Recorded,
};
use es_core::{Node, ProjectionId, ProjectionStore, Shard};
use es_projections::{Complaint, Daemon, Options, State};
use uuid::Uuid;

use crate::{
    bench::{Bench, Db},
    diary::{Diary, folded, leap, pages, settings, start, until_complete},
    support::{Cues, Noted, PATIENCE, note, stream, until},
};

/// Takes its time, and keeps how many events it was given at once.
#[derive(Projection, Default, Clone)]
#[projection(name = "slow", version = 1, events(Noted))]
struct Slow {
    most: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl<C: Db> Project<C> for Slow {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        let table = "CREATE TABLE IF NOT EXISTS slow (
            id TEXT PRIMARY KEY, version INT NOT NULL, events INT NOT NULL)";
        db.change(table.to_owned()).await?;
        Ok(())
    }

    async fn project(&self, db: &mut C, events: &[Recorded<SlowEvent>]) -> Result<(), BoxError> {
        self.most.fetch_max(events.len(), Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut moves = BTreeMap::<Uuid, RangeInclusive<u32>>::new();
        for Recorded { record, .. } in events {
            let version = record.event_version.get();
            let range = moves.entry(record.aggregate_id);
            let range = range.or_insert(version..=version - 1);
            if version != range.end() + 1 {
                return Err("inverted inside a batch".into());
            }
            *range = *range.start()..=version;
        }
        leap(db, "slow", moves).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(())
    }
}

/// Case A10.
pub(crate) async fn back_pressure<B: Bench>() {
    let (bench, slow) = (B::new().await, Slow::default());
    let store = bench.store();
    for _ in 0..20 {
        let note = NewEvent::encode(&Noted { number: 1 });
        let payload = note.unwrap().event_data;
        let backlog = (0..1_000).map(|_| NewEvent::new(Noted::EVENT_TYPE, payload.clone()));
        let backlog: Vec<_> = backlog.collect();
        let stream = stream();
        let appended = store.append(&stream, ExpectedVersion::NoStream, &backlog);
        appended.await.unwrap();
    }
    let options = Options::default().with_batch_events(250);
    // So little that a page does not fit in twice.
    let daemon = Daemon::new(store.clone());
    let daemon = daemon.settings(settings().with_shared_pages_bytes(8 << 10));
    let daemon = daemon.run_with(slow.clone(), options);
    let daemon = daemon.start().await.unwrap();

    let live = stream();
    let mut last = note(store, &live, [0]).await.position;
    let mut during = 0;
    while daemon.status("slow").unwrap().lag() > 250 || during == 0 {
        last = note(store, &live, [1]).await.position;
        during += usize::from(daemon.status("slow").unwrap().position < last);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(during > 5, "appends were let in {during} times");
    daemon
        .wait_until_within("slow", last, PATIENCE)
        .await
        .unwrap();
    let most = slow.most.load(Ordering::Relaxed);
    assert!(most <= 250, "{most} events at once");
    assert!(slow.calls.load(Ordering::Relaxed) >= 80);
    assert_eq!(
        pages(&bench, "slow").await,
        folded(store, &Cues::default()).await
    );
    daemon.shutdown().await.unwrap();
}

/// Case 39: whoever is denied the shard tells who has it, and that nothing gets on. What a writer holds up:
/// `blocked_horizon_is_visible`.
pub(crate) async fn stall_is_visible<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let store = bench.store();
    start(&bench, &cues, Options::default())
        .await
        .shutdown()
        .await
        .unwrap();
    let idler = Node {
        id: Uuid::now_v7(),
        name: "the idler".to_owned(),
        runs: Vec::new(),
    };
    store.beat(&idler, Duration::from_secs(3600)).await.unwrap();
    let shard = Shard::new(ProjectionId::new("diary", 1), 0);
    store.acquire(&shard, &["noted"], idler.id).await.unwrap();

    let watchful = settings().with_stall_after(Duration::from_millis(300));
    let daemon = Daemon::new(store.clone()).settings(watchful);
    let daemon = daemon.run(Diary(cues.clone())).start().await.unwrap();
    let told = async || {
        let status = daemon.status("diary").unwrap();
        status.state == State::StandingBy && status.owners == ["the idler"]
    };
    until("the owner's name is shown", told).await;
    assert!(daemon.health().is_green(), "{}", daemon.health());
    let last = note(store, &stream(), [1]).await.position;
    let stuck = |complaint: &Complaint| matches!(complaint, Complaint::NoProgress { .. });
    let red = async || daemon.health().complaints.iter().any(stuck);
    let within = tokio::time::timeout(Duration::from_secs(5), until("health is red", red));
    within.await.expect("within 5 s");

    store.leave(idler.id).await.unwrap();
    daemon
        .wait_until_within("diary", last, PATIENCE)
        .await
        .unwrap();
    let green = async || daemon.health().is_green();
    until("health is green", green).await;
    until_complete(&bench, "pages_1", &cues).await;
    daemon.shutdown().await.unwrap();
}
