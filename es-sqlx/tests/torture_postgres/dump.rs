//! A log that moves to another cluster.

use std::process::Stdio;

use es_core::{Batch, EventStore, Filter, Position, Progress, ProjectionId, ProjectionStore};
use es_sqlx::postgres::PgOptions;
use uuid::Uuid;

use crate::{
    cluster::{Cluster, check},
    oracle::{add, finish, follow, lamp},
    postgres_server::{fresh_store, url},
    torture::node,
    tricks::{draw, fold, run, session},
};

/// Transaction ids start again in a new cluster, positions go on: the old events are rebuilt fully, a
/// checkpoint goes on where it was, and new events arrive. With holes in the log, as every log has. Seen
/// to fail when holes are passed only by samples.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dump_restore_new_cluster() {
    let old = fresh_store().await;
    let mut db = session(old.schema()).await;
    let stream = lamp();
    for version in 1..=20 {
        run(&mut db, "BEGIN").await;
        draw(&mut db, Uuid::now_v7(), 1).await;
        run(&mut db, "ROLLBACK").await;
        draw(&mut db, stream.aggregate_id, version).await;
    }
    let lamps = ProjectionId::new("lamps", 1);
    let lamps = node::register(&old, &lamps, &["switched"]).await;
    let owner = node::start(&old).await;
    let claim = old.acquire(&lamps, &["switched"], owner).await.unwrap();
    let half = old
        .read_log(&Filter::All, Position::START, 10)
        .await
        .unwrap();
    let to = Progress {
        position: half.covered,
        anchor: half.events.last().map(|e| (e.position, e.event_id)),
    };
    let batch = old.begin_batch(&claim, &to).await.unwrap();
    batch.commit().await.unwrap();

    let cluster = Cluster::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    check(
        cluster
            .tool("pg_dump")
            .args([
                "--format=custom",
                "--schema",
                old.schema(),
                "--dbname",
                &url(),
            ])
            .arg("--file")
            .arg(file.path())
            .stdin(Stdio::null()),
    );
    check(
        cluster
            .tool("pg_restore")
            .args(["--exit-on-error", "--dbname", &cluster.url()])
            .arg(file.path()),
    );

    let new = PgOptions::new(cluster.url()).schema(old.schema());
    let new = new.connect().await.unwrap();
    new.migrate().await.unwrap();
    assert_eq!(fold(&new).await, fold(&old).await);
    let claim = new.acquire(&lamps, &["switched"], owner).await.unwrap();
    assert_eq!(claim.position, half.covered);
    let next = add(&new, &stream, 1).await;
    assert_eq!(next.position, Position::new(41));
    let rest = new
        .read_log(&Filter::All, claim.position, 100)
        .await
        .unwrap();
    assert_eq!((rest.events.len(), rest.covered), (11, Position::new(41)));

    finish(&new).await;
    let model = follow(&new, 7, |_| ()).await;
    assert_eq!(model.tallies, fold(&new).await);
}
