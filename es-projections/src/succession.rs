//! One version of a projection takes the place of another: first the events, then the readers.

use es_core::{Batch, Chain, Position, ProjectionId, ProjectionStore};

use crate::{
    batch::Batches,
    change,
    error::Problem,
    lifecycle::{self, CommandError},
    repair,
    target::Target,
};

/// How many positions a new version may be behind when it takes over.
const WITHIN: u64 = 1_000;

/// What a version that is built beside the one in charge may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read up to here: beyond it, effects have not been emitted yet.
    Read(Position),
    /// It has taken over, and everybody who was at work is fenced.
    TookOver,
    /// Wait for the other version, or for people.
    Wait,
    /// Wait for people, who should know why.
    Blocked(String),
}

/// Looks how far the version in charge has come; takes over from it if the rules allow it, and if it has
/// been where that one was when it looked last.
pub(crate) async fn next<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
    covered: Position,
    caught_up: bool,
) -> Result<Next, Problem> {
    let standings = store.standings(Some(&projection.name)).await?;
    let ceiling = match lifecycle::ceiling(&standings, projection) {
        Some(ceiling) => ceiling,
        None => store.settled().await?,
    };
    if ceiling > covered && !caught_up {
        return Ok(Next::Read(ceiling));
    }
    // Asked first without holding anybody up. It need not be there quite: the other one may never rest.
    let handed = match lifecycle::hand_over(&standings, projection, WITHIN) {
        Ok(_) => hand_over(store, projection).await,
        Err(error) => Err(error),
    };
    match handed {
        Err(error) if ceiling > covered && !matches!(error, CommandError::Store(_)) => {
            tracing::debug!(reason = %error, "cannot take over yet");
            Ok(Next::Read(ceiling))
        }
        Ok(()) => {
            tracing::info!(%projection, "took over from the version that was in charge");
            Ok(Next::TookOver)
        }
        Err(CommandError::Store(error)) => Err(error.into()),
        Err(error @ (CommandError::Parked { .. } | CommandError::NotPromoted { .. })) => {
            Ok(Next::Blocked(error.to_string()))
        }
        Err(reason) => {
            tracing::debug!(%reason, "cannot take over yet");
            Ok(Next::Wait)
        }
    }
}

async fn hand_over<S: ProjectionStore>(
    store: &S,
    projection: &ProjectionId,
) -> Result<(), CommandError> {
    let (mut batch, standings) = store.begin_change(projection).await?;
    let change = lifecycle::hand_over(&standings, projection, WITHIN)?;
    if let Some(from) = lifecycle::in_charge(&standings).filter(|from| *from != projection) {
        repair::nothing_parked(&mut batch, from).await?;
    }
    change::write(&mut batch, &change).await?;
    Ok(batch.commit().await?)
}

/// Makes the version the one that is served, if the rules allow it.
pub(crate) async fn activate<S: ProjectionStore, T: Target<S>>(
    batches: &Batches<S, T>,
    projection: &ProjectionId,
) -> Result<bool, Problem> {
    let activated: Result<(), CommandError> = async {
        let (mut batch, standings) = batches.store.begin_change(projection).await?;
        let change = lifecycle::activate(&standings, projection)?;
        let served = batches.target.activate(batch.connection()).await;
        served.map_err(repair::handler(&*batches.store, projection))?;
        change::write(&mut batch, &change).await?;
        Ok(batch.commit().await?)
    }
    .await;
    match activated {
        Ok(()) => {
            tracing::info!(%projection, "is now the version that is served");
            Ok(true)
        }
        Err(CommandError::Handler { source, .. }) => {
            // Its read model is kept up to date, but nobody reads it: somebody should know.
            Err(Problem::Unavailable(Chain(&*source).to_string()))
        }
        Err(CommandError::Store(error)) => Err(error.into()),
        Err(reason) => {
            tracing::debug!(%reason, "cannot be served yet");
            Ok(false)
        }
    }
}
