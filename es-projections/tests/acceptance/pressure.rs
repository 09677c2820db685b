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
    BoxError, Event, EventStore, ExpectedVersion, NewEvent, Node, Project, Projection,
    ProjectionId, ProjectionStore, Recorded, Shard,
};
use es_projections::{Complaint, Daemon, Options, State};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    bench::{Bench, CONNECTIONS, Db, PgSchema},
    diary::{Diary, folded, leap, pages, settings, start, until_complete, write_down},
    support::{Cues, Noted, PATIENCE, note, stream, until},
};

/// Takes its time, and keeps how many events it was given at once.
#[derive(Projection, Default, Clone)]
#[projection(name = "slow", version = 1, events(Noted))]
pub(crate) struct Slow {
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
        sleep(Duration::from_millis(10)).await;
        Ok(())
    }
}

/// Case A10. Seen to fail when batches grow without a limit.
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
        sleep(Duration::from_millis(20)).await;
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

/// Keeps how many of its batches are open at once. None ends before it is let out.
#[derive(Projection, Clone)]
#[projection(name = "crowd", version = 1, events(Noted))]
struct Crowd(watch::Sender<Seats>);

#[derive(Debug, Default)]
struct Seats {
    taken: u32,
    most: u32,
    let_out: bool,
}

impl<C: Db> Project<C> for Crowd {
    async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
        let table = "CREATE TABLE IF NOT EXISTS crowd (
            id TEXT PRIMARY KEY, version INT NOT NULL, events INT NOT NULL)";
        db.change(table.to_owned()).await?;
        Ok(())
    }

    async fn project(&self, db: &mut C, events: &[Recorded<CrowdEvent>]) -> Result<(), BoxError> {
        let records = events.iter().map(|event| &event.record);
        write_down(db, "crowd", &Cues::default(), records).await?;
        self.0.send_modify(|seats| {
            seats.taken += 1;
            seats.most = seats.most.max(seats.taken);
        });
        let mut seats = self.0.subscribe();
        let let_out = seats.wait_for(|seats| seats.let_out).await;
        drop(let_out?);
        self.0.send_modify(|seats| seats.taken -= 1);
        Ok(())
    }

    async fn clear(&self, db: &mut C) -> Result<(), BoxError> {
        db.change("DELETE FROM crowd".to_owned()).await?;
        Ok(())
    }
}

/// Case A11: the many parts of a rebuild take all connections for read models, and none of those of the
/// writers. (A file has one writer anyway.) Seen to fail when the pool is twice as large, when batches take
/// turns, and when writers and read models share a pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuild_is_capped() {
    let bench = PgSchema::new().await;
    let store = bench.store();
    let streams: Vec<_> = (0..40).map(|_| stream()).collect();
    let crowd = Crowd(watch::Sender::default());
    let mut seats = crowd.0.subscribe();
    let options = Options::default().with_shards(12).with_batch_events(1);
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run_with(crowd.clone(), options);
    let daemon = daemon.start().await.unwrap();
    let people = daemon.projections();
    for number in 0..2 {
        people.pause("crowd").await.unwrap();
        people.reset(&crowd).await.unwrap();
        for stream in &streams {
            note(store, stream, [number]).await;
        }
        crowd.0.send_replace(Seats::default());
        people.resume("crowd").await.unwrap();
        let full = seats.wait_for(|seats| seats.taken >= CONNECTIONS);
        let full = timeout(PATIENCE, full).await.expect("never so many");
        drop(full);
        // One too many would come now.
        sleep(Duration::from_millis(20)).await;
        let append = note(store, &streams[0], [number]);
        let appended = timeout(PATIENCE, append).await;
        let last = appended.expect("nobody waits for them").position;
        crowd.0.send_modify(|seats| seats.let_out = true);
        let built = daemon.wait_until_within("crowd", last, PATIENCE);
        built.await.unwrap();
        assert_eq!(crowd.0.borrow().most, CONNECTIONS);
        let log = folded(store, &Cues::default()).await;
        assert_eq!(pages(&bench, "crowd").await, log);
        assert_eq!(daemon.status("crowd").unwrap().last_error, None);
    }
    daemon.shutdown().await.unwrap();
}

/// Case 39: whoever is denied the shard tells who has it, and that nothing gets on. What a writer holds up:
/// `blocked_horizon_is_visible`. Seen to fail when lag counts as no work, and when the owner has no name.
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
    let within = timeout(Duration::from_secs(5), until("health is red", red));
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
