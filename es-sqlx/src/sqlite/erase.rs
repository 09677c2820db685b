//! Erasing a stream: the tombstone is its last event, and the permission to empty the others.

use std::slice;

use es_core::{
    Append, AppendError, Appended, BoxError, EraseError, ExpectedVersion, NewEvent, Position,
    StreamErased, StreamId, Version,
};
use sqlx::SqliteConnection;

use super::{
    admit::{Admission, Begin, Ids, ask},
    inline,
    insert::{Admitted, Around, insert},
    record::run,
    row,
    writer::{Raw, Writer},
};
use crate::error::is_transient;

const TOMBSTONE: &str = "SELECT event_version, position FROM events
    WHERE aggregate_id = ?1 ORDER BY event_version DESC LIMIT 1";
const EMPTY: &str = r#"UPDATE events SET event_data = '{"$erased":true}', metadata = NULL
    WHERE aggregate_id = ?1 AND event_type <> '$stream_erased'"#;
const FORGET: &str = "DELETE FROM snapshots WHERE aggregate_id = ?1";

pub(super) async fn erase(
    mut raw: Raw,
    stream: &StreamId,
    tombstone: &StreamErased,
) -> Result<Appended, EraseError> {
    let tombstone = NewEvent::encode(tombstone).map_err(|error| failed(stream, false, error))?;
    let append = Append::new(stream.clone(), ExpectedVersion::Any, vec![tombstone]);
    let writer = raw.writer();
    match erase_inside(&writer, raw.db(), &append).await {
        Ok(erased) => {
            raw.committed();
            writer.push(erased.position);
            Ok(erased)
        }
        Err(error) => {
            raw.roll_back().await;
            Err(error)
        }
    }
}

/// Ends with `COMMIT` if it succeeds.
async fn erase_inside(
    writer: &Writer,
    db: &mut SqliteConnection,
    append: &Append,
) -> Result<Appended, EraseError> {
    let stream = &append.stream;
    let sql_failed = |error| sql_failed(stream, error);
    let alone = slice::from_ref(append);
    let mut facts = ask(db, Begin::Immediate, alone, Ids::First)
        .await
        .map_err(sql_failed)?;
    if !facts.has(0, append) {
        return Err(EraseError::NotFound {
            stream: stream.clone(),
        });
    }
    if facts.is_erased(0) {
        let found = tombstone(db, stream).await.map_err(sql_failed)?;
        run(db, "COMMIT").await.map_err(sql_failed)?;
        return Ok(found);
    }
    let projections = inline::active(&writer.inline, &facts.inline)
        .map_err(|left_out| append_failed(stream, left_out.refuse(append)))?;
    let after = match facts.admit(0, append) {
        Ok(Admission::At(after)) => after,
        Ok(Admission::Repeated(first)) => return Ok(first),
        Err(error) => return Err(append_failed(stream, error)),
    };
    let admitted = [Admitted { append, after }];
    let appended = insert(db, &mut facts.head, &admitted, Around::Nothing)
        .await
        .map_err(sql_failed)?;
    for statement in [EMPTY, FORGET] {
        sqlx::query(statement)
            .bind(stream.aggregate_id)
            .execute(&mut *db)
            .await
            .map_err(sql_failed)?;
    }
    inline::project(db, &projections, &facts.head, &admitted, &appended)
        .await
        .map_err(|error| append_failed(stream, error))?;
    run(db, "COMMIT").await.map_err(sql_failed)?;
    Ok(appended[0])
}

async fn tombstone(db: &mut SqliteConnection, stream: &StreamId) -> Result<Appended, sqlx::Error> {
    let (version, position): (u32, i64) = sqlx::query_as(TOMBSTONE)
        .bind(stream.aggregate_id)
        .fetch_one(db)
        .await?;
    Ok(Appended {
        version: Version::new(version),
        position: row::position(position).unwrap_or(Position::START),
    })
}

fn append_failed(stream: &StreamId, source: AppendError) -> EraseError {
    EraseError::Refused {
        stream: stream.clone(),
        source: Box::new(source),
    }
}

pub(super) fn sql_failed(stream: &StreamId, error: sqlx::Error) -> EraseError {
    failed(stream, is_transient(&error), error)
}

pub(super) fn failed(
    stream: &StreamId,
    transient: bool,
    source: impl Into<BoxError>,
) -> EraseError {
    EraseError::Backend {
        stream: stream.clone(),
        transient,
        source: source.into(),
    }
}
