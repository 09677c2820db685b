//! Many readers with different types, speeds and limits; futures dropped in the middle; readers that come
//! and go; a store that is slow and fails; appends going on.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use es_core::{EventStore, Filter, MemoryStore, Name, Position};
use futures::poll;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use uuid::Uuid;

use super::{
    super::{Feed, Page, Reader},
    TYPES, feed,
    store::{Dice, Watched},
};

const WINDOW: usize = 30_000;

/// Seen to fail when a page is given to one whose types it lacks, when a page is taken from its
/// beginning, when `covered` is that of the page though the limit cut it, when pages of different types
/// are joined, and when a reader never gives up shared pages that do not stay in the window (it hangs).
#[test]
fn every_reader_sees_exactly_its_part_of_the_log() {
    let seeds = std::env::var("FEED_SEED").map_or(0..60, |seed| {
        let seed = seed.parse().expect("a number");
        seed..seed + 1
    });
    for seed in seeds {
        println!("FEED_SEED={seed}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // Paused time passes when nothing else can happen: a lost wake-up ends here at once.
        let limit = Duration::from_secs(60);
        runtime.block_on(async { timeout(limit, history(seed)).await.expect("hangs") });
        assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    }
}

async fn history(seed: u64) {
    let mut dice = Dice(seed);
    let store = Arc::new(Watched {
        moods: Some(Mutex::new(Dice(!seed))),
        ..Watched::default()
    });
    let window = [WINDOW, WINDOW, 2_000, 0][dice.below(4)];
    let page_events = [1, 3, 10, 40][dice.below(4)];
    let feed = feed(&store, page_events, window);
    for _ in 0..dice.below(300) {
        append(&store, &mut dice).await;
    }
    let mut readers = JoinSet::new();
    let (starting, mut started) = mpsc::channel::<()>(1);
    for reader in 0..3 + dice.below(12) {
        let dice = Dice(seed ^ (reader as u64) << 32);
        let (feed, store) = (Arc::clone(&feed), store.inner.clone());
        readers.spawn(read(feed, store, dice, window, starting.clone()));
    }
    for _ in 0..100 {
        append(&store, &mut dice).await;
        pause(&mut dice, 6).await;
    }
    // So that everybody knows where the end is, and nobody starts behind it.
    drop(starting);
    assert!(started.recv().await.is_none());
    store.append(&["end"]).await;
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    drop(feed);
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&store), 1, "a task is left");
}

async fn append(store: &Watched, dice: &mut Dice) {
    let types: Vec<_> = (0..1 + dice.below(4))
        .map(|_| TYPES[dice.below(6)])
        .collect();
    store.append(&types).await;
}

/// Reads until it has seen the event "end", and then compares.
async fn read(
    feed: Arc<Feed<Watched>>,
    store: MemoryStore,
    mut dice: Dice,
    window: usize,
    starting: mpsc::Sender<()>,
) {
    let mut types: Vec<&str> = TYPES.into_iter().filter(|_| dice.below(3) == 0).collect();
    types.push("end");
    pause(&mut dice, 60).await;
    let start = match dice.below(3) {
        0 => Position::START,
        1 => feed.settled(),
        _ => {
            let end = usize::try_from(store.settled().await.unwrap().get()).unwrap();
            Position::new(dice.below(end + 1) as u64)
        }
    };
    drop(starting);
    let patience = 1 + dice.below(20);
    let slowness = 1 + dice.below(20);
    let (mut after, mut seen) = (start, Vec::<(Position, Uuid)>::new());
    let mut reader = feed.reader(types.iter().copied());
    loop {
        let limit = u32::try_from(1 + dice.below(30)).unwrap();
        if let Some(page) = some_of(patience, &mut dice, &mut reader, after, limit).await {
            assert!(page.covered >= after);
            assert!(page.events.len() <= limit as usize);
            assert!(feed.state().window.bytes() <= window);
            after = page.covered;
            let ended = page.events.iter().any(|event| event.event_type == "end");
            seen.extend(page.events.iter().map(|e| (e.position, e.event_id)));
            if ended {
                break;
            }
        }
        pause(&mut dice, slowness).await;
        if dice.below(20) == 0 {
            reader = feed.reader(types.iter().copied());
        }
    }
    let filter = Filter::event_types(types.into_iter().map(Name::from));
    let whole = store.read_log(&filter, start, u32::MAX).await.unwrap();
    let whole: Vec<_> = whole
        .events
        .iter()
        .map(|e| (e.position, e.event_id))
        .collect();
    assert_eq!(seen, whole);
}

/// A page, if there is one before patience runs out, with a wait after an empty one.
async fn some_of(
    patience: usize,
    dice: &mut Dice,
    reader: &mut Reader<Watched>,
    after: Position,
    limit: u32,
) -> Option<Page> {
    let next = async {
        let page = reader.next(after, limit).await.ok()?;
        if page.covered == after && !page.full {
            reader.wait(after).await.ok()?;
        }
        Some(page)
    };
    let mut next = pin!(next);
    // Half of them have patience without end: else nobody would wait for long.
    let polls = match dice.below(2) {
        0 => usize::MAX,
        _ => patience,
    };
    for _ in 0..polls {
        if let Poll::Ready(page) = poll!(next.as_mut()) {
            return page;
        }
        match polls {
            usize::MAX => return next.await,
            _ => pause(dice, 3).await,
        }
    }
    None
}

async fn pause(dice: &mut Dice, end: usize) {
    for _ in 0..dice.below(end) {
        tokio::task::yield_now().await;
    }
}
