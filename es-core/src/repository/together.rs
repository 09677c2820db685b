//! Several aggregates saved in one transaction.

use crate::{Aggregate, Append, Appended, EventStore, Root, SaveError};

/// A [`Root`] of any aggregate: what [`save_all`] takes. Nothing else implements it.
pub trait AnyRoot: sealed::Unsaved {}

impl<A: Aggregate> AnyRoot for Root<A> {}

/// Appends the uncommitted events of all `roots`, or none of them: one decision that touches several
/// aggregates, of one kind or of several.
///
/// As with [`Repository::save`](crate::Repository::save), the events leave the roots only after the
/// commit, and a failed call can be repeated. The answers are those of the roots that had something to
/// save, in their order.
///
/// Prefer one aggregate for each decision where you can: two aggregates that must always change
/// together are often one. No snapshots are taken here.
///
/// ```
/// use es_core::{Aggregate, Apply, Event, MemoryStore, Repository, Start, save_all};
/// use serde::{Deserialize, Serialize};
/// use uuid::Uuid;
///
/// #[derive(Event, Serialize, Deserialize)]
/// struct Opened { cents: u64 }
/// #[derive(Event, Serialize, Deserialize)]
/// struct Withdrawn { cents: u64 }
/// #[derive(Event, Serialize, Deserialize)]
/// struct Deposited { cents: u64 }
///
/// #[derive(Aggregate, Serialize, Deserialize)]
/// #[aggregate(starts(Opened), events(Withdrawn, Deposited))]
/// struct Account { cents: u64 }
///
/// impl Start<Opened> for Account {
///     fn start(event: &Opened) -> Self { Account { cents: event.cents } }
/// }
/// impl Apply<Withdrawn> for Account {
///     fn apply(&mut self, event: &Withdrawn) { self.cents -= event.cents; }
/// }
/// impl Apply<Deposited> for Account {
///     fn apply(&mut self, event: &Deposited) { self.cents += event.cents; }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let accounts = Repository::<Account>::new(store.clone());
/// let (alice, bob) = (Uuid::now_v7(), Uuid::now_v7());
/// accounts.create(alice, Opened { cents: 100 }).await?;
/// accounts.create(bob, Opened { cents: 0 }).await?;
///
/// let mut from = accounts.load(alice).await?;
/// let mut to = accounts.load(bob).await?;
/// if from.cents >= 30 {
///     from.raise(Withdrawn { cents: 30 });
///     to.raise(Deposited { cents: 30 });
/// }
/// save_all(&store, &mut [&mut from, &mut to]).await?;
///
/// assert_eq!(accounts.load(alice).await?.cents, 70);
/// assert_eq!(accounts.load(bob).await?.cents, 30);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`SaveError`]; it names the stream that stood in the way. On a conflict load them again and
/// decide again. A store that cannot do this answers
/// [`AppendError::Invalid`](crate::AppendError::Invalid) (see
/// [`Capabilities`](crate::Capabilities)).
pub async fn save_all(
    store: &dyn EventStore,
    roots: &mut [&mut dyn AnyRoot],
) -> Result<Vec<Appended>, SaveError> {
    let mut appends = Vec::with_capacity(roots.len());
    for root in roots.iter() {
        appends.extend(root.unsaved()?);
    }
    if appends.is_empty() {
        return Ok(Vec::new());
    }
    let answers = store.append_all(&appends).await?;
    let changed = roots.iter_mut().filter(|root| root.has_unsaved());
    for (root, appended) in changed.zip(&answers) {
        root.saved(*appended);
    }
    Ok(answers)
}

mod sealed {
    use super::*;

    pub trait Unsaved: Send {
        fn has_unsaved(&self) -> bool;
        fn unsaved(&self) -> Result<Option<Append>, SaveError>;
        fn saved(&mut self, appended: Appended);
    }

    impl<A: Aggregate> Unsaved for Root<A> {
        fn has_unsaved(&self) -> bool {
            self.uncommitted().len() > 0
        }

        fn unsaved(&self) -> Result<Option<Append>, SaveError> {
            self.has_unsaved().then(|| self.to_append()).transpose()
        }

        fn saved(&mut self, appended: Appended) {
            self.committed(appended);
        }
    }
}
