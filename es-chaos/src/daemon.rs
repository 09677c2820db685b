//! A child that runs the projections until it is told to stop, or killed.

use std::{pin::pin, time::Duration};

use es_core::{BoxError, Chain};
use es_projections::{Daemon, OnFailure, Options, Settings, StartError, told_to_stop};
use fastrand::Rng;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

use crate::{
    args::Part,
    database::{self, Store},
    faults::Faults,
    process,
    projections::{FOLDED, Folded, ORACLE, Oracle, SHARDED, Sharded},
    read_model::{ReadModel, Rule},
};

/// How long the batches in hand may take at the end.
const DRAIN: Duration = Duration::from_secs(10);

pub(crate) async fn run<S: Store>(part: Part) -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,es_projections=info"))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    process::die_with_parent();
    // One future for all: in a gap between two of them a signal would be lost.
    let mut told = pin!(told_to_stop());
    let store: S = tokio::select! {
        store = database::open(&part.url) => store?,
        () = &mut told => return Ok(()),
    };
    let handle = loop {
        let started = tokio::select! {
            started = daemon(store.clone(), &part)?.start() => started,
            () = &mut told => return Ok(()),
        };
        match started {
            Ok(handle) => break handle,
            Err(error) if may_pass(&store, &error) => eprintln!("not yet: {}", Chain(&error)),
            Err(error) => return Err(error.into()),
        }
        sleep(Duration::from_millis(100)).await;
    };
    told.await;
    Ok(handle.shutdown_within(DRAIN).await?)
}

fn may_pass<S: Store>(store: &S, error: &StartError) -> bool {
    match error {
        StartError::SetUp { source, .. } => store.is_transient(&**source),
        error => error.is_retryable(),
    }
}

fn daemon<S: Store>(store: S, part: &Part) -> Result<Daemon<S>, BoxError> {
    let mut rng = Rng::with_seed(part.own_seed);
    let batch = Options::default()
        .with_batch_events(rng.u32(1..=400))
        .on_failure(OnFailure::Park);
    let settings = Settings::default()
        .with_options(batch.clone())
        .with_backoff(Duration::from_millis(20), Duration::from_millis(500));
    let slow = Duration::from_millis(if S::ONE_WRITER { 300 } else { 2_500 });
    let mut model = |name, version, rule| {
        let faults = match part.calm {
            true => Faults::none(&part.folder),
            false => Faults::seeded(&part.folder, rng.u64(..), slow),
        };
        ReadModel::new((name, version), rule, faults, &part.folder)
    };
    let sharded = Sharded(model(SHARDED, 1, Rule::Next)?);
    let folded = Folded(model(FOLDED, 1, Rule::Newer)?);
    let mut daemon = Daemon::new(store)
        .settings(settings)
        .run_with(sharded, batch.clone().with_shards(3))
        .run(folded);
    macro_rules! versions {
        ($($version:literal)*) => {$(
            if $version <= part.versions {
                daemon = daemon.run(Oracle::<$version>(model(ORACLE, $version, Rule::Next)?));
            }
        )*};
    }
    versions!(1 2 3 4 5 6 7 8 9 10 11 12);
    Ok(daemon)
}
