//! All sides do the same work and refuse the same things: else their times could not be compared.

use std::sync::Arc;

use fastrand::Rng;
use uuid::Uuid;

use crate::{
    backend::{self, Backend, Sides},
    player,
    side::Side,
    workloads::{command, contention},
};

async fn sides() -> Vec<Sides> {
    let mut sides = Vec::new();
    for backend in [Backend::Postgres, Backend::Sqlite] {
        sides.push(backend.open(0).await.expect("the sides open"));
    }
    sides
}

async fn check(side: &Arc<dyn Side>) {
    let name = side.name();
    let mut rng = Rng::with_seed(1);

    let id = command::seed(side, 3, &mut rng).await.expect("a history");
    let moves = [player::moved(&mut rng), player::moved(&mut rng)];
    side.append(id, 3, &moves).await.expect("two more events");
    let room = player::room(&mut rng);
    side.command(id, room).await.expect("a command");
    let player = side.load(id).await.expect("the player");
    assert_eq!((player.moves, player.current_room_id), (5, room), "{name}");

    side.append(id, 5, &moves[..1])
        .await
        .expect_err("an append at a version that is taken");
    side.append(id, 5, &moves)
        .await
        .expect_err("a batch that overlaps the stream");
    assert_eq!(side.load(id).await.expect("the player"), player, "{name}");

    side.command(Uuid::now_v7(), room)
        .await
        .expect_err("a command to nobody");
    // Fails if a command is lost.
    contention::round(side, 4, std::time::Duration::from_millis(1), 1)
        .await
        .expect("no lost commands");
}

/// Seen to fail when the rusqlite floor adds the number of its events to the version it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sides_do_the_same() {
    for sides in sides().await {
        for side in &sides.all {
            check(side).await;
        }
    }
    backend::clean_postgres()
        .await
        .expect("nothing is left behind");
}
