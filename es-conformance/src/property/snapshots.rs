//! What snapshots and visits must show.

use es_core::{Snapshot, StreamId, Version, Visit};

use super::{history::History, operation::Look};
use crate::{Store, snapshot::load, visit::Seen};

impl<S: Store> History<'_, S> {
    pub(super) async fn load_snapshot(&self, stream: u8, at_most: u32) {
        let id = self.names.stream(stream);
        let found = load(self.store, id, Version::new(at_most)).await;
        let version = self.model.newest_snapshot(stream, at_most);
        let expected = version.and_then(|version| self.saved(id, version));
        assert_eq!(
            found.as_ref(),
            expected,
            "the newest snapshot up to {at_most}"
        );
    }

    pub(super) async fn visit(&self, look: &Look) {
        let id = self.names.stream(look.stream);
        let mut seen = Seen::answering(look.believes, look.stop_after);
        let visit = Visit {
            stream: id.clone(),
            after: Version::new(look.after),
            at_most: Version::new(look.at_most),
            snapshot: look.snapshot,
        };
        seen.visit(self.store, &visit).await;

        let offered: Vec<_> = seen
            .offered
            .iter()
            .map(|offer| offer.version.get())
            .collect();
        let offers = self.offers(look);
        assert!(
            offers.contains(&offered),
            "offered {offered:?}, must be one of {offers:?}"
        );
        let from = match offered[..] {
            [version] if look.believes => version,
            _ => look.after,
        };
        let entries = self.model.stream(look.stream);
        let in_range =
            entries.filter(|entry| from < entry.version && entry.version <= look.at_most);
        let most = look.stop_after.unwrap_or(usize::MAX);
        let expected: Vec<_> = in_range
            .take(most)
            .map(|entry| {
                (
                    entry.version,
                    self.names.name(entry.kind()),
                    self.names.data(entry),
                )
            })
            .collect();
        let shown: Vec<_> = seen
            .events
            .into_iter()
            .map(|event| (event.version.get(), event.event_type.into(), event.data))
            .collect();
        assert_eq!(shown, expected, "what a visit shows");
    }

    /// What a visitor may be offered. One newest snapshot that is ahead of its stream may hide the
    /// others or be passed over.
    fn offers(&self, look: &Look) -> Vec<Vec<u32>> {
        let newest = |at_most| {
            let newest = self.model.newest_snapshot(look.stream, at_most);
            newest.filter(|version| look.snapshot && *version > look.after)
        };
        let version = self.model.version(look.stream);
        match newest(look.at_most) {
            None => vec![vec![]],
            Some(newest) if newest <= version => vec![vec![newest]],
            Some(_) => vec![
                vec![],
                newest(look.at_most.min(version)).into_iter().collect(),
            ],
        }
    }

    fn saved(&self, stream: &StreamId, version: u32) -> Option<&Snapshot> {
        let mut newest_first = self.snapshots.iter().rev();
        newest_first.find(|saved| saved.stream() == *stream && saved.version.get() == version)
    }
}
