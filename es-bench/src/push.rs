//! What telling other processes costs the writers: on Postgres, with and without NOTIFY.

use std::sync::Arc;

use es_core::{EventStore, Position};
use es_sqlx::PgStore;

use crate::{
    backend::{self, Backend},
    compare::{self, Plan},
    ours::Ours,
    side::{Result, Side},
    workloads::Workload,
};

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    if !plan.backends.contains(&Backend::Postgres) {
        return Err("SQLite tells nobody: ask for --backend postgres".into());
    }
    let [told, listener, silent] = backend::open_push().await?;
    let heard = tokio::spawn(listen(listener));
    let sides: [Arc<dyn Side>; 2] = [Arc::new(Ours::new(told, 0)), Arc::new(Ours::new(silent, 0))];
    let workload = Workload::Append {
        tasks: 16,
        batch: 1,
    };
    let [with, without] = compare::interleave(workload, &sides, plan)
        .await?
        .try_into()
        .map_err(|_| "two sides have two summaries")?;
    heard.abort();
    println!(
        "\nappend 1 event, 16 tasks: {:.0}/s with another process listening, {:.0}/s without NOTIFY: ratio {:.2}, of best {:.2}",
        with.rate(),
        without.rate(),
        with.rate() / without.rate(),
        with.best() / without.best(),
    );
    Ok(())
}

/// As another process would.
async fn listen(store: PgStore) -> Result<()> {
    let mut known = Position::START;
    loop {
        store.wait_for_events(known).await?;
        known = store.settled().await?;
    }
}
