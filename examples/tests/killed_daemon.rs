//! A daemon that is killed again and again while others write, on both databases.

mod processes;

use std::{process::Command, thread, time::Duration};

use processes::{start, succeed};

const KILLS: u32 = 20;

#[test]
fn a_killed_daemon_loses_and_doubles_nothing_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    kill_again_and_again(&processes::sqlite(&folder));
}

#[test]
fn a_killed_daemon_loses_and_doubles_nothing_on_postgres() {
    kill_again_and_again(&processes::postgres());
}

/// Kills a daemon at random moments while a writer appends; the last one may finish. The read model
/// refuses a move from where a player is not, so that a lost or doubled event stops the daemon. Seen to
/// fail in two runs of three when the checkpoint is committed apart from the read model.
#[expect(
    clippy::disallowed_methods,
    reason = "a random moment is what the test is about"
)]
fn kill_again_and_again(database: &[String]) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let daemon = || start("projection_daemon", &["run", "--lease-ms", "100"], database);
    let writer = || start("projection_daemon", &["write", "--moves", "100"], database);

    let mut writers = vec![writer()];
    for _ in 0..KILLS {
        // Keep someone writing through every kill.
        if writers.last_mut().unwrap().try_wait().unwrap().is_some() {
            writers.push(writer());
        }
        let mut victim = daemon();
        thread::sleep(Duration::from_millis(random.u64(150..450)));
        if victim.try_wait().unwrap().is_some() {
            panic!("the daemon ended by itself: {}", succeed(victim));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    writers.into_iter().for_each(|writer| drop(succeed(writer)));

    let survivor = daemon();
    let check = start("projection_daemon", &["check"], database);
    let verdict = succeed(check);
    Command::new("kill")
        .arg(survivor.id().to_string())
        .status()
        .unwrap();
    let said = succeed(survivor);

    assert!(
        verdict.contains("the read model equals the fold"),
        "{verdict}"
    );
    assert!(
        said.ends_with("stopped\n"),
        "SIGTERM must end it in good order: {said}"
    );
}
