//! New events of other processes: told, and found by looking where nobody tells.

use std::time::Duration;

use es_core::{EventStore, ExpectedVersion, Json, NewEvent, Position, StreamId};
use es_sqlx::{PgStore, postgres::PgOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgListener};
use tokio::time::timeout;
use uuid::Uuid;

use crate::postgres_server::{fresh_schema, url};

/// Far above the bound of 100 ms: the machine may be busy.
const SOON: Duration = Duration::from_secs(5);

async fn open(schema: &str, notify: bool) -> PgStore {
    let options = PgOptions::new(url()).schema(schema).notify(notify);
    let store = options.connect().await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn append(store: &PgStore) -> Position {
    let lamp = StreamId::new("lamp", Uuid::now_v7());
    let event = NewEvent::new("switched", Json::parse("{}").unwrap());
    let appended = store
        .append(&lamp, ExpectedVersion::NoStream, &[event])
        .await
        .unwrap();
    appended.position
}

/// Waits in one store for what another one appends, once before and once after `meddle`.
async fn heard(reader: &PgStore, writer: &PgStore, meddle: impl AsyncFn()) {
    let mut known = Position::START;
    for round in 0..3 {
        let waiting = reader.wait_for_events(known);
        let (waited, position) = tokio::join!(timeout(SOON, waiting), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            append(writer).await
        });
        waited.expect("found within the bound").unwrap();
        known = position;
        if round == 0 {
            meddle().await;
        }
    }
}

#[tokio::test]
async fn processes_hear_of_each_other() {
    let schema = fresh_schema();
    let mut listener = PgListener::connect(&url()).await.unwrap();
    listener.listen(&format!("es_{schema}")).await.unwrap();
    let writer = open(&schema, true).await;

    let position = append(&writer).await;

    let told = timeout(SOON, listener.recv()).await.expect("told").unwrap();
    assert_eq!(told.payload(), position.to_string());
}

/// Listeners are killed, nobody tells, and one who tells is not heard: all is found by looking.
#[tokio::test]
async fn notify_lost() {
    let schema = fresh_schema();
    let (reader, writer) = (open(&schema, true).await, open(&schema, true).await);
    heard(&reader, &writer, async || {
        let mut session = PgConnection::connect(&url()).await.unwrap();
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN \"es_{schema}\"'"
        );
        session.execute(AssertSqlSafe(cut)).await.unwrap();
    })
    .await;

    for (hears, tells) in [(true, false), (false, true), (false, false)] {
        let schema = fresh_schema();
        let reader = open(&schema, hears).await;
        let writer = open(&schema, tells).await;
        heard(&reader, &writer, async || {}).await;
    }
}

/// Ten thousand messages in no time, and none of them true: the reader looks for itself each time, is not
/// fooled, and still hears of what is new.
#[tokio::test]
async fn notify_storm() {
    let schema = fresh_schema();
    let reader = open(&schema, true).await;
    append(&reader).await;
    let waiting = reader.wait_for_events(Position::new(1));
    tokio::pin!(waiting);
    assert!(
        timeout(Duration::from_millis(300), &mut waiting)
            .await
            .is_err()
    );

    let mut session = PgConnection::connect(&url()).await.unwrap();
    let storm = format!(
        "DO $$ BEGIN FOR i IN 1..10000 LOOP
             PERFORM pg_notify('es_{schema}', CASE i % 3 WHEN 0 THEN 'nonsense' ELSE i::text END);
         END LOOP; END $$"
    );
    session.execute(AssertSqlSafe(storm)).await.unwrap();
    assert!(
        timeout(Duration::from_millis(500), &mut waiting)
            .await
            .is_err(),
        "there is nothing new"
    );
    append(&reader).await;
    timeout(SOON, &mut waiting).await.expect("found").unwrap();
}
