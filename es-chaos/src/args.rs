//! The command line: that of the supervisor, and the hidden ones of its children.

use std::{fmt, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

/// Runs writers and daemons, kills, freezes and restarts them, and checks what they leave.
#[derive(Parser)]
pub(crate) struct Args {
    /// Which database
    #[arg(long, global = true, default_value = "sqlite")]
    pub(crate) backend: Backend,
    /// For how long there is chaos; repairing and checking come on top
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides what happens; chosen and printed if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Tell what is done as it is done
    #[arg(long)]
    verbose: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// A file.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// What a child does.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// Appends events.
    #[command(hide = true)]
    Writer(Part),
    /// Runs projections.
    #[command(hide = true)]
    Daemon(Part),
}

/// What a child is told.
#[derive(clap::Args)]
pub(crate) struct Part {
    #[arg(long)]
    pub(crate) url: String,
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Of the whole run: which aggregates there are.
    #[arg(long)]
    pub(crate) seed: u64,
    /// Of this process alone.
    #[arg(long)]
    pub(crate) own_seed: u64,
    /// Of the oracle: all versions up to this one are known.
    #[arg(long, default_value_t = 1)]
    pub(crate) versions: u32,
    /// Nothing is made to fail.
    #[arg(long)]
    pub(crate) calm: bool,
}

/// One run.
pub(crate) struct Plan {
    pub(crate) backend: Backend,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) verbose: bool,
}

impl Args {
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            backend: self.backend,
            seconds: self.seconds,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000)),
            verbose: self.verbose,
        }
    }
}

impl Plan {
    /// What to type to have it again.
    pub(crate) fn command(&self) -> String {
        format!(
            "cargo run -p es-chaos -- --backend {} --seconds {} --seed {}",
            self.backend.name(),
            self.seconds,
            self.seed
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = self.backend.name();
        write!(
            f,
            "{backend}, {} s of chaos, seed {}",
            self.seconds, self.seed
        )
    }
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}
