//! Snapshots and visits with a mechanism taken out.

use std::ops::ControlFlow;

use async_trait::async_trait;
use es_core::{
    EventView, Json, ReadError, Snapshot, SnapshotError, SnapshotStore, SnapshotView, StreamId,
    StreamVisitor, Version, Visit,
};

use super::FaultyStore;
use crate::fault::Fault;

#[async_trait]
impl SnapshotStore for FaultyStore {
    async fn load_snapshot(
        &self,
        stream: &StreamId,
        at_most: Version,
    ) -> Result<Option<Snapshot>, ReadError> {
        match self.fault {
            Fault::FindsTooNewASnapshot => self.inner.load_snapshot(stream, Version::MAX).await,
            Fault::FindsTheSnapshotOfAnother => Ok(self.kept_snapshots().last().cloned()),
            Fault::KeepsErasedSnapshots => {
                let kept = self.kept_snapshots();
                let of_stream = kept.iter().filter(|kept| {
                    kept.aggregate_id == stream.aggregate_id && kept.version <= at_most
                });
                Ok(of_stream.max_by_key(|kept| kept.version).cloned())
            }
            _ => self.inner.load_snapshot(stream, at_most).await,
        }
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let mut snapshot = snapshot.clone();
        if self.fault == Fault::RewritesTheState {
            snapshot.state = Json::from_stored(snapshot.state.as_str().replace(' ', ""));
        }
        self.kept_snapshots().push(snapshot.clone());
        self.inner.save_snapshot(&snapshot).await
    }

    async fn visit_stream(
        &self,
        visit: &Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        let mut visit = visit.clone();
        match self.fault {
            Fault::IgnoresTheAggregateType => visit.stream = self.owner(&visit.stream).await,
            Fault::VisitsOnePage => {
                let page = Version::new(visit.after.get() + 1_000);
                visit.at_most = visit.at_most.min(page);
            }
            Fault::VisitsToTheEnd => visit.at_most = Version::MAX,
            Fault::OffersUnasked => visit.snapshot = true,
            Fault::OffersTooNewASnapshot if visit.snapshot => {
                self.offer_at_most(Version::MAX, &mut visit, visitor)
                    .await?;
            }
            Fault::OffersASnapshotAheadOfItsStream if visit.snapshot => {
                self.offer_at_most(visit.at_most, &mut visit, visitor)
                    .await?;
            }
            _ => {}
        }
        let mut deaf = Misled {
            store: self,
            visitor,
        };
        self.inner.visit_stream(&visit, &mut deaf).await
    }
}

impl FaultyStore {
    /// Offers a snapshot without a look at the stream; what is left of the visit is in `visit`.
    async fn offer_at_most(
        &self,
        at_most: Version,
        visit: &mut Visit,
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), ReadError> {
        visit.snapshot = false;
        let found = self.inner.load_snapshot(&visit.stream, at_most).await?;
        if let Some(found) = found
            && visitor.snapshot(SnapshotView {
                version: found.version,
                fingerprint: found.fingerprint.as_deref(),
                state: found.state.as_str(),
            })
        {
            visit.after = found.version;
        }
        Ok(())
    }
}

/// A visitor whose answers do not reach the store, and who is told something else.
struct Misled<'a> {
    store: &'a FaultyStore,
    visitor: &'a mut dyn StreamVisitor,
}

impl StreamVisitor for Misled<'_> {
    fn snapshot(&mut self, snapshot: SnapshotView<'_>) -> bool {
        let believed = self.visitor.snapshot(snapshot);
        match self.store.fault {
            Fault::BelievesForTheVisitor => true,
            Fault::RepeatsWhatTheSnapshotHas => false,
            _ => believed,
        }
    }

    fn event(&mut self, event: EventView<'_>) -> ControlFlow<()> {
        let answer = match (self.store.fault, self.store.original(event)) {
            (Fault::ShowsErasedToVisitors, Some(original)) => self.visitor.event(EventView {
                data: &original,
                ..event
            }),
            _ => self.visitor.event(event),
        };
        match self.store.fault {
            Fault::IgnoresTheBreak => ControlFlow::Continue(()),
            _ => answer,
        }
    }
}

impl FaultyStore {
    fn original(&self, event: EventView<'_>) -> Option<String> {
        let instead = self.instead();
        let mut originals = instead.values();
        let original = originals.find(|kept| kept.event_version == event.version)?;
        Some(original.event_data.as_str().to_owned())
    }
}
