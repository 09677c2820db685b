//! Runs one check so that a panic and a hang are both failures.

use std::{any::Any, fmt, future::Future, time::Duration};

use es_core::{EventStore, ProjectionStore, SnapshotStore};
use futures::future::BoxFuture;
use tokio::time::timeout;

/// How long one check of [`store_tests!`](crate::store_tests) may take: more is a hang.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Everything a backend must be for all checks. A clone is another handle on the same store.
pub trait Store: EventStore + SnapshotStore + ProjectionStore + Clone + 'static {}

impl<S: EventStore + SnapshotStore + ProjectionStore + Clone + 'static> Store for S {}

/// One sentence of the contract, ready to be run on a store of type `S`.
pub struct Check<S> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(S) -> BoxFuture<'static, ()>,
}

impl<S: Store> Check<S> {
    /// Its module and name, for example `append::an_empty_append_is_invalid`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it on a fresh store, for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Failure`], if it panicked or took too long.
    pub async fn run(&self, store: S, limit: Duration) -> Result<(), Failure> {
        within(limit, (self.run)(store)).await
    }
}

impl<S> fmt::Debug for Check<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// Why a check did not pass: the message of its panic, or that it took too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// The body of one `#[test]`: a runtime with two threads, so that a store that blocks one of them
/// is seen to hang.
#[doc(hidden)]
pub fn test<S, F>(name: &str, store: impl Future<Output = S> + Send + 'static, check: fn(S) -> F)
where
    S: Store,
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(within(TIME_LIMIT, async move {
        check(store.await).await;
    }));
    runtime.shutdown_timeout(Duration::from_secs(5));
    if let Err(failure) = outcome {
        panic!("{name}: {failure}");
    }
}

async fn within(
    limit: Duration,
    check: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let mut task = tokio::spawn(check);
    match timeout(limit, &mut task).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure(match error.try_into_panic() {
            Ok(panic) => message(&*panic),
            Err(error) => error.to_string(),
        })),
        Err(_) => {
            task.abort();
            Err(Failure(format!("did not end within {limit:?}")))
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "panicked without a message".to_owned())
}
