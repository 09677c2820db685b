//! Who keeps readers from the end of the log: for those who watch over a system.

use std::time::Duration;

use es_core::{Blocker, Horizon, ReadError};

use super::{
    Inner,
    read::{alive, failed},
    row,
};

const END: &str = "SELECT coalesce(max(position), 0) FROM {schema}.events";
/// Of these transactions the one that is open for longest. Who may not see the sessions of other roles
/// finds no time there. A prepared transaction has no session; its own lock leads to its name.
const OLDEST: &str = "SELECT l.pid,
        coalesce(p.gid, nullif(a.application_name, ''), a.usename::text, '') AS name,
        extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8
    FROM (SELECT DISTINCT virtualtransaction, pid FROM pg_locks
           WHERE virtualtransaction = ANY($1)) l
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN (pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid)
      ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
    ORDER BY coalesce(a.xact_start, p.prepared) NULLS LAST, l.pid LIMIT 1";

pub(super) async fn horizon(store: &Inner) -> Result<Horizon, ReadError> {
    let failed = |error| failed("the end of the log", error);
    // The look comes after it: what ends short of it is held back.
    let end = alive(|| sqlx::query_scalar(store.text(END)).fetch_one(&store.events));
    let end = row::position(end.await.map_err(failed)?)?;
    let settled = store.settle().await?;
    let mut horizon = Horizon {
        settled,
        end: end.max(settled),
        blocker: None,
    };
    if settled >= end {
        return Ok(horizon);
    }
    let Some((writers, waited)) = store.horizon.held_by().await else {
        return Ok(horizon);
    };
    let oldest = alive(|| {
        sqlx::query_as(store.text(OLDEST))
            .bind(&writers)
            .fetch_optional(&store.events)
    });
    let oldest: Option<(Option<i32>, String, Option<f64>)> = oldest.await.map_err(failed)?;
    horizon.blocker = oldest.map(|(pid, name, seconds)| {
        let age = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Blocker {
            pid,
            name,
            // It cannot be younger than the time we have waited for it.
            age: age.unwrap_or_default().max(waited),
        }
    });
    Ok(horizon)
}
