//! New events of other processes: told with `NOTIFY`, which is a hint. Looking is the guarantee.
//!
//! The message never goes out inside an append: Postgres takes one lock for the whole server to send
//! it, and holds it through the commit. One task for each process tells how far the log has come, at
//! most every 20 ms; positions in between need not be told.

use std::{sync::OnceLock, time::Duration};

use es_core::Position;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::head;

/// At most so often a process tells of its appends.
const PAUSE: Duration = Duration::from_millis(20);
/// After a failure: until then events are found by looking.
const RETRY: Duration = Duration::from_secs(1);

/// Both directions for one store. The tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Notify {
    pool: Option<PgPool>,
    channel: String,
    /// How far this process has appended.
    appended: watch::Sender<Position>,
    announcer: OnceLock<Task>,
    listener: OnceLock<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Notify {
    /// On connections of its own to where `like` leads. With `None` nothing is told or heard.
    pub(super) fn new(like: Option<&PgPool>, schema: &str) -> Self {
        let pool = like.map(|like| {
            PgPoolOptions::new()
                .max_connections(2)
                .connect_lazy_with((*like.connect_options()).clone())
        });
        // Names are cut at 63 bytes. Schemas that begin alike would hear each other: no harm.
        let channel = format!("es_{schema}").chars().take(63).collect();
        Self {
            pool,
            channel,
            appended: watch::Sender::new(Position::START),
            announcer: OnceLock::new(),
            listener: OnceLock::new(),
        }
    }

    /// Lets go of its connections.
    pub(super) async fn close(&self) {
        for task in [&self.announcer, &self.listener] {
            if let Some(task) = task.get() {
                task.0.abort();
            }
        }
        if let Some(pool) = &self.pool {
            pool.close().await;
        }
    }

    /// Tells other processes soon.
    pub(super) fn announce(&self, position: Position) {
        let Some(pool) = &self.pool else { return };
        head::raise(&self.appended, position);
        self.announcer.get_or_init(|| {
            let heard = self.appended.subscribe();
            let announcing = announce(pool.clone(), self.channel.clone(), heard);
            Task(tokio::spawn(announcing).abort_handle())
        });
    }

    /// Hears of other processes from now on, and wakes those who watch `head`.
    pub(super) fn listen(&self, head: &watch::Sender<Position>) {
        let Some(pool) = &self.pool else { return };
        self.listener.get_or_init(|| {
            let listening = listen(pool.clone(), self.channel.clone(), head.clone());
            Task(tokio::spawn(listening).abort_handle())
        });
    }
}

async fn announce(pool: PgPool, channel: String, mut appended: watch::Receiver<Position>) {
    loop {
        let next = Instant::now() + PAUSE;
        let position = *appended.borrow_and_update();
        // Nothing is written, so there is nothing to wait for the disk for.
        let told = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(&channel)
            .bind(position.to_string())
            .execute(&pool)
            .await;
        if let Err(error) = told {
            tracing::debug!(error = %error, "could not notify other processes; they look by themselves");
            sleep(RETRY).await;
        }
        sleep_until(next).await;
        if appended.changed().await.is_err() {
            return;
        }
    }
}

async fn listen(pool: PgPool, channel: String, head: watch::Sender<Position>) {
    loop {
        if let Err(error) = hear(&pool, &channel, &head).await {
            tracing::debug!(error = %error, "not hearing from other processes; looking instead");
        }
        sleep(RETRY).await;
    }
}

async fn hear(
    pool: &PgPool,
    channel: &str,
    head: &watch::Sender<Position>,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    loop {
        // What was said before now, or while the connection was away, is found by looking.
        head.send_modify(|_| {});
        // How far others say they are is a hint: a wrong number would only keep us from looking.
        while listener.try_recv().await?.is_some() {
            head.send_modify(|_| {});
        }
    }
}
