//! Two processes that append to one aggregate, on both databases.

mod processes;

use processes::{start, succeed};

#[test]
fn two_processes_lose_no_update_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    two_processes(&processes::sqlite(&folder));
}

#[test]
fn two_processes_lose_no_update_on_postgres() {
    two_processes(&processes::postgres());
}

/// `check` folds the log and fails if a version is missing or an event makes no sense where it is; it
/// counts the moves of the player.
fn two_processes(database: &[String]) {
    let player = uuid::Uuid::now_v7().to_string();
    let write = ["write", "--player", &player, "--moves", "100"];

    let (first, second) = (
        start("projection_daemon", &write, database),
        start("projection_daemon", &write, database),
    );
    succeed(first);
    succeed(second);

    let mut daemon = start("projection_daemon", &["run"], database);
    let verdict = succeed(start("projection_daemon", &["check"], database));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(
        verdict,
        "201 events, 1 players: the read model equals the fold\n"
    );
}
