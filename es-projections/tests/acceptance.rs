//! What a daemon must bear, by the names of the cases, on a Postgres server and on SQLite files. In the end
//! the read model is compared with a fold of the log.

mod support;

#[path = "acceptance/bench.rs"]
mod bench;
#[path = "acceptance/decisions.rs"]
mod decisions;
#[path = "acceptance/diary.rs"]
mod diary;
#[path = "acceptance/owners.rs"]
mod owners;
#[path = "acceptance/poison.rs"]
mod poison;
#[path = "acceptance/pressure.rs"]
mod pressure;
#[path = "acceptance/process.rs"]
mod process;
#[path = "acceptance/versions.rs"]
mod versions;
#[path = "acceptance/writers.rs"]
mod writers;

macro_rules! on {
    ($kind:ident, $bench:ident: $($file:ident: $($test:ident)*;)*) => {
        mod $kind {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::$file::$test::<crate::bench::$bench>().await;
                }
            )*)*
        }
    };
}

macro_rules! on_both {
    ($($cases:tt)*) => {
        on! { sqlite, SqliteFile: $($cases)* }
        on! { postgres, PgSchema: $($cases)* }
    };
}

on_both! {
    decisions: pause_resume_rewind_survive graceful_stop fully_behind wait_until_ends
        erased_streams_do_not_stall;
    pressure: back_pressure stall_is_visible;
    owners: two_daemons_same_shard zombie_fenced lease_clock_independent parallel_shards_order;
    poison: poison_stop poison_park unknown_event_type commit_inside;
    versions: rebuild_while_writing rebuild_deterministic side_effects_once rolling_deploy;
}
