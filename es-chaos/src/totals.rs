//! What was done.

use std::fmt;

/// Counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) kills: u32,
    pub(crate) freezes: u32,
    pub(crate) drains: u32,
    pub(crate) server_stops: u32,
    pub(crate) backends_ended: u64,
    pub(crate) versions: u32,
    pub(crate) hand_overs: u32,
    pub(crate) orders: u32,
    pub(crate) orders_refused: u32,
    pub(crate) divides: u32,
    pub(crate) rewinds: u32,
    pub(crate) resets: u32,
    pub(crate) rebuilt_aggregates: u32,
    pub(crate) poisonings: u32,
    pub(crate) retried_letters: u64,
    pub(crate) appends: usize,
    pub(crate) events: usize,
    pub(crate) effects: usize,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            events,
            appends,
            effects,
            ..
        } = self;
        writeln!(
            f,
            "{events} events, {appends} acknowledged appends, {effects} effects"
        )?;
        let Self {
            kills,
            freezes,
            drains,
            server_stops,
            backends_ended,
            ..
        } = self;
        writeln!(
            f,
            "{kills} kills, {freezes} freezes, {drains} drains, {server_stops} server stops, \
             {backends_ended} sessions ended"
        )?;
        let Self {
            versions,
            hand_overs,
            divides,
            rewinds,
            resets,
            rebuilt_aggregates,
            ..
        } = self;
        writeln!(
            f,
            "{versions} versions, {hand_overs} hand-overs, {divides} divides, {rewinds} rewinds, \
             {resets} resets, {rebuilt_aggregates} aggregates rebuilt"
        )?;
        let Self {
            poisonings,
            retried_letters,
            orders,
            orders_refused,
            ..
        } = self;
        write!(
            f,
            "{poisonings} poisonings, {retried_letters} letters retried, {orders} orders, of which \
             {orders_refused} were refused"
        )
    }
}
