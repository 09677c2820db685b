//! Work that several readers wait for: a task that ends, or is aborted, with the last of them.

use std::{error::Error, fmt, sync::Arc};

use es_core::{Position, ReadError};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio_util::task::AbortOnDropHandle;

/// How far the log was read.
type Outcome = Result<Position, Arc<ReadError>>;

/// A share in the work.
pub(super) type Flight = Shared<BoxFuture<'static, Outcome>>;

pub(super) fn start(
    work: impl Future<Output = Result<Position, ReadError>> + Send + 'static,
) -> Flight {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    let outcome = async move {
        let ended = task.await.unwrap_or_else(|stopped| {
            Err(ReadError::Backend {
                what: "the log".to_owned(),
                transient: true,
                source: stopped.into(),
            })
        });
        ended.map_err(Arc::new)
    };
    outcome.boxed().shared()
}

/// Work that may be joined. Does not keep it alive.
pub(super) struct Underway {
    pub(super) after: Position,
    flight: WeakShared<BoxFuture<'static, Outcome>>,
}

impl Underway {
    pub(super) fn new(after: Position, flight: &Flight) -> Option<Self> {
        let flight = flight.downgrade()?;
        Some(Self { after, flight })
    }

    /// A share, unless the work is over.
    pub(super) fn flight(&self) -> Option<Flight> {
        self.flight
            .upgrade()
            .filter(|flight| flight.peek().is_none())
    }
}

/// The same error for each who waited.
pub(super) fn shared(error: &Arc<ReadError>) -> ReadError {
    let what = match &**error {
        ReadError::Corrupt { what, problem } => {
            return ReadError::Corrupt {
                what: what.clone(),
                problem: problem.clone(),
            };
        }
        ReadError::Backend { what, .. } => what.as_str(),
        _ => "the log",
    };
    ReadError::Backend {
        what: what.to_owned(),
        transient: error.is_retryable(),
        source: Box::new(Cause(Arc::clone(error))),
    }
}

/// The cause of a shared error, as if it were owned.
#[derive(Debug)]
struct Cause(Arc<ReadError>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for Cause {
    /// Not what is behind it: some look for the cause by its type.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
