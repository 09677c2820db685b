//! SQLite through rusqlite, without a thread in between: one connection behind a mutex.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::{Encoded, Fold, SQLITE_TABLES, now};
use crate::{
    player::{Player, PlayerCreated, PlayerMoved},
    side::{Result, Side},
};

pub(super) const ADVANCE: &str = "UPDATE log_head
    SET last_position = last_position + ?1, last_created_at = max(?2, last_created_at)
    RETURNING last_position - ?1, last_created_at";
pub(super) const APPEND: &str = "INSERT INTO events (event_id, aggregate_id, aggregate_type,
    event_type, event_version, event_data, created_at, position)
    VALUES (?1, ?2, 'player', ?3, ?4, ?5, ?6, ?7)";
pub(super) const LOAD: &str = "SELECT event_type, event_data FROM events
    WHERE aggregate_id = ?1 ORDER BY event_version";

pub(crate) struct Rusqlite(Mutex<Connection>);

impl Rusqlite {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(Mutex::new(connect(path)?)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, id: Uuid, version: u32, events: &[Encoded]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, id, version, events)?;
        Ok(transaction.commit()?)
    }
}

/// Creates the tables in a new file.
pub(super) fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(SQLITE_TABLES)?;
    Ok(connection)
}

fn insert(transaction: &Transaction<'_>, id: Uuid, version: u32, events: &[Encoded]) -> Result<()> {
    let (before, created_at): (i64, String) = transaction
        .prepare_cached(ADVANCE)?
        .query_row(params![i64::try_from(events.len())?, now()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let mut append = transaction.prepare_cached(APPEND)?;
    for ((event, version), position) in events.iter().zip(version + 1..).zip(before + 1..) {
        append.execute(params![
            event.event_id.as_bytes(),
            id.as_bytes(),
            event.event_type,
            version,
            event.event_data,
            created_at,
            position,
        ])?;
    }
    Ok(())
}

fn fold(connection: &Connection, id: Uuid) -> Result<Fold> {
    let mut fold = Fold::default();
    let mut load = connection.prepare_cached(LOAD)?;
    let mut rows = load.query([id.as_bytes()])?;
    while let Some(row) = rows.next()? {
        fold.apply(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?)?;
    }
    Ok(fold)
}

/// Every operation is done before its future is polled a second time. Yielding lets the other tasks
/// have their turn, as waiting for a driver does elsewhere.
#[async_trait]
impl Side for Rusqlite {
    fn name(&self) -> &'static str {
        "rusqlite"
    }

    async fn seed(&self, id: Uuid, created: PlayerCreated, moves: Vec<PlayerMoved>) -> Result<()> {
        self.insert(id, 0, &Encoded::history(&created, &moves)?)
    }

    async fn append(&self, id: Uuid, version: u32, events: &[PlayerMoved]) -> Result<()> {
        let events: Vec<_> = events.iter().map(Encoded::moved).collect::<Result<_>>()?;
        self.insert(id, version, &events)?;
        tokio::task::yield_now().await;
        Ok(())
    }

    /// All in one transaction: there is nothing to lose a race to.
    async fn command(&self, id: Uuid, room: Uuid) -> Result<()> {
        {
            let mut connection = self.connection();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (event, version) = fold(&transaction, id)?.decide(room)?;
            insert(&transaction, id, version, &[event])?;
            transaction.commit()?;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn load(&self, id: Uuid) -> Result<Player> {
        fold(&self.connection(), id)?.finish()
    }
}
