//! A daemon as in a process of its own, which can be killed.

use es_projections::{Daemon, DaemonHandle};
use tokio::runtime::{Builder, Runtime};

use crate::bench::Bench;

/// A daemon on a runtime and on connections of its own.
pub(crate) struct Process<B: Bench> {
    pub(crate) daemon: DaemonHandle<B::Store>,
    runtime: Option<Runtime>,
}

impl<B: Bench> Process<B> {
    pub(crate) async fn start(
        bench: &B,
        equip: impl FnOnce(Daemon<B::Store>) -> Daemon<B::Store> + Send + 'static,
    ) -> Self {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let bench = bench.clone();
        let started = runtime.spawn(async move {
            let store = bench.again().await;
            equip(Daemon::new(store)).start().await.unwrap()
        });
        Self {
            daemon: started.await.unwrap(),
            runtime: Some(runtime),
        }
    }

    /// Nothing of it runs any more, wherever it was; nobody is told.
    pub(crate) fn kill(self) {}
}

impl<B: Bench> Drop for Process<B> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
