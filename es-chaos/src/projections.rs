//! What the daemons run: an oracle that comes in many versions, a projection in shards, and one that may be
//! repeated.

use es_core::{BoxError, Project, Projection, Recorded, RecordedEvent};
use uuid::Uuid;

use crate::{
    account::{All, Money},
    read_model::ReadModel,
    tables::Tables,
};

pub(crate) const ORACLE: &str = "oracle";
pub(crate) const SHARDED: &str = "sharded";
pub(crate) const FOLDED: &str = "folded";

/// There are so many versions of the oracle.
pub(crate) const VERSIONS: u32 = 12;

/// Refuses each event that is not the next of its aggregate. Its versions replace each other.
#[derive(Debug)]
pub(crate) struct Oracle<const V: u32>(pub(crate) ReadModel);

/// The same in several shards.
#[derive(Debug)]
pub(crate) struct Sharded(pub(crate) ReadModel);

/// Wants some of the events only, and may be rewound.
#[derive(Debug)]
pub(crate) struct Folded(pub(crate) ReadModel);

impl<const V: u32> Projection for Oracle<V> {
    const NAME: &'static str = ORACLE;
    const VERSION: u32 = V;
    type Event = <All as Projection>::Event;
}

impl Projection for Sharded {
    const NAME: &'static str = SHARDED;
    type Event = <All as Projection>::Event;
}

impl Projection for Folded {
    const NAME: &'static str = FOLDED;
    const REPEATABLE: bool = true;
    type Event = <Money as Projection>::Event;
}

fn records<E>(events: &[Recorded<E>]) -> impl Iterator<Item = &RecordedEvent> + Clone {
    events.iter().map(|event| &event.record)
}

macro_rules! keep {
    ($([$($generics:tt)*] $projection:ty),*) => {$(
        impl<C: Tables, $($generics)*> Project<C> for $projection {
            async fn set_up(&self, db: &mut C) -> Result<(), BoxError> {
                self.0.set_up(db).await
            }

            async fn project(
                &self,
                db: &mut C,
                events: &[Recorded<Self::Event>],
            ) -> Result<(), BoxError> {
                self.0.project(db, records(events)).await
            }

            async fn emit(
                &self,
                db: &mut C,
                events: &[Recorded<Self::Event>],
            ) -> Result<(), BoxError> {
                self.0.emit(db, records(events)).await
            }

            async fn activate(&self, db: &mut C) -> Result<(), BoxError> {
                self.0.serve(db).await
            }

            async fn clear(&self, db: &mut C) -> Result<(), BoxError> {
                self.0.clear(db).await
            }

            async fn clear_aggregate(&self, db: &mut C, id: Uuid) -> Result<(), BoxError> {
                self.0.clear_aggregate(db, id).await
            }
        }
    )*};
}

keep!([const V: u32] Oracle<V>, [] Sharded, [] Folded);
