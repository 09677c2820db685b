//! A log to replay: players who were created and then moved, all mixed up.

use es_core::EventStore;
use es_sqlx::PgStore;
use fastrand::Rng;
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::{
    backend::Backend,
    floors::{Encoded, now},
    place::{Fresh, Opened, Place},
    player,
    side::Result,
};

const PLAYERS: u32 = 10_000;
/// Events of one INSERT.
const ROWS: usize = 5_000;

const INSERT_POSTGRES: &str = "INSERT INTO events
    (event_id, aggregate_id, aggregate_type, event_type, event_version, event_data)
    SELECT u.id, u.player, 'player', u.type, u.version, u.data::json
      FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::text[]) WITH ORDINALITY
           AS u(id, player, type, version, data, n)
     ORDER BY u.n";
const INSERT_SQLITE: &str = "INSERT INTO events (event_id, aggregate_id, aggregate_type,
    event_type, event_version, event_data, created_at, position)
    VALUES (?1, ?2, 'player', ?3, ?4, ?5, ?6, ?7)";

pub(crate) struct Log {
    pub(crate) fresh: Fresh,
    pub(crate) events: u32,
    players: u32,
}

impl Log {
    /// Written behind the store's back: a million appends would take longer than all the rest.
    pub(crate) async fn fill(backend: Backend, events: u32, seed: u64) -> Result<Self> {
        let fresh = backend.fresh().await?;
        let mut history = History::new(events, seed);
        let settled = match (&fresh.place, fresh.place.open().await?) {
            (_, Opened::Postgres(store)) => {
                postgres(&store, &mut history).await?;
                store.settled().await?
            }
            (Place::Sqlite { file }, Opened::Sqlite(store)) => {
                sqlite(&mut Connection::open(file)?, &mut history)?;
                store.settled().await?
            }
            _ => return Err("the store is not where it should be".into()),
        };
        if settled.get() != u64::from(events) {
            return Err(format!("a log of {events} events ends at {settled}").into());
        }
        Ok(Self {
            fresh,
            events,
            players: history.players(),
        })
    }

    /// Whether `table` has all of it.
    pub(crate) async fn check(&self, table: &str) -> Result<()> {
        let found = self.fresh.place.players_and_moves(table).await?;
        let expected = (
            i64::from(self.players),
            i64::from(self.events - self.players),
        );
        match found == expected {
            true => Ok(()),
            false => Err(format!("{table}: {found:?} players and moves, not {expected:?}").into()),
        }
    }
}

async fn postgres(store: &PgStore, history: &mut History) -> Result<()> {
    loop {
        let (mut ids, mut players, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let (mut versions, mut data) = (Vec::new(), Vec::new());
        for event in history.by_ref().take(ROWS) {
            let (player, version, event) = event?;
            ids.push(event.event_id);
            players.push(player);
            types.push(event.event_type);
            versions.push(version);
            data.push(event.event_data);
        }
        if ids.is_empty() {
            break;
        }
        sqlx::query(INSERT_POSTGRES)
            .bind(ids)
            .bind(players)
            .bind(types)
            .bind(versions)
            .bind(data)
            .execute(store.pool())
            .await?;
    }
    // Autovacuum would do it in the middle of a turn.
    sqlx::query("VACUUM (ANALYZE) events")
        .execute(store.pool())
        .await?;
    sqlx::query("CHECKPOINT").execute(store.pool()).await?;
    Ok(())
}

fn sqlite(connection: &mut Connection, history: &mut History) -> Result<()> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction()?;
    let mut insert = transaction.prepare(INSERT_SQLITE)?;
    let created_at = now();
    let mut position = 0;
    for event in history {
        let (player, version, event) = event?;
        position += 1;
        insert.execute(params![
            event.event_id.as_bytes(),
            player.as_bytes(),
            event.event_type,
            version,
            event.event_data,
            created_at,
            position,
        ])?;
    }
    drop(insert);
    transaction.execute(
        "UPDATE log_head SET last_position = ?1, last_created_at = ?2",
        params![position, created_at],
    )?;
    transaction.commit()?;
    // Else the first turn would do it.
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

/// Events of random players.
struct History {
    /// The players, and how many events each has.
    players: Vec<(Uuid, i32)>,
    left: u32,
    rng: Rng,
}

impl History {
    fn new(events: u32, seed: u64) -> Self {
        let players = PLAYERS.min(events / 10 + 1);
        Self {
            players: (0..players).map(|_| (Uuid::now_v7(), 0)).collect(),
            left: events,
            rng: Rng::with_seed(seed),
        }
    }

    /// How many of them were created.
    fn players(&self) -> u32 {
        self.players
            .iter()
            .map(|(_, events)| u32::from(*events > 0))
            .sum()
    }
}

impl Iterator for History {
    type Item = Result<(Uuid, i32, Encoded)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let index = self.rng.usize(..self.players.len());
        let (player, events) = &mut self.players[index];
        *events += 1;
        let encoded = match *events {
            1 => Encoded::created(&player::created(&mut self.rng)),
            _ => Encoded::moved(&player::moved(&mut self.rng)),
        };
        Some(encoded.map(|encoded| (*player, *events, encoded)))
    }
}
