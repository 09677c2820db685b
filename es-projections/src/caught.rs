//! Panics of others, as failures.

use std::{any::Any, panic::AssertUnwindSafe};

use es_core::{Failure, FailureKind};
use futures::FutureExt;

/// What the future returns; if it panics, that. Whatever it was changing is given up by the caller.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let ended = AssertUnwindSafe(future).catch_unwind().await;
    ended.map_err(|panic| Failure::new(FailureKind::Panicked, said(&*panic)))
}

/// What a panic said, if it was text.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}
