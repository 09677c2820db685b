//! Histories made up at random: whatever is done to a store, it does what a simple model says.

mod history;
mod model;
mod names;
mod operation;
mod snapshots;

use std::{fmt::Write, future::Future, time::Duration};

use proptest::{
    strategy::Just,
    test_runner::{Config, Reason, TestCaseError, TestError, TestRunner},
};
use tokio::{runtime::Runtime, time::timeout};

use self::{
    history::History,
    operation::{Operation, operations},
};
use crate::{Failure, Store, TIME_LIMIT};

/// How many histories are tried, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 32;
/// How many shorter histories are tried, once one has failed.
const SHRINKS: u32 = 4_096;

/// Tests a store against a model with histories made up at random: appends with right and wrong
/// expectations, repeated and overlapping ids, several streams at once, erasures, snapshots, and reads
/// of all kinds. A history that fails is shrunk to the shortest that still does.
///
/// All histories run on one store, each with streams of its own; nobody else may write to it meanwhile.
/// `PROPTEST_CASES` sets how many there are.
///
/// ```
/// es_conformance::property_tests!(async { es_core::MemoryStore::new() });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! property_tests {
    ($store:expr $(,)?) => {
        #[cfg(test)]
        #[test]
        fn every_history_is_as_the_model_says() {
            if let Err(failure) = $crate::check_histories($store) {
                panic!("{failure}");
            }
        }
    };
}

/// What [`property_tests!`](crate::property_tests) runs, for those who want to see it fail.
///
/// # Errors
///
/// [`Failure`], with the shortest history found that the store gets wrong.
///
/// # Panics
///
/// If no runtime can be started, or if it is called inside of one.
pub fn check_histories<S: Store>(store: impl Future<Output = S>) -> Result<(), Failure> {
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(store);
    let holds = |operations: Vec<Operation>| {
        runtime.block_on(async {
            let history = History::new(&store).await.run(&operations);
            timeout(TIME_LIMIT, history)
                .await
                .map_err(|_| TestCaseError::fail(format!("did not end within {TIME_LIMIT:?}")))
        })
    };
    let outcome = TestRunner::new(config()).run(&operations(), holds);
    let outcome = outcome.map_err(|error| match error {
        TestError::Abort(reason) => Failure(format!("no history could be tried: {reason}")),
        TestError::Fail(reason, history) => Failure(describe(shorten(reason, history, holds))),
    });
    // A pool of connections is closed inside of its runtime.
    runtime.block_on(async move { drop(store) });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

fn config() -> Config {
    let mut config = Config {
        max_shrink_iters: SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config
}

/// Leaves out one operation after the other for as long as the rest still fails. The runner tries this
/// too, but only before it has made the operations simpler.
fn shorten(
    mut reason: Reason,
    mut history: Vec<Operation>,
    holds: impl Fn(Vec<Operation>) -> Result<(), TestCaseError>,
) -> (Reason, Vec<Operation>) {
    let mut n = 0;
    while n < history.len() {
        let mut shorter = history.clone();
        shorter.remove(n);
        let config = Config {
            cases: 1,
            ..config()
        };
        match TestRunner::new(config).run(&Just(shorter), &holds) {
            Err(TestError::Fail(why, shorter)) => {
                (reason, history) = (why, shorter);
                n = 0;
            }
            _ => n += 1,
        }
    }
    (reason, history)
}

fn describe((reason, history): (Reason, Vec<Operation>)) -> String {
    let count = history.len();
    let mut text = format!("{reason}\nthe shortest history found has {count} operation(s):");
    for (n, operation) in history.iter().enumerate() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n{:>3}. {operation:?}", n + 1);
    }
    text
}
