//! Waiting for events costs little while there are none.

use std::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use es_core::{EventStore, Position};
use es_sqlx::sqlite::SqliteOptions;
use tokio::time::{sleep, timeout};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{add, alive, folder, lamp, open};

const MARK: &str = "SELECT 'the fifty'";
const LOOK: &str = "SELECT last_position FROM log_head";

/// How often the marked connection has looked at the end of the log.
static LOOKS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Each connection has a thread of its own, and says there what it has run.
    static IS_MARKED: Cell<bool> = const { Cell::new(false) };
}

struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Statement);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Statement;

impl Visit for Statement {
    fn record_str(&mut self, _: &Field, text: &str) {
        if text == MARK {
            IS_MARKED.set(true);
        } else if text == LOOK && IS_MARKED.get() {
            LOOKS.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Seen to fail (more than 1,000 looks) when each of those who wait looks for itself, and (hundreds) when
/// every commit of somebody else wakes them: a node that is alive commits something every few seconds.
#[tokio::test]
async fn of_fifty_that_wait_none_looks_until_somebody_else_has_appended() {
    tracing::subscriber::set_global_default(Counter).unwrap();
    let (_folder, file) = folder();
    let store = SqliteOptions::new(file.to_str().unwrap())
        .readers(1)
        .open()
        .await
        .unwrap();
    sqlx::query(MARK).execute(store.pool()).await.unwrap();
    let mut waiting: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.wait_for_events(Position::START).await })
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    // Whoever may be the one that looks for the others, they do without it.
    waiting.remove(0).abort();
    let before = LOOKS.load(Ordering::Relaxed);
    assert!(before >= 50, "each looks before it waits: {before}");
    sleep(Duration::from_millis(500)).await;
    let other = open(&file).await;
    for _ in 0..10 {
        alive(&other, Duration::from_secs(30)).await;
        sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(LOOKS.load(Ordering::Relaxed) - before, 0);

    add(&other, &lamp(), 1).await;

    for waiting in waiting {
        timeout(Duration::from_secs(2), waiting)
            .await
            .expect("it must wake")
            .unwrap()
            .unwrap();
    }
    let looks = LOOKS.load(Ordering::Relaxed) - before;
    assert!((49..=150).contains(&looks), "{looks}");
}

/// Seen to fail when one of those who wait looks for the others until it ends: here it is one that nobody
/// polls any more.
#[tokio::test]
async fn one_that_nobody_polls_is_not_waited_for() {
    let (_folder, file) = folder();
    let store = open(&file).await;
    let mut parked = Box::pin(store.wait_for_events(Position::START));
    let polled = timeout(Duration::from_millis(100), &mut parked).await;
    assert!(polled.is_err(), "{polled:?}");
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.wait_for_events(Position::START).await })
    };
    sleep(Duration::from_millis(100)).await;
    add(&open(&file).await, &lamp(), 1).await;
    let answer = timeout(Duration::from_secs(1), waiting).await;
    answer.expect("it must wake").unwrap().unwrap();
    drop(parked);
}

/// Closing the store ends the waiting of those that wait, also if nobody polls the one that watches.
#[tokio::test]
async fn closing_wakes_those_that_wait() {
    let (_folder, file) = folder();
    for store in [
        open(&file).await,
        es_sqlx::SqliteStore::in_memory().await.unwrap(),
    ] {
        let parked = {
            let store = store.clone();
            let mut parked = Box::pin(async move { store.wait_for_events(Position::START).await });
            let polled = timeout(Duration::from_millis(100), &mut parked).await;
            assert!(polled.is_err(), "{polled:?}");
            parked
        };
        let waiting = {
            let store = store.clone();
            tokio::spawn(async move { store.wait_for_events(Position::START).await })
        };
        sleep(Duration::from_millis(50)).await;
        timeout(Duration::from_secs(5), store.close())
            .await
            .expect("closing waits for nobody who waits");
        let answer = timeout(Duration::from_secs(5), waiting).await;
        answer.expect("it must wake").unwrap().unwrap_err();
        drop(parked);
    }
}
