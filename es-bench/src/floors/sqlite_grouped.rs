//! SQLite through rusqlite, where one thread writes what has queued up in one transaction.

use std::{
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Encoded, now,
    sqlite_rusqlite::{APPEND, connect},
};
use crate::{
    player::{Player, PlayerCreated, PlayerMoved},
    side::{Result, Side},
};

/// How many appends one transaction takes.
const GROUP_MAX: usize = 64;

const HEAD: &str = "SELECT last_position, last_created_at FROM log_head";
const ADVANCE: &str = "UPDATE log_head SET last_position = ?1, last_created_at = ?2";

/// Appends of one event only: what the workload of many writers needs.
pub(crate) struct Grouped(Sender<Request>);

struct Request {
    id: Uuid,
    version: u32,
    event: Encoded,
    done: oneshot::Sender<Result<()>>,
}

impl Grouped {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = connect(path)?;
        let (requests, queue) = channel();
        thread::Builder::new()
            .name("grouped".to_owned())
            .spawn(move || write(connection, &queue))?;
        Ok(Self(requests))
    }
}

/// Until the last sender is gone.
fn write(mut connection: Connection, queue: &Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP_MAX - 1));
        match commit(&mut connection, &group) {
            Ok(results) => {
                for (request, result) in group.into_iter().zip(results) {
                    // A caller that is gone need not know.
                    let _ = request.done.send(result);
                }
            }
            Err(error) => {
                for request in group {
                    let _ = request.done.send(Err(error.to_string().into()));
                }
            }
        }
    }
}

/// A refused row leaves the others of its group alone: SQLite undoes only the statement.
fn commit(connection: &mut Connection, group: &[Request]) -> Result<Vec<Result<()>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut position, last): (i64, String) = transaction
        .prepare_cached(HEAD)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let created_at = now().max(last);
    let mut results = Vec::with_capacity(group.len());
    for request in group {
        let inserted = transaction.prepare_cached(APPEND)?.execute(params![
            request.event.event_id.as_bytes(),
            request.id.as_bytes(),
            request.event.event_type,
            request.version + 1,
            request.event.event_data,
            created_at,
            position + 1,
        ]);
        position += i64::from(inserted.is_ok());
        results.push(inserted.map(drop).map_err(Into::into));
    }
    transaction
        .prepare_cached(ADVANCE)?
        .execute(params![position, created_at])?;
    transaction.commit()?;
    Ok(results)
}

#[async_trait]
impl Side for Grouped {
    fn name(&self) -> &'static str {
        "rusqlite, grouped"
    }

    async fn seed(&self, _: Uuid, _: PlayerCreated, _: Vec<PlayerMoved>) -> Result<()> {
        Err(NOT_HERE.into())
    }

    async fn append(&self, id: Uuid, version: u32, events: &[PlayerMoved]) -> Result<()> {
        let [event] = events else {
            return Err(NOT_HERE.into());
        };
        let (done, result) = oneshot::channel();
        self.0.send(Request {
            id,
            version,
            event: Encoded::moved(event)?,
            done,
        })?;
        result.await?
    }

    async fn command(&self, _: Uuid, _: Uuid) -> Result<()> {
        Err(NOT_HERE.into())
    }

    async fn load(&self, _: Uuid) -> Result<Player> {
        Err(NOT_HERE.into())
    }
}

const NOT_HERE: &str = "the grouped floor only appends single events";

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::player;

    fn request(id: Uuid) -> Request {
        Request {
            id,
            version: 0,
            event: Encoded::moved(&player::moved(&mut Rng::with_seed(1))).expect("JSON"),
            done: oneshot::channel().0,
        }
    }

    /// Seen to fail when the group is rolled back for its refused append, and when that uses a position.
    #[test]
    fn a_refused_append_leaves_its_group_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut connection = connect(&folder.path().join("log.db")).expect("a file");
        let [taken, free] = [Uuid::now_v7(), Uuid::now_v7()];
        let group = [taken, taken, free].map(request);

        let results = commit(&mut connection, &group).expect("the others are recorded");

        let recorded: Vec<_> = results.iter().map(|result| result.is_ok()).collect();
        assert_eq!(recorded, [true, false, true]);
        let last: (i64, i64) = connection
            .query_row(
                "SELECT max(position), (SELECT last_position FROM log_head) FROM events",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .expect("two events");
        assert_eq!(last, (2, 2));
    }
}
