//! How all projections are doing, as a table that is drawn again in place.

use std::io::{self, IsTerminal, Write};

use es_projections::{Health, Status};

/// Draws statuses: on a terminal a table that refreshes, otherwise a line for each change.
#[derive(Debug)]
pub(crate) struct Table {
    refreshes: bool,
    lines: usize,
    said: Vec<String>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            refreshes: io::stdout().is_terminal(),
            lines: 0,
            said: Vec::new(),
        }
    }

    pub(crate) fn show(&mut self, statuses: &[Status], health: &Health) -> io::Result<()> {
        match self.refreshes {
            true => self.draw(statuses, health),
            false => self.tell(statuses),
        }
    }

    fn draw(&mut self, statuses: &[Status], health: &Health) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.lines > 0 {
            // Up to where the last one began, and away with it.
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        let mut lines = vec![format!(
            "{:<20} {:<12} {:>9} {:>9} {:>7} {:>9} {:>9}  {}",
            "projection", "state", "position", "head", "lag", "behind", "events/s", "run by"
        )];
        lines.extend(statuses.iter().flat_map(rows));
        lines.push(health.to_string());
        for line in &lines {
            writeln!(out, "{line}")?;
        }
        self.lines = lines.len();
        out.flush()
    }

    fn tell(&mut self, statuses: &[Status]) -> io::Result<()> {
        let lines: Vec<_> = statuses.iter().map(Status::to_string).collect();
        let mut out = io::stdout().lock();
        for line in lines.iter().filter(|line| !self.said.contains(line)) {
            writeln!(out, "{line}")?;
        }
        self.said = lines;
        out.flush()
    }
}

/// A line for the projection, and one for each shard if there are several.
fn rows(status: &Status) -> Vec<String> {
    let behind = match (status.behind, status.time_left) {
        (_, Some(left)) => format!("{} s left", left.as_secs()),
        (Some(behind), None) => format!("{:.1} s", behind.as_secs_f64()),
        (None, None) => "?".to_owned(),
    };
    let mut lines = vec![format!(
        "{:<20} {:<12} {:>9} {:>9} {:>7} {:>9} {:>9.0}  {}",
        status.projection.to_string(),
        status.state.to_string(),
        status.position.to_string(),
        status.head.to_string(),
        status.lag(),
        behind,
        status.events_per_second,
        status.owners.join(", "),
    )];
    if status.shards.len() > 1 {
        lines.extend(status.shards.iter().map(|shard| {
            format!(
                "  shard {:<12} {:<12} {:>9} {:>48}  {}",
                shard.index,
                shard.state.to_string(),
                shard.position.to_string(),
                "",
                shard.owner.as_deref().unwrap_or("nobody"),
            )
        }));
    }
    if let Some(error) = &status.last_error {
        lines.push(format!("  {error}"));
    }
    lines
}
