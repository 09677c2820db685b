//! How much is read, and that nobody misses anything.

mod chance;
mod store;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use es_core::{Chain, EventStore, Position, ReadError};
use futures::{FutureExt, future::join_all};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, timeout},
};

use self::store::Watched;
use super::{FOREIGN, Feed, FeedLimits, Page, Reader};

const TYPES: [&str; 6] = ["made", "moved", "hit", "healed", "sold", "left"];
const SOON: Duration = Duration::from_secs(5);

fn feed(store: &Arc<Watched>, page_events: u32, window_bytes: usize) -> Arc<Feed<Watched>> {
    let limits = FeedLimits {
        page_events,
        window_bytes,
    };
    Feed::new(Arc::clone(store), limits)
}

/// A log of so many events, of all types in turn.
async fn log(events: usize) -> Arc<Watched> {
    let store = Watched::new();
    for event in 0..events {
        store.append(&[TYPES[event % TYPES.len()]]).await;
    }
    store
}

/// Reads from `after` to the present end. Where that is, and how many events there were.
async fn read_up(reader: &mut Reader<Watched>, after: Position) -> (Position, usize) {
    read_up_by(1000, reader, after).await
}

async fn read_up_by(
    limit: u32,
    reader: &mut Reader<Watched>,
    mut after: Position,
) -> (Position, usize) {
    let mut events = 0;
    loop {
        let page = reader.next(after, limit).await.unwrap();
        after = page.covered;
        events += page.events.len();
        if !page.full {
            return (after, events);
        }
        // Applying a page takes longer than reading it.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
}

/// Seen to fail when each reader waits and reads for itself: 5000 reads.
#[tokio::test(start_paused = true)]
async fn a_hundred_live_readers_cost_one_read_for_each_append() {
    const APPENDS: usize = 50;
    let store = log(10).await;
    let feed = feed(&store, 1000, 1 << 20);
    let mut readers: Vec<_> = (0..100)
        .map(|n| feed.reader([TYPES[n % 6], TYPES[(n / 6) % 6]]))
        .collect();
    for reader in &mut readers {
        read_up(reader, Position::START).await;
    }
    store.forget();

    let mut after = Position::new(10);
    for append in 0..APPENDS {
        let all = join_all(readers.iter_mut().map(async |reader| {
            reader.wait(after).await.unwrap();
            let page = reader.next(after, 1000).await.unwrap();
            assert!(!page.full);
            page.events.len()
        }));
        let appending = async {
            tokio::task::yield_now().await;
            store.append(&[TYPES[append % 6]]).await
        };
        let (seen, appended) = timeout(SOON, async { tokio::join!(all, appending) })
            .await
            .unwrap();
        assert!(seen.iter().sum::<usize>() >= 16, "somebody wanted it");
        after = appended;
    }
    let waits = store.waits.load(Ordering::SeqCst);
    println!(
        "{APPENDS} appends: {:?} reads and events, {waits} waits",
        store.cost()
    );
    assert!(store.cost().0 <= APPENDS + 2, "{:?}", store.cost());
    assert!(waits <= APPENDS + 2, "{waits}");
}

/// Seen to fail when what nobody wants wakes them: each is woken fifty times.
#[tokio::test(start_paused = true)]
async fn foreign_events_wake_idle_readers_seldom_and_whoever_is_asked_at_once() {
    const APPENDS: u64 = 50;
    let store = log(10).await;
    let feed = feed(&store, 1000, 1 << 20);
    let mut readers: Vec<_> = (0..3).map(|_| feed.reader(TYPES)).collect();
    for reader in &mut readers {
        read_up(reader, Position::START).await;
    }
    store.forget();
    let begun = Instant::now();

    let following = join_all(readers.iter_mut().map(async |reader| {
        let (mut at, mut woken) = (Position::new(10), 0);
        while at < Position::new(10 + APPENDS) {
            reader.wait(at).await.unwrap();
            at = reader.next(at, 1000).await.unwrap().covered;
            woken += 1;
        }
        woken
    }));
    let appending = async {
        for _ in 0..APPENDS {
            store.append(&["dreamt"]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (woken, ()) = tokio::join!(following, appending);
    assert!(woken.iter().all(|woken| *woken <= 2), "{woken:?}");
    assert!(begun.elapsed() < FOREIGN * 3, "{:?}", begun.elapsed());

    feed.want(Position::new(10 + APPENDS + 1));
    let waiting = readers[0].wait(Position::new(10 + APPENDS));
    let (begun, appending) = (Instant::now(), store.append(&["dreamt"]));
    tokio::join!(waiting, appending).0.unwrap();
    assert!(begun.elapsed() < FOREIGN / 10, "{:?}", begun.elapsed());
}

/// Who has come further on his own waits with the others, and his events are looked for too. Seen to fail
/// when only those who stand where the wait began are thought of.
#[tokio::test(start_paused = true)]
async fn whoever_joins_a_wait_later_hears_of_his_events_at_once() {
    let store = log(10).await;
    let feed = feed(&store, 1000, 1 << 20);
    let (mut first, mut second) = (feed.reader(["made"]), feed.reader(["left"]));
    read_up(&mut first, Position::START).await;
    let waiting = tokio::spawn(async move { first.wait(Position::new(10)).await });
    tokio::task::yield_now().await;
    store.append(&["dreamt"]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (at, _) = read_up(&mut second, Position::START).await;
    assert_eq!(at, Position::new(11));

    let begun = Instant::now();
    let (heard, _) = tokio::join!(second.wait(at), store.append(&["left"]));
    heard.unwrap();
    assert!(begun.elapsed() < FOREIGN / 10, "{:?}", begun.elapsed());
    waiting.abort();
}

/// Seen to fail when nobody counts as company: 80 reads.
#[tokio::test(start_paused = true)]
async fn shards_that_start_together_read_the_log_once() {
    let store = log(20_000).await;
    let feed = feed(&store, 1000, 16 << 20);
    let mut shards: Vec<_> = (0..4).map(|_| feed.reader(TYPES)).collect();
    let all = shards
        .iter_mut()
        .map(|shard| read_up(shard, Position::START));
    for (_, events) in join_all(all).await {
        assert_eq!(events, 20_000);
    }
    println!("reads and events: {:?}", store.cost());
    assert!(store.cost().0 <= 24, "{:?}", store.cost());
}

/// Seen to fail when only those at the very same position count as company: 84 reads.
#[tokio::test(start_paused = true)]
async fn shards_that_start_one_after_the_other_meet() {
    let store = log(20_000).await;
    let feed = feed(&store, 1000, 16 << 20);
    let mut shards = JoinSet::new();
    for shard in 0..4 {
        let mut reader = feed.reader(TYPES);
        shards.spawn(async move {
            for _ in 0..shard * 10 {
                tokio::task::yield_now().await;
            }
            read_up(&mut reader, Position::START).await
        });
    }
    while let Some(shard) = shards.join_next().await {
        assert_eq!(shard.unwrap().1, 20_000);
    }
    println!("reads and events: {:?}", store.cost());
    assert!(store.cost().0 <= 35, "{:?}", store.cost());
}

/// Seen to fail when nobody counts as company (400 000 events), and when a read that is over may be
/// joined (it never ends).
#[tokio::test(start_paused = true)]
async fn projections_with_different_types_go_through_the_past_together() {
    let store = log(12_000).await;
    let feed = feed(&store, 1000, 16 << 20);
    let mut readers: Vec<_> = (0..100)
        .map(|n| feed.reader([TYPES[n % 6], TYPES[(n + 1) % 6]]))
        .collect();
    let all = readers
        .iter_mut()
        .map(|reader| read_up(reader, Position::START));
    for (_, events) in join_all(all).await {
        assert_eq!(events, 4_000);
    }
    println!("reads and events: {:?}", store.cost());
    assert!(store.cost().1 <= 3 * 12_000, "{:?}", store.cost());
}

/// Seen to fail when those ahead count as company.
#[tokio::test(start_paused = true)]
async fn a_lone_reader_reads_only_what_it_wants() {
    let store = log(3_000).await;
    store.append(&["rare"]).await;
    let feed = feed(&store, 100, 1 << 20);
    let mut live: Vec<_> = (0..3).map(|_| feed.reader(TYPES)).collect();
    for reader in &mut live {
        reader.next(Position::new(3_001), 1000).await.unwrap();
    }
    store.forget();

    let mut rare = feed.reader(["rare"]);
    assert_eq!(read_up(&mut rare, Position::START).await.1, 1);
    assert_eq!(store.cost(), (1, 1));
    assert_eq!(store.reads.lock().unwrap()[0].0, ["rare"]);
}

/// The fast one leads for a part of the window, then goes alone; what was kept serves the slow one.
/// Seen to fail when a trail has no end: 30 000 events.
#[tokio::test(start_paused = true)]
async fn one_that_wants_little_does_not_lead_a_slow_one_through_the_whole_log() {
    let store = log(30_000).await;
    store.append(&["rare"; 10]).await;
    let feed = feed(&store, 100, 1 << 20);
    let (mut slow, mut fast) = (feed.reader(TYPES), feed.reader(["rare"]));
    let page = slow.next(Position::START, 100).await.unwrap();
    store.forget();

    assert_eq!(read_up(&mut fast, page.covered).await.1, 10);
    println!("reads and events: {:?}", store.cost());
    assert!(store.cost().1 <= 1_500, "{:?}", store.cost());

    store.forget();
    slow.next(page.covered, 500).await.unwrap();
    assert_eq!(store.cost().0, 0);
}

/// Seen to fail when only the one who began a shared read drives it.
#[tokio::test(start_paused = true)]
async fn a_future_that_rests_holds_up_nobody() {
    let store = log(3_000).await;
    let feed = feed(&store, 100, 1 << 20);
    let (mut rests, mut goes) = (feed.reader(TYPES), feed.reader(TYPES));
    rests.next(Position::START, 100).await.unwrap();
    goes.next(Position::START, 100).await.unwrap();

    let mut begun = Box::pin(rests.next(Position::new(100), 100));
    assert!((&mut begun).now_or_never().is_none());
    let reached = timeout(SOON, read_up(&mut goes, Position::START)).await;
    assert_eq!(reached.unwrap(), (Position::new(3_000), 3_000));
    assert_eq!(begun.await.unwrap().covered, Position::new(200));

    let mut waiting = Box::pin(rests.wait(Position::new(3_000)));
    assert!((&mut waiting).now_or_never().is_none());
    let also = goes.wait(Position::new(3_000));
    let (also, _) = tokio::join!(timeout(SOON, also), store.append(&["made"]));
    also.unwrap().unwrap();
}

/// Seen to fail when the window does not drop its first pages, and when nobody's leaving empties it.
#[tokio::test(start_paused = true)]
async fn those_who_stand_still_do_not_fill_the_memory() {
    let store = log(3_000).await;
    let feed = feed(&store, 100, 100_000);
    let mut goes = feed.reader(TYPES);
    let (mut still, mut after, mut most) = (Vec::new(), Position::START, 0);
    loop {
        let mut other = feed.reader(TYPES);
        other.next(after, 1).await.unwrap();
        still.push(other);
        let page = goes.next(after, 50).await.unwrap();
        most = most.max(feed.state().window.bytes());
        after = page.covered;
        if !page.full {
            break;
        }
    }
    assert!(most > 50_000 && most <= 100_000, "{most}");

    drop(still);
    let left = feed.state().window.bytes();
    assert_eq!(left, 0, "nobody is left who would come by");
}

/// Seen to fail when pages are read that do not fit into the window: 8050 events.
#[tokio::test(start_paused = true)]
async fn large_events_are_read_in_smaller_pages() {
    let store = Watched::new();
    for _ in 0..500 {
        store.append_bytes(&["made"], 10_000).await;
    }
    let feed = feed(&store, 500, 1 << 20);
    let mut shards = [feed.reader(TYPES), feed.reader(TYPES)];
    let all = shards
        .iter_mut()
        .map(|shard| read_up_by(50, shard, Position::START));
    for (_, events) in join_all(all).await {
        assert_eq!(events, 500);
    }
    println!("reads and events: {:?}", store.cost());
    assert!(store.cost().1 <= 1_000, "{:?}", store.cost());
}

/// Seen to fail when the pages of single appends are not joined.
#[tokio::test(start_paused = true)]
async fn small_pages_become_large_ones() {
    let store = log(1).await;
    let feed = feed(&store, 100, 1 << 20);
    let (mut still, mut live) = (feed.reader(TYPES), feed.reader(TYPES));
    let mut after = still.next(Position::START, 10).await.unwrap().covered;
    for _ in 0..200 {
        let (waited, _) = tokio::join!(live.wait(after), store.append(&["made"]));
        waited.unwrap();
        after = live.next(after, 10).await.unwrap().covered;
    }
    assert!(feed.state().window.pages() <= 3);
    store.forget();
    assert_eq!(read_up(&mut still, Position::new(1)).await.1, 200);
    assert_eq!(store.cost().0, 0);
}

/// Seen to fail when any wait may be joined (it hangs).
#[tokio::test(start_paused = true)]
async fn a_wait_for_later_events_does_not_stand_in_for_one_for_earlier_events() {
    let store = log(100).await;
    let feed = feed(&store, 100, 1 << 20);
    let (later, earlier) = (feed.reader(TYPES), feed.reader(TYPES));
    let mut waits_long = Box::pin(later.wait(Position::new(100)));
    assert!((&mut waits_long).now_or_never().is_none());
    let earlier = timeout(SOON, earlier.wait(Position::new(50))).await;
    earlier.unwrap().unwrap();
    assert_eq!(feed.settled(), Position::new(100));
}

/// Seen to fail when each reads for itself: only the first hears of it.
#[tokio::test(start_paused = true)]
async fn an_error_goes_to_those_who_asked_and_the_next_call_tries_again() {
    let store = log(100).await;
    let feed = feed(&store, 100, 1 << 20);
    let mut readers: Vec<_> = (0..5).map(|_| feed.reader(TYPES)).collect();
    for reader in &mut readers {
        read_up(reader, Position::START).await;
    }
    let end = Position::new(100);
    store.failures.store(1, Ordering::SeqCst);
    store.forget();
    for refused in ask_all(&mut readers, end).await {
        let error = refused.unwrap_err();
        assert!(error.is_retryable());
        assert_eq!(Chain(&error).to_string(), "could not read the log: cut off");
    }
    for page in ask_all(&mut readers, end).await {
        assert_eq!(page.unwrap().covered, end);
    }
}

async fn ask_all(readers: &mut [Reader<Watched>], after: Position) -> Vec<Result<Page, ReadError>> {
    join_all(readers.iter_mut().map(|reader| reader.next(after, 10))).await
}

/// Seen to fail when the feed keeps the flights alive.
#[tokio::test(start_paused = true)]
async fn nothing_runs_for_those_who_are_gone() {
    let store = log(300).await;
    let feed = feed(&store, 100, 1 << 20);
    let mut readers: Vec<_> = (0..5).map(|_| feed.reader(TYPES)).collect();
    for reader in &mut readers {
        read_up(reader, Position::START).await;
    }
    let end = store.settled().await.unwrap();
    {
        let mut waiting = join_all(readers.iter().map(|reader| reader.wait(end)));
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
    }
    // Aborted, it still has to be seen off.
    tokio::task::yield_now().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    drop((feed, readers));
    assert_eq!(Arc::strong_count(&store), 1);
}
