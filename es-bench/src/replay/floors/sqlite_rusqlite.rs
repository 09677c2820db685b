//! SQLite through rusqlite: cached statements, one for each row, without a thread in between.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::{
    ADVANCE, CHECKPOINT, ENTER, Floor, Happened, MOVE, ON_CONFLICT, PAGE, Page, RESET,
    sqlite_sqlx::READ,
};
use crate::{replay::Handler, side::Result};

pub(crate) struct Rusqlite {
    connection: Mutex<Connection>,
    handler: Handler,
    upsert: String,
}

impl Rusqlite {
    pub(crate) fn open(file: &Path, handler: Handler) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self {
            connection: Mutex::new(connection),
            handler,
            upsert: format!(
                "INSERT INTO floor_rooms (player_id, name, room_id, moves)
                 VALUES (?1, ?2, ?3, ?4) {ON_CONFLICT}"
            ),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The page is read inside the transaction that writes it: there is nobody else.
    fn fold(&self, transaction: &Transaction<'_>, after: i64) -> Result<Option<i64>> {
        let mut page = Page::default();
        let mut read = transaction.prepare_cached(READ)?;
        let mut rows = read.query(params![after, PAGE])?;
        while let Some(row) = rows.next()? {
            let player = Uuid::from_slice(row.get_ref(1)?.as_blob()?)?;
            let (event_type, data) = (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
            page.add(row.get(0)?, player, event_type, data)?;
        }
        let mut upsert = transaction.prepare_cached(&self.upsert)?;
        for (player, change) in &page.changes {
            let (player, room) = (player.as_bytes(), change.room_id.as_bytes());
            upsert.execute(params![player, change.name, room, change.moves])?;
        }
        Ok(page.end)
    }
}

fn by_event(transaction: &Transaction<'_>, after: i64) -> Result<Option<i64>> {
    let mut end = None;
    let mut read = transaction.prepare_cached(READ)?;
    let mut enter = transaction.prepare_cached(ENTER)?;
    let mut walk = transaction.prepare_cached(MOVE)?;
    let mut rows = read.query(params![after, PAGE])?;
    while let Some(row) = rows.next()? {
        let player = row.get_ref(1)?.as_blob()?;
        match Happened::decode(row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?)? {
            Happened::Created(created) => {
                enter.execute(params![player, created.name, created.room_id.as_bytes()])?
            }
            Happened::Moved(moved) => walk.execute(params![moved.to_room_id.as_bytes(), player])?,
        };
        end = Some(row.get(0)?);
    }
    Ok(end)
}

#[async_trait]
impl Floor for Rusqlite {
    fn name(&self) -> &'static str {
        match self.handler {
            Handler::Rows | Handler::InOne => "rusqlite, pages of 1,000",
            Handler::ByEvent => "rusqlite, a statement for each event",
        }
    }

    async fn reset(&self) -> Result<()> {
        Ok(self.connection().execute_batch(RESET)?)
    }

    async fn replay(&self) -> Result<()> {
        let mut connection = self.connection();
        let mut at: i64 = connection.query_row(CHECKPOINT, [], |row| row.get(0))?;
        loop {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let end = match self.handler {
                Handler::Rows | Handler::InOne => self.fold(&transaction, at)?,
                Handler::ByEvent => by_event(&transaction, at)?,
            };
            let Some(end) = end else {
                return Ok(());
            };
            transaction.prepare_cached(ADVANCE)?.execute([end])?;
            transaction.commit()?;
            at = end;
        }
    }
}
