//! What is kept has a limit, in number and in bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

use es_core::{Aggregate, AggregateCache, Apply, Event, MemoryStore, Repository, Start};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Event, Serialize, Deserialize)]
struct Written {
    text: String,
}

/// States in memory, right now.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct Alive(());

impl Default for Alive {
    fn default() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Extended {
    text: String,
}

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Written), events(Extended))]
struct Note {
    text: String,
    #[serde(skip)]
    alive: Alive,
}

impl Start<Written> for Note {
    fn start(event: &Written) -> Self {
        Self {
            text: event.text.clone(),
            alive: Alive::default(),
        }
    }
}

impl Apply<Extended> for Note {
    fn apply(&mut self, event: &Extended) {
        let Self {
            text,
            alive: Alive(()),
        } = self;
        text.push_str(&event.text);
    }
}

impl Note {
    fn extend(&self, bytes: usize) -> Result<Extended, &'static str> {
        Ok(Extended {
            text: "x".repeat(bytes),
        })
    }
}

/// The most states that were in memory at once while `notes` new ones of 1,000 bytes got `events` more
/// of as many bytes each, one note after the other.
async fn peak(size: AggregateCache, notes: usize, events: usize) -> usize {
    let repository = Repository::<Note>::new(MemoryStore::new()).cache(size);
    let mut peak = 0;
    for _ in 0..notes {
        let id = Uuid::now_v7();
        let text = "x".repeat(1_000);
        repository.create(id, Written { text }).await.unwrap();
        for _ in 0..events {
            repository
                .update(id, |note| note.extend(1_000))
                .await
                .unwrap();
        }
        peak = peak.max(ALIVE.load(Ordering::SeqCst));
    }
    drop(repository);
    peak
}

/// Seen to fail when entries do not count for their share, when they are not weighed again as they
/// grow, when one that is too large alone is kept, when the limit is looked at only now and then, and
/// when the state of a forgotten one lives on until the cache lets go of its entry. One test, because
/// it counts all that is alive.
#[tokio::test]
async fn memory_is_bounded_by_entries_and_by_bytes() {
    let size = AggregateCache::new();

    let by_entries = peak(size.entries(20), 2_000, 1).await;
    assert!((15..=20).contains(&by_entries), "{by_entries}");

    // A note is 2,000 bytes and a few.
    let by_bytes = peak(size.bytes(50_000), 2_000, 1).await;
    assert!((20..=24).contains(&by_bytes), "{by_bytes}");

    // And here 8,000, of which it has 2,000 when it comes in.
    let grown = peak(size.bytes(50_000), 500, 7).await;
    assert!((4..=6).contains(&grown), "{grown}");

    assert_eq!(peak(size.bytes(1_500), 20, 1).await, 0);
    assert_eq!(peak(AggregateCache::none(), 20, 1).await, 0);
}
