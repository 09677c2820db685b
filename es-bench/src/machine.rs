//! What the numbers were taken on.

use std::{fs, thread};

use fastrand::Rng;
use sqlx::{Connection, PgConnection};

use crate::{
    backend::{Backend, postgres_url},
    player,
    side::Result,
};

pub(crate) async fn describe(backends: &[Backend], seed: u64) -> Result<()> {
    let cores = thread::available_parallelism()?;
    println!("- machine: {}, {cores} cores", processor());
    for backend in backends {
        match backend {
            Backend::Postgres => println!("- {}", postgres().await?),
            Backend::Sqlite => println!(
                "- SQLite {}: journal_mode WAL, synchronous NORMAL, on both sides",
                rusqlite::version()
            ),
        }
    }
    let payload = serde_json::to_string(&player::moved(&mut Rng::with_seed(seed)))?;
    println!("- payload: {} bytes of JSON; seed {seed}", payload.len());
    if cfg!(debug_assertions) {
        println!("- A DEBUG BUILD: the numbers mean nothing, use --release");
    }
    if cfg!(feature = "allocations") {
        println!("- counting allocations: times are longer than they should be");
    }
    Ok(())
}

fn processor() -> String {
    let unknown = || std::env::consts::ARCH.to_owned();
    let Ok(text) = fs::read_to_string("/proc/cpuinfo") else {
        return unknown();
    };
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(unknown, |(_, name)| name.to_owned())
}

async fn postgres() -> Result<String> {
    let mut connection = PgConnection::connect(&postgres_url()?).await?;
    let (version, fsync, commit, pages): (String, String, String, String) = sqlx::query_as(
        "SELECT current_setting('server_version'), current_setting('fsync'),
                current_setting('synchronous_commit'), current_setting('full_page_writes')",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    let warning = match fsync.as_str() {
        "on" => "",
        _ => ": NOT DURABLE, use scripts/bench",
    };
    Ok(format!(
        "Postgres {version}: fsync {fsync}, synchronous_commit {commit}, full_page_writes {pages}{warning}"
    ))
}
