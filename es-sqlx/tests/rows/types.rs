//! What a field can be.

use chrono::{DateTime, SubsecRound, Utc};
use es_sqlx::rows::{HasTable, Rows};
use serde_json::json;
use uuid::Uuid;

use crate::on_both;

on_both! { every_type_comes_back_as_it_was }

es_sqlx::read_model! {
    #[derive(Debug, Clone, PartialEq)]
    struct Everything in "everything" {
        #[key]
        id: Uuid,
        /// A word of SQL, as the next one is of Rust.
        order: String,
        r#type: i32,
        long: i64,
        float: f64,
        flag: bool,
        at: DateTime<Utc>,
        bytes: Vec<u8>,
        document: serde_json::Value,
        maybe_id: Option<Uuid>,
        maybe_text: Option<String>,
        maybe_long: Option<i64>,
        maybe_at: Option<DateTime<Utc>>,
        maybe_bytes: Option<Vec<u8>>,
        maybe_document: Option<serde_json::Value>,
    }
}

async fn every_type_comes_back_as_it_was<C: HasTable<Everything>>(db: &mut C) {
    db.run(
        r#"CREATE TEMP TABLE everything (
             id UUID PRIMARY KEY, "order" TEXT, "type" INT, long BIGINT, float DOUBLE PRECISION, flag BOOLEAN,
             at TIMESTAMPTZ, bytes BYTEA, document JSONB, maybe_id UUID, maybe_text TEXT, maybe_long BIGINT,
             maybe_at TIMESTAMPTZ, maybe_bytes BYTEA, maybe_document JSONB)"#,
    )
    .await
    .unwrap();
    let now = Utc::now().trunc_subsecs(6);
    let full = Everything {
        id: Uuid::now_v7(),
        order: "it's \"quoted\", {braced} and ünïcode".to_owned(),
        r#type: i32::MIN,
        long: i64::MAX,
        float: 0.1,
        flag: true,
        at: now,
        bytes: vec![0, 255],
        document: json!({ "nested": [1, null] }),
        maybe_id: Some(Uuid::now_v7()),
        maybe_text: Some(String::new()),
        maybe_long: Some(-1),
        maybe_at: Some(now),
        maybe_bytes: Some(Vec::new()),
        maybe_document: Some(json!([])),
    };
    let empty = Everything {
        id: Uuid::now_v7(),
        maybe_id: None,
        maybe_text: None,
        maybe_long: None,
        maybe_at: None,
        maybe_bytes: None,
        maybe_document: None,
        ..full.clone()
    };

    let keys = [full.id, empty.id];
    let mut rows = Rows::<Everything>::load(db, keys).await.unwrap();
    rows.insert(full.clone()).unwrap();
    rows.insert(empty.clone()).unwrap();
    rows.save(db).await.unwrap();

    let rows = Rows::<Everything>::load(db, keys).await.unwrap();
    assert_eq!(rows.get(&full.id).unwrap(), Some(&full));
    assert_eq!(rows.get(&empty.id).unwrap(), Some(&empty));
}
