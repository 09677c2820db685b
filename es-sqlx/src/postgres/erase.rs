//! Erasing a stream: tombstone, payloads and snapshots in one transaction.

use es_core::{
    Append, AppendError, Appended, EraseError, Event, ExpectedVersion, NewEvent, Position,
    StreamErased, StreamId, Version,
};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::{Inner, PgStore, refused, row, transaction::first};
use crate::error::is_transient;

/// How often another writer may be faster.
const RACES_MAX: u32 = 100;

const LAST: &str = "SELECT event_version, position, event_type FROM {schema}.events
    WHERE aggregate_id = $1 AND aggregate_type = $2 ORDER BY event_version DESC LIMIT 1";
/// The trigger lets it pass because the tombstone is there.
const ERASE: &str = r#"UPDATE {schema}.events SET event_data = '{"$erased":true}', metadata = NULL
    WHERE aggregate_id = $1 AND event_type <> '$stream_erased'"#;
const FORGET: &str = "DELETE FROM {schema}.snapshots WHERE aggregate_id = $1";

pub(super) async fn run(
    store: &PgStore,
    stream: &StreamId,
    tombstone: &StreamErased,
) -> Result<Appended, EraseError> {
    let failed = |source| failed(stream, source);
    let tombstone = NewEvent::encode(tombstone).map_err(|source| EraseError::Backend {
        stream: stream.clone(),
        transient: false,
        source: source.into(),
    })?;
    let mut races = 0;
    loop {
        let mut transaction = store.begin().await.map_err(failed)?;
        let db = transaction.connection();
        keep_snapshots_out(db, &store.0, stream)
            .await
            .map_err(failed)?;
        let version = match last(&store.0, db, stream).await.map_err(failed)? {
            Some(Last::Event(version)) => version,
            Some(Last::Tombstone(appended)) => return Ok(appended),
            None => {
                return Err(EraseError::NotFound {
                    stream: stream.clone(),
                });
            }
        };
        let end = Append::new(
            stream.clone(),
            ExpectedVersion::Exact(version),
            vec![tombstone.clone()],
        );
        let appended = match transaction.append_checked(&[end]).await {
            Ok(appended) => first(appended),
            Err(AppendError::Conflict { .. }) if races < RACES_MAX => {
                races += 1;
                continue;
            }
            Err(error) => {
                return Err(EraseError::Refused {
                    stream: stream.clone(),
                    source: Box::new(error),
                });
            }
        };
        for sql in [ERASE, FORGET] {
            sqlx::query(store.0.text(sql))
                .bind(stream.aggregate_id)
                .execute(transaction.connection())
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        return Ok(appended);
    }
}

/// The end of a stream.
enum Last {
    Event(Version),
    Tombstone(Appended),
}

async fn last(
    store: &Inner,
    connection: &mut PgConnection,
    stream: &StreamId,
) -> Result<Option<Last>, sqlx::Error> {
    let found: Option<(i32, i64, String)> = sqlx::query_as(store.text(LAST))
        .bind(stream.aggregate_id)
        .bind(stream.aggregate_type.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(found.map(|(version, position, event_type)| {
        let version = Version::new(u32::try_from(version).unwrap_or_default());
        match event_type == StreamErased::EVENT_TYPE {
            true => Last::Tombstone(Appended {
                version,
                position: row::position(position).unwrap_or(Position::START),
            }),
            false => Last::Event(version),
        }
    }))
}

/// Waits for snapshots of the stream that are being saved, and holds up later ones, which then find the
/// tombstone.
async fn keep_snapshots_out(
    connection: &mut PgConnection,
    store: &Inner,
    stream: &StreamId,
) -> Result<(), sqlx::Error> {
    let lock = format!(
        "SELECT pg_advisory_xact_lock({})",
        snapshots_lock(store, stream)
    );
    connection.execute(AssertSqlSafe(lock)).await.map(|_| ())
}

/// The key of the lock on a stream's snapshots.
pub(super) fn snapshots_lock(store: &Inner, stream: &StreamId) -> String {
    let (schema, id) = (&store.schema, stream.aggregate_id);
    format!("hashtextextended('es_snapshots {schema} {id}', 0)")
}

fn failed(stream: &StreamId, source: sqlx::Error) -> EraseError {
    EraseError::Backend {
        stream: stream.clone(),
        transient: is_transient(&source),
        source: refused::without_content(source),
    }
}
