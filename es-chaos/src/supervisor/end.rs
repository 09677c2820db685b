//! After the chaos: repair everything, let one daemon catch up, check.

use std::time::Duration;

use es_core::{BoxError, DeadLetter, Letters, Lifecycle};
use tokio::time::{Instant, sleep};

use super::{Crew, Supervisor, TICK};
use crate::{
    check::{self, is_at_rest},
    database::Store,
    folder::set_poison,
    orders::is_strange,
};

/// So long may the last daemon take.
const PATIENCE: Duration = Duration::from_secs(120);

impl<S: Store> Supervisor<'_, S> {
    pub(super) async fn end(&mut self) -> Result<(), BoxError> {
        set_poison(self.folder, &[])?;
        self.start_server()?;
        self.send_home().await?;
        let last = Crew::daemon(0);
        self.crew.start(last, 0, self.versions, true)?;
        self.come_to_rest().await?;
        self.send_home().await?;
        let Self {
            operator,
            url,
            folder,
            totals,
            ..
        } = self;
        check::check(&operator.store, url, folder, totals).await
    }

    /// All processes end as they were told, also those that must wait for something first.
    async fn send_home(&mut self) -> Result<(), BoxError> {
        self.due.clear();
        let end = Instant::now() + PATIENCE;
        while !(self.crew.is_empty() && self.orders.is_empty()) {
            for slot in 0..self.crew.len() {
                self.crew.thaw(slot).await?;
                self.crew.drain(slot).await?;
            }
            self.tick().await?;
            self.due.clear();
            if Instant::now() > end {
                return Err("the processes do not end".into());
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Until everything has been applied and nobody is to take over any more.
    async fn come_to_rest(&mut self) -> Result<(), BoxError> {
        let operator = self.operator.clone();
        let end = Instant::now() + PATIENCE;
        loop {
            self.tick().await?;
            let settled = operator.store.settled().await?;
            let standings = operator.projections.list().await?;
            let letters = operator
                .projections
                .dead_letters(&Letters::default(), 1_000)
                .await?;
            if letters.is_empty() && is_at_rest(&standings, settled) {
                self.looked(&standings, &letters);
                return Ok(());
            }
            if letters.iter().any(is_strange) || Instant::now() > end {
                for row in &standings {
                    let (lifecycle, position) = (row.lifecycle, row.position);
                    let active = if row.active { ", active" } else { "" };
                    eprintln!(
                        "{}: {lifecycle}{active} at {position} of {settled}",
                        row.shard
                    );
                }
                return Err(format!("no rest; {}", told(&letters)).into());
            }
            for row in &standings {
                if matches!(row.lifecycle, Lifecycle::Paused | Lifecycle::Failed) {
                    operator.resume(&row.shard.projection.to_string()).await;
                }
            }
            if !letters.is_empty() {
                let retried = operator.clone().retry_all().await;
                self.ordered("the last retry", retried);
            }
            sleep(Duration::from_millis(300)).await;
        }
    }
}

fn told(letters: &[DeadLetter]) -> String {
    match letters.first() {
        None => "no dead letters".to_owned(),
        Some(letter) => {
            let DeadLetter {
                projection,
                position,
                failure,
                ..
            } = letter;
            format!(
                "{} letters, of {projection} at {position}: {failure}",
                letters.len()
            )
        }
    }
}
