//! When the process is told to stop.

/// Returns when the process is told to stop: Ctrl-C, on Unix also SIGTERM. If the signals cannot be
/// heard it never returns, and the process ends as it would without this.
///
/// ```no_run
/// # async fn serve() {}
/// # async fn example() {
/// tokio::select! {
///     () = es_projections::told_to_stop() => {}
///     () = serve() => {}
/// }
/// # }
/// ```
pub async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            (Err(error), _) | (_, Err(error)) => deaf(&error).await,
        }
    }
    #[cfg(not(unix))]
    if let Err(error) = tokio::signal::ctrl_c().await {
        deaf(&error).await;
    }
}

async fn deaf(error: &std::io::Error) {
    tracing::error!(%error, "cannot hear signals; the process will end without finishing its batches");
    std::future::pending().await
}
