//! Several nodes on one store: the work is spread, moves when one comes, and is taken over when one goes.

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use es_core::{
    BoxError, MemoryModels, MemoryStore, Position, Project, Projection, ProjectionStore, Recorded,
};
use es_projections::{Daemon, DaemonHandle, Options, Settings, State};
use support::{
    Cues, Diary, Fault, Flaky, Gate, Ledger, Noted, Op, Oracle, PATIENCE, Pages, folded, note,
    reach, settings, stream, until,
};
use uuid::Uuid;

macro_rules! counters {
    ($($counter:ident, $event:ident, $name:literal;)*) => {$(
        #[derive(Projection)]
        #[projection(name = $name, version = 1, events(Noted))]
        struct $counter;

        impl Project<MemoryModels> for $counter {
            async fn project(
                &self,
                models: &mut MemoryModels,
                events: &[Recorded<$event>],
            ) -> Result<(), BoxError> {
                *models.model_mut::<Counts>().0.entry($name).or_default() += events.len();
                Ok(())
            }
        }
    )*};
}

#[derive(Debug, Default, Clone)]
struct Counts(BTreeMap<&'static str, usize>);

counters! {
    A, AEvent, "a";
    B, BEvent, "b";
    C, CEvent, "c";
    D, DEvent, "d";
    E, EEvent, "e";
    F, FEvent, "f";
}

/// Six projections, and one in four parts: ten in all.
async fn node<S>(store: &S, settings: Settings) -> DaemonHandle<S>
where
    S: ProjectionStore<Connection = MemoryModels> + Clone + 'static,
{
    let daemon = Daemon::new(store.clone()).settings(settings);
    let daemon = daemon.run(A).run(B).run(C).run(D).run(E).run(F);
    let parts = Options::default().with_shards(4);
    daemon
        .run_with(Diary::default(), parts)
        .start()
        .await
        .unwrap()
}

/// How many shards each node has, fewest first; those without an owner apart.
async fn loads(store: &impl ProjectionStore) -> (Vec<usize>, usize) {
    let mut loads: BTreeMap<Uuid, usize> = BTreeMap::new();
    let mut free = 0;
    for row in store.standings(None).await.unwrap() {
        match row.owner {
            Some(owner) => *loads.entry(owner).or_default() += 1,
            None => free += 1,
        }
    }
    let mut loads: Vec<_> = loads.into_values().collect();
    loads.sort_unstable();
    (loads, free)
}

async fn until_spread(store: &impl ProjectionStore, wanted: &[usize]) {
    let spread = async || loads(store).await == (wanted.to_vec(), 0);
    until(&format!("the shards are spread as {wanted:?}"), spread).await;
}

async fn complete(store: &MemoryStore, events: usize) {
    let diary = async || store.model::<Pages<1>>().await.0 == folded(store, &Cues::default()).await;
    until("the diary is a fold of the log", diary).await;
    let counted = async || {
        let counts = store.model::<Counts>().await.0;
        counts.len() == 6 && counts.values().all(|count| *count == events)
    };
    until("all have counted everything", counted).await;
}

async fn write(store: &MemoryStore, streams: u32) -> Position {
    let mut last = Position::START;
    for number in 0..streams {
        last = note(store, &stream(), [number, number]).await.position;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_spread_moves_to_newcomers_and_away_from_those_who_leave() {
    let store = MemoryStore::new();
    let one = node(&store, settings()).await;
    until_spread(&store, &[10]).await;
    write(&store, 10).await;
    let two = node(&store, settings()).await;
    until_spread(&store, &[5, 5]).await;
    write(&store, 10).await;
    let three = node(&store, settings()).await;
    until_spread(&store, &[3, 3, 4]).await;
    write(&store, 10).await;
    complete(&store, 60).await;

    two.shutdown().await.unwrap();
    until_spread(&store, &[5, 5]).await;
    let last = write(&store, 10).await;
    complete(&store, 80).await;
    for daemon in [&one, &three] {
        for name in ["a", "f", "diary"] {
            daemon
                .wait_until_within(name, last, PATIENCE)
                .await
                .unwrap();
        }
    }
    one.shutdown().await.unwrap();
    three.shutdown().await.unwrap();
    let (owned, free) = loads(&store).await;
    assert_eq!((owned.len(), free), (0, 10));
}

/// With a lease of an hour only a node that says goodbye can be replaced.
#[tokio::test]
async fn who_leaves_is_replaced_without_waiting_for_its_lease() {
    let store = MemoryStore::new();
    let long = settings().with_lease_ttl(Duration::from_secs(3600));
    let leaving = node(&store, long.clone()).await;
    until_spread(&store, &[10]).await;
    leaving.shutdown().await.unwrap();
    assert_eq!(loads(&store).await.1, 10, "everything was given back");
    let next = node(&store, long).await;
    until_spread(&store, &[10]).await;
    write(&store, 3).await;
    complete(&store, 6).await;
    next.shutdown().await.unwrap();
}

/// Its beats, releases and farewell do not arrive any more, as when its network is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_is_replaced_when_its_lease_has_run_out() {
    let store = MemoryStore::new();
    let dying_store = Flaky::over(store.clone());
    let dying = node(&dying_store, settings()).await;
    let other = node(&store, settings()).await;
    until_spread(&store, &[5, 5]).await;

    dying_store.break_down([Op::Beat, Op::Release, Op::Leave, Op::Acquire, Op::Begin]);
    drop(dying);
    let died = Instant::now();
    until_spread(&store, &[10]).await;
    let took = died.elapsed();
    // The lease is 200 milliseconds; the rest is for a busy machine.
    assert!(took < Duration::from_secs(2), "{took:?}");
    let last = write(&store, 5).await;
    reach(&other, "diary", last).await;
    complete(&store, 10).await;
    other.shutdown().await.unwrap();
}

/// Seen to fail when whoever loses patience only aborts.
#[tokio::test]
async fn whoever_loses_patience_leaves_all_the_same() {
    let store = Flaky::default();
    let cues = Cues::default();
    let gate = cues.gate();
    note(&store, &stream(), [1]).await;
    let daemon = Daemon::new(store.clone()).settings(settings());
    let daemon = daemon.run(Diary(cues)).start().await.unwrap();
    gate.entered().await;

    let ended = daemon.shutdown_within(Duration::from_millis(1)).await;

    ended.unwrap();
    assert_eq!(store.count(Op::Leave), 1);
    let node = es_core::Node {
        id: Uuid::now_v7(),
        name: "watcher".to_owned(),
        runs: Vec::new(),
    };
    let fleet = store.beat(&node, Duration::from_secs(1)).await.unwrap();
    assert_eq!(fleet.nodes.len(), 1, "the watcher alone");
}

/// Seen to fail when a node's refusal wakes the runner that was refused: it asked thousands of times.
#[tokio::test]
async fn whoever_must_wait_for_an_open_batch_does_not_ask_without_end() {
    let (cues, frozen_store) = (Cues::default(), Flaky::default());
    let store = frozen_store.inner.clone();
    let other_store = Flaky::over(store.clone());
    let gate = cues.gate();
    let frozen = Daemon::new(frozen_store.clone()).settings(settings());
    let frozen = frozen.run(Oracle(cues)).start().await.unwrap();
    let other = Daemon::new(other_store.clone()).settings(settings());
    let other = other.run(Oracle::default()).start().await.unwrap();
    let stands_by = async || other.status("oracle").unwrap().state == State::StandingBy;
    until("the other one stands by", stands_by).await;
    let last = note(&store, &stream(), 0..3).await;
    gate.entered().await;
    let asleep = Arc::new(Gate::new());
    frozen_store.cue(Op::Beat, Fault::Late(Arc::clone(&asleep)));
    asleep.entered().await;

    other_store.counted(Op::Acquire, 3).await;
    let (asked, beaten) = (other_store.count(Op::Acquire), other_store.count(Op::Beat));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = other_store.count(Op::Acquire) - asked;
    let beaten = other_store.count(Op::Beat) - beaten;
    assert!(
        asked < 40 && beaten < 60,
        "{asked} times in a lease, with {beaten} beats"
    );

    asleep.open();
    gate.open();
    reach(&other, "oracle", last.position).await;
    assert_eq!(store.model::<Ledger>().await.count, 3);
    frozen.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_matter_which_node_is_asked_to_wait() {
    let store = MemoryStore::new();
    let runs = Daemon::new(store.clone()).settings(settings());
    let runs = runs.run(Oracle::default()).start().await.unwrap();
    let first = note(&store, &stream(), [0]).await;
    reach(&runs, "oracle", first.position).await;
    // A lease of an hour: it would hear of nothing by itself.
    let long = settings().with_lease_ttl(Duration::from_secs(3600));
    let asked = Daemon::new(store.clone()).settings(long.with_node_name("asked"));
    let asked = asked.run(Oracle::default()).start().await.unwrap();
    let waits = async || asked.status("oracle").unwrap().state == State::StandingBy;
    until("it stands by", waits).await;

    for number in 1..20 {
        let last = note(&store, &stream(), [number]).await;
        reach(&asked, "oracle", last.position).await;
        assert_eq!(store.model::<Ledger>().await.count, number as usize + 1);
    }
    let status = asked.status("oracle").unwrap();
    assert_eq!(status.events_applied, 0);
    assert_eq!(status.owners.len(), 1);
    assert_ne!(status.owners, ["asked"]);
    runs.shutdown().await.unwrap();
    asked.shutdown().await.unwrap();
}
