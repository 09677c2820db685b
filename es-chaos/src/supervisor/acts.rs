//! How each act is done.

use es_core::BoxError;
use tokio::{task::block_in_place, time::Instant};

use super::{Crew, Due, Supervisor};
use crate::{
    database::Store,
    folder::set_poison,
    orders::{Done, Operator},
    projections::VERSIONS,
    schedule::Act,
    tables::Tables,
};

impl<S: Store> Supervisor<'_, S> {
    pub(super) async fn act(&mut self, act: Act) -> Result<(), BoxError> {
        self.say(&act);
        match act {
            Act::KillDaemon(index) => self.kill(Crew::daemon(index)).await?,
            Act::KillWriter(index) => self.kill(Crew::writer(index)).await?,
            Act::FreezeDaemon(index, time) => {
                self.freeze(Crew::daemon(index), time).await?;
            }
            Act::FreezeWriter(index, time) => {
                self.freeze(Crew::writer(index), time).await?;
            }
            Act::DrainDaemon(index) => self.drain(Crew::daemon(index)).await?,
            Act::NewVersion { daemon, kill_after } => {
                if self.versions < VERSIONS {
                    self.versions += 1;
                    self.totals.versions += 1;
                    self.drain(Crew::daemon(daemon)).await?;
                }
                if let Some(time) = kill_after {
                    self.due
                        .push((Instant::now() + time, Due::Kill(Crew::daemon(daemon))));
                }
            }
            Act::Poison(streams, time) => {
                let ids: Vec<_> = streams.iter().map(|stream| stream.aggregate_id).collect();
                set_poison(self.folder, &ids)?;
                self.totals.poisonings += 1;
                self.due.push((Instant::now() + time, Due::Repair));
            }
            Act::CrashServer(absence) => {
                if let Some(cluster) = self.cluster.filter(|_| self.server_is_up) {
                    block_in_place(|| cluster.crash())?;
                    self.server_is_up = false;
                    self.totals.server_stops += 1;
                    self.due.push((Instant::now() + absence, Due::StartServer));
                }
            }
            order => self.give(order),
        }
        Ok(())
    }

    fn give(&mut self, act: Act) {
        self.totals.orders += 1;
        let what = format!("{act:?}");
        let url = self.url.to_owned();
        self.order(&what, |operator| async move {
            match act {
                Act::WayBack { nth } => operator.way_back(nth).await,
                Act::Pause(name, time) => operator.pause(name, time).await,
                Act::Divide(name, shards) => operator.divide(name, shards).await,
                Act::Rewind { permille } => operator.rewind(permille).await,
                Act::Reset => operator.reset().await,
                Act::RebuildAggregate(name, stream) => {
                    operator.rebuild_aggregate(name, stream).await
                }
                Act::EndSessions { count, salt } => end_sessions::<S>(&url, count, salt).await,
                Act::Checkpoint => checkpoint::<S>(&url).await,
                _ => Ok(Done::Nothing),
            }
        });
    }

    pub(super) async fn when_due(&mut self, due: Due) -> Result<(), BoxError> {
        match due {
            Due::Start(slot) => self.start(slot),
            Due::Thaw(slot) => self.crew.thaw(slot).await,
            Due::Kill(slot) => self.kill(slot).await,
            Due::StartServer => self.start_server(),
            Due::Repair => {
                set_poison(self.folder, &[])?;
                self.order("retry", Operator::retry_all);
                Ok(())
            }
        }
    }

    pub(super) fn start_server(&mut self) -> Result<(), BoxError> {
        if let Some(cluster) = self.cluster.filter(|_| !self.server_is_up) {
            block_in_place(|| cluster.start_again())?;
            self.server_is_up = true;
        }
        Ok(())
    }

    async fn kill(&mut self, slot: usize) -> Result<(), BoxError> {
        if self.crew.kill(slot).await? {
            self.totals.kills += 1;
            self.later(Due::Start(slot));
        }
        Ok(())
    }

    async fn freeze(&mut self, slot: usize, time: std::time::Duration) -> Result<(), BoxError> {
        if self.crew.freeze(slot).await? {
            self.totals.freezes += 1;
            self.due.push((Instant::now() + time, Due::Thaw(slot)));
        }
        Ok(())
    }

    /// It is started again when it has ended.
    async fn drain(&mut self, slot: usize) -> Result<(), BoxError> {
        if self.crew.drain(slot).await? {
            self.totals.drains += 1;
        }
        Ok(())
    }
}

async fn end_sessions<S: Store>(url: &str, count: u32, salt: u32) -> Result<Done, BoxError> {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM (
             SELECT pid FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
             ORDER BY hashint8(pid + {salt}) LIMIT {count}) AS victims"
    );
    let ended = S::aside(url).await?.number(sql).await?;
    Ok(Done::EndedSessions(ended.unsigned_abs()))
}

async fn checkpoint<S: Store>(url: &str) -> Result<Done, BoxError> {
    let sql = match S::ONE_WRITER {
        true => "PRAGMA wal_checkpoint(TRUNCATE)",
        false => "CHECKPOINT",
    };
    S::aside(url).await?.run(sql.to_owned()).await?;
    Ok(Done::Ordered)
}
