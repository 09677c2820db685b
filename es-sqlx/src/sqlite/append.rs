//! Adding events: one transaction, the write lock first.

use chrono::Utc;
use es_core::{AppendError, Appended, ExpectedVersion, NewEvent, Position, StreamId, Version};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tracing::Instrument;
use uuid::Uuid;

use super::{
    SqliteStore, listen,
    row::{position, timestamp},
};
use crate::error::is_transient;

/// Rows of one INSERT: ten parameters each, and SQLite takes 32,766.
const ROWS_MAX: usize = 1_000;

/// Up to this many rows the INSERT stays prepared.
const KEPT_MAX: usize = 100;

const STREAM: &str = "SELECT event_version, aggregate_type FROM events
    WHERE aggregate_id = ?1 ORDER BY event_version DESC LIMIT 1";
const ADVANCE: &str = "UPDATE log_head
    SET last_position = last_position + ?1, last_created_at = max(?2, last_created_at)
    RETURNING last_position - ?1, last_created_at";
const PLACES: &str = "SELECT ids.key, aggregate_id, aggregate_type, event_version, position
    FROM json_each(?1) AS ids CROSS JOIN events ON event_id = unhex(ids.value)";

/// The transaction runs in a task of its own: if the caller's future is dropped half-way the append
/// still ends, one way or the other, and its connection goes back to the pool.
pub(super) async fn run(
    store: &SqliteStore,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> Result<Appended, AppendError> {
    let append = Append {
        stream: stream.clone(),
        expected,
        events: events.to_vec(),
    };
    let (failed, store) = (append.failure(), store.clone());
    let task = async move {
        let appended = append.run(&store.0.writer).await?;
        listen::push(&store, appended.position);
        Ok(appended)
    };
    match tokio::spawn(task.in_current_span()).await {
        Ok(result) => result,
        Err(stopped) => Err(failed.of(false, stopped.into())),
    }
}

struct Append {
    stream: StreamId,
    expected: ExpectedVersion,
    events: Vec<NewEvent>,
}

/// What an error says about the append it ended.
struct Failure {
    stream: StreamId,
    count: usize,
}

impl Failure {
    fn of(&self, transient: bool, source: es_core::BoxError) -> AppendError {
        AppendError::Backend {
            stream: self.stream.clone(),
            count: self.count,
            transient,
            source,
        }
    }
}

impl Append {
    fn failure(&self) -> Failure {
        Failure {
            stream: self.stream.clone(),
            count: self.events.len(),
        }
    }

    fn failed(&self, source: sqlx::Error) -> AppendError {
        self.failure().of(is_transient(&source), source.into())
    }

    async fn run(&self, writer: &SqlitePool) -> Result<Appended, AppendError> {
        let mut transaction = writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|error| self.failed(error))?;
        let actual = match self.admit(&mut transaction).await? {
            Admission::Repeated(first) => return Ok(first),
            Admission::At(actual) => actual,
        };
        let appended = self
            .insert(&mut transaction, actual)
            .await
            .map_err(|error| self.failed(error))?;
        transaction
            .commit()
            .await
            .map_err(|error| self.failed(error))?;
        Ok(appended)
    }

    /// Holding the write lock, nothing that is learned here can change before the commit.
    async fn admit(&self, connection: &mut SqliteConnection) -> Result<Admission, AppendError> {
        let places = self
            .places(connection)
            .await
            .map_err(|error| self.failed(error))?;
        if let Some(first) = self.repetition(&places) {
            return Ok(Admission::Repeated(first));
        }
        let found: Option<(u32, String)> = sqlx::query_as(STREAM)
            .bind(self.stream.aggregate_id)
            .fetch_optional(connection)
            .await
            .map_err(|error| self.failed(error))?;
        let actual = match found {
            Some((_, actual)) if self.stream.aggregate_type != actual.as_str() => {
                return Err(AppendError::OtherAggregateType {
                    stream: self.stream.clone(),
                    actual,
                });
            }
            Some((version, _)) => Version::new(version),
            None => Version::EMPTY,
        };
        if !self.expected.accepts(actual) {
            return Err(AppendError::Conflict {
                stream: self.stream.clone(),
                expected: self.expected,
                actual,
            });
        }
        let taken = places
            .iter()
            .zip(&self.events)
            .find(|(place, _)| place.is_some());
        if let Some((_, event)) = taken {
            return Err(AppendError::DuplicateId {
                stream: self.stream.clone(),
                event_id: event.event_id,
            });
        }
        if actual.after(self.events.len()).is_none() {
            return Err(AppendError::Invalid {
                stream: self.stream.clone(),
                reason: format!("a stream holds at most {} events", Version::MAX),
            });
        }
        Ok(Admission::At(actual))
    }

    /// Where each event id is, if it is taken.
    async fn places(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<Option<Place>>, sqlx::Error> {
        let ids: Vec<_> = self
            .events
            .iter()
            .map(|event| event.event_id.simple().to_string())
            .collect();
        let found: Vec<(u32, Uuid, String, i64, i64)> = sqlx::query_as(PLACES)
            .bind(serde_json::json!(ids).to_string())
            .fetch_all(connection)
            .await?;
        let mut places = vec![None; ids.len()];
        for (index, aggregate_id, aggregate_type, version, position) in found {
            places[index as usize] = Some((aggregate_id, aggregate_type, version, position));
        }
        Ok(places)
    }

    /// The first result, if all ids stand in this stream one after another, where they are expected.
    fn repetition(&self, places: &[Option<Place>]) -> Option<Appended> {
        let (_, _, first, _) = places.first()?.as_ref()?;
        let in_place = self
            .expected
            .exact()
            .is_none_or(|exact| i64::from(exact.get()) + 1 == *first);
        let mut last = None;
        for (place, version) in places.iter().zip(*first..) {
            let (aggregate_id, aggregate_type, found, at) = place.as_ref()?;
            let same_stream = *aggregate_id == self.stream.aggregate_id
                && self.stream.aggregate_type == aggregate_type.as_str();
            if !same_stream || *found != version {
                return None;
            }
            last = Some(Appended {
                version: Version::new(u32::try_from(version).ok()?),
                position: position(*at).ok()?,
            });
        }
        last.filter(|_| in_place)
    }

    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        actual: Version,
    ) -> Result<Appended, sqlx::Error> {
        let count = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        let (before, created_at): (i64, String) = sqlx::query_as(ADVANCE)
            .bind(count)
            .bind(timestamp(Utc::now()))
            .fetch_one(&mut *connection)
            .await?;
        let mut places = (before + 1..).zip(actual.get() + 1..);
        for chunk in self.events.chunks(ROWS_MAX) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type,
                 event_version, event_data, created_at, position, schema_version, metadata) ",
            );
            let rows = chunk.iter().zip(&mut places);
            insert.push_values(rows, |mut row, (event, (position, version))| {
                row.push_bind(event.event_id)
                    .push_bind(self.stream.aggregate_id)
                    .push_bind(self.stream.aggregate_type.as_str())
                    .push_bind(event.event_type.as_str())
                    .push_bind(version)
                    .push_bind(event.event_data.as_str())
                    .push_bind(created_at.as_str())
                    .push_bind(position)
                    .push_bind(event.schema_version)
                    .push_bind(metadata(event));
            });
            // A prepared statement is kept for each number of rows: not for large ones.
            let keep = chunk.len() <= KEPT_MAX;
            insert
                .build()
                .persistent(keep)
                .execute(&mut *connection)
                .await?;
        }
        Ok(Appended {
            version: actual.after(self.events.len()).unwrap_or(Version::MAX),
            position: Position::new(u64::try_from(before + count).unwrap_or_default()),
        })
    }
}

enum Admission {
    /// This very append was recorded before.
    Repeated(Appended),
    /// The stream is at this version and may grow.
    At(Version),
}

/// Aggregate, its type, version and position of an event.
type Place = (Uuid, String, i64, i64);

fn metadata(event: &NewEvent) -> Option<String> {
    // Strings and ids only: this cannot fail.
    (!event.metadata.is_empty()).then(|| serde_json::to_string(&event.metadata).unwrap_or_default())
}
