//! A crowd: as many players and moves as asked for, while the daemon keeps up.

use std::time::{Duration, Instant};

use chrono::Utc;
use es_core::{EventStore, Filter, Position, Project, ProjectionStore, Repository, SnapshotStore};
use es_projections::Daemon;
use examples::{
    Player, RoomOccupancy,
    player::PlayerCreated,
    room_occupancy::WhoIsWhere,
    rooms::{ALL, HALL},
};
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use crate::Failure;

/// How many players act at the same time.
const TASKS: usize = 16;

pub(crate) async fn walk<S>(store: S, players: u32, moves: u32) -> Result<(), Failure>
where
    S: ProjectionStore + SnapshotStore + WhoIsWhere + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    let before = end_of(&store).await?;
    let daemon = Daemon::new(store.clone())
        .run(RoomOccupancy)
        .start()
        .await?;
    let repository = Repository::<Player>::new(store.clone()).snapshot_every(100);
    let bar = progress_bar(u64::from(players) * (u64::from(moves) + 1));

    let begin = Instant::now();
    let last = stream::iter(0..players)
        .map(|number| one_player(repository.clone(), bar.clone(), number, moves))
        .buffer_unordered(TASKS)
        .try_fold(before, |last, moved| async move { Ok(last.max(moved)) })
        .await?;
    let written = begin.elapsed();
    bar.finish_and_clear();

    daemon.wait_until("room_occupancy", last).await?;
    let lag = begin.elapsed().saturating_sub(written);
    summary(players, moves, written, lag);
    check(&store, players, moves, before).await?;
    daemon.shutdown().await?;
    Ok(())
}

/// Enters the hall and walks in circles; returns the position of the last step.
async fn one_player(
    repository: Repository<Player>,
    bar: ProgressBar,
    number: u32,
    moves: u32,
) -> Result<Position, Failure> {
    let id = Uuid::now_v7();
    let created = PlayerCreated {
        name: format!("Player {number}"),
        room_id: HALL,
    };
    let mut last = repository.create(id, created).await?.position;
    bar.inc(1);
    for (room, _) in ALL.iter().cycle().skip(1).take(moves as usize) {
        let moved = repository
            .update(id, |player| player.move_to(*room, Utc::now()))
            .await?;
        last = moved.map_or(last, |moved| moved.position);
        bar.inc(1);
    }
    Ok(last)
}

fn progress_bar(events: u64) -> ProgressBar {
    let style = "{bar:40} {pos}/{len} events  {per_sec}  {eta} left";
    let bar = ProgressBar::new(events);
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn summary(players: u32, moves: u32, written: Duration, lag: Duration) {
    let events = u64::from(players) * (u64::from(moves) + 1);
    let rate = f64::from(players) * (f64::from(moves) + 1.0) / written.as_secs_f64();
    println!("{players} players made {moves} moves each");
    println!("  events     {events} in {:.2} s", written.as_secs_f64());
    println!("  events/s   {rate:.0}");
    println!("  lag        {} ms after the last event", lag.as_millis());
}

/// The read model against the log, counted by hand.
async fn check<S>(store: &S, players: u32, moves: u32, before: Position) -> Result<(), Failure>
where
    S: EventStore + WhoIsWhere,
{
    let mut in_log = 0_u64;
    let mut after = before;
    loop {
        let page = store.read_log(&Filter::All, after, 1_000).await?;
        in_log += page.events.len() as u64;
        after = page.covered;
        if page.events.len() < 1_000 {
            break;
        }
    }
    let rows = store.who_is_where().await?;
    let walked = rows.iter().filter(|row| row.3 == i64::from(moves)).count();
    println!("  in the log {in_log} events, in the read model {walked} players with {moves} moves");
    if in_log < u64::from(players) * (u64::from(moves) + 1) || walked < players as usize {
        return Err("the read model does not match the log".into());
    }
    Ok(())
}

async fn end_of(store: &impl EventStore) -> Result<Position, Failure> {
    Ok(store.settled().await?)
}
