//! Files that processes share, also over their deaths: what was acknowledged, what must not have happened,
//! which aggregates are poisoned.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use es_core::{Appended, StreamId};
use tempfile::TempDir;
use uuid::Uuid;

/// The folder of a run.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn create() -> io::Result<Self> {
        Ok(Self(
            tempfile::Builder::new().prefix("es-chaos-").tempdir()?,
        ))
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// It is not deleted at the end.
    pub(crate) fn keep(self) -> PathBuf {
        self.0.keep()
    }
}

/// A file of lines that grows. A line that was written survives its writer.
#[derive(Debug)]
pub(crate) struct Lines(File);

impl Lines {
    fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(name))?;
        Ok(Self(file))
    }

    /// In one write, so that lines of several processes do not mix.
    fn add(&self, line: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

fn read(folder: &Path, name: &str) -> io::Result<String> {
    match fs::read_to_string(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Events that were recorded together: their ids follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) aggregate_id: Uuid,
    pub(crate) base: u128,
    pub(crate) count: u32,
}

impl Batch {
    pub(crate) fn ids(self) -> impl Iterator<Item = Uuid> {
        (0..self.count).map(move |index| Uuid::from_u128(self.base + u128::from(index)))
    }
}

/// What writers know of their appends.
#[derive(Debug)]
pub(crate) struct Receipts {
    acknowledged: Lines,
    abandoned: Lines,
}

const ACKNOWLEDGED: &str = "acknowledged";
const ABANDONED: &str = "abandoned";

impl Receipts {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            acknowledged: Lines::open(folder, ACKNOWLEDGED)?,
            abandoned: Lines::open(folder, ABANDONED)?,
        })
    }

    /// The store has said that these are recorded.
    pub(crate) fn acknowledged(
        &self,
        stream: &StreamId,
        base: u128,
        count: u32,
        at: Appended,
    ) -> io::Result<()> {
        let (version, position) = (at.version.get(), at.position.get());
        let id = stream.aggregate_id;
        self.acknowledged
            .add(&format!("{id} {base} {count} {version} {position}"))
    }

    /// These are about to be rolled back. Nobody records them otherwise.
    pub(crate) fn abandoned(&self, stream: &StreamId, base: u128, count: u32) -> io::Result<()> {
        self.abandoned
            .add(&format!("{} {base} {count} 0 0", stream.aggregate_id))
    }

    pub(crate) fn all_acknowledged(folder: &Path) -> io::Result<Vec<(Batch, u32, u64)>> {
        Ok(parse(&read(folder, ACKNOWLEDGED)?))
    }

    pub(crate) fn all_abandoned(folder: &Path) -> io::Result<Vec<Batch>> {
        let receipts = parse(&read(folder, ABANDONED)?);
        Ok(receipts.into_iter().map(|(batch, ..)| batch).collect())
    }
}

fn parse(lines: &str) -> Vec<(Batch, u32, u64)> {
    lines.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(Batch, u32, u64)> {
    let mut words = line.split(' ');
    let batch = Batch {
        aggregate_id: words.next()?.parse().ok()?,
        base: words.next()?.parse().ok()?,
        count: words.next()?.parse().ok()?,
    };
    Some((
        batch,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    ))
}

/// What must never happen, seen by a process that may be dead by now.
#[derive(Debug)]
pub(crate) struct Violations(Lines);

const VIOLATIONS: &str = "violations";

impl Violations {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(Lines::open(folder, VIOLATIONS)?))
    }

    pub(crate) fn report(&self, what: &str) {
        let what = what.replace('\n', " ");
        eprintln!("VIOLATION: {what}");
        if let Err(error) = self.0.add(&what) {
            eprintln!("could not write that down: {error}");
        }
    }

    pub(crate) fn all(folder: &Path) -> io::Result<Vec<String>> {
        Ok(read(folder, VIOLATIONS)?
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

const POISON: &str = "poison";

/// From now on handlers fail at events of these aggregates.
pub(crate) fn set_poison(folder: &Path, poisoned: &[Uuid]) -> io::Result<()> {
    let lines: Vec<_> = poisoned.iter().map(Uuid::to_string).collect();
    // Readers see the old file or the new one.
    let new = folder.join("poison.new");
    fs::write(&new, lines.join("\n"))?;
    fs::rename(new, folder.join(POISON))
}

pub(crate) fn poison(folder: &Path) -> io::Result<Vec<Uuid>> {
    Ok(read(folder, POISON)?
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect())
}
