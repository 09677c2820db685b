//! A Postgres server of the run's own, which it may crash. It listens on a socket in a temporary folder and
//! is stopped when it is dropped.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use es_core::BoxError;
use tempfile::TempDir;

pub(crate) struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    /// Postgres refuses to run as root: it runs as this user, where we are root.
    owner: Option<&'static str>,
}

impl Cluster {
    pub(crate) fn start() -> Result<Self, BoxError> {
        let folder = tempfile::Builder::new().prefix("es-chaos-pg-").tempdir()?;
        let is_root = fs::metadata(folder.path())?.uid() == 0;
        let cluster = Self {
            folder,
            bin: find_bin().ok_or(
                "needs initdb, pg_ctl and postgres: put them on PATH, or run it through scripts/postgres",
            )?,
            owner: is_root.then(unprivileged),
        };
        if let Some(owner) = cluster.owner {
            check(Command::new("chown").arg(owner).arg(cluster.folder.path()))?;
        }
        let mut initdb = cluster.server_tool("initdb")?;
        initdb.args(["--username", "es", "--auth", "trust", "--encoding", "UTF8"]);
        check(initdb.args(["--locale", "C", "--no-sync"]))?;
        cluster.start_again()?;
        Ok(cluster)
    }

    /// Starts the server that was [crashed](Self::crash).
    pub(crate) fn start_again(&self) -> Result<(), BoxError> {
        let folder = self.folder.path().display();
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off \
             -c full_page_writes=off -c max_connections=300"
        );
        let mut start = self.server_tool("pg_ctl")?;
        start.args(["--wait", "--timeout", "60", "--options", &options]);
        start
            .arg("--log")
            .arg(self.folder.path().join("log"))
            .arg("start");
        check(&mut start)
    }

    /// Every process of the server is gone at once.
    pub(crate) fn crash(&self) -> Result<(), BoxError> {
        check(
            self.server_tool("pg_ctl")?
                .args(["--wait", "--mode", "immediate", "stop"]),
        )
    }

    pub(crate) fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://es@localhost/postgres?host={folder}")
    }

    fn server_tool(&self, name: &str) -> io::Result<Command> {
        let (folder, program) = (self.folder.path(), self.bin.join(name));
        let mut command = match self.owner {
            None => Command::new(program),
            Some(owner) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", owner, "--regid", &group_of(owner)?]);
                command.arg("--clear-groups").arg(program);
                command
            }
        };
        command.current_dir(folder).env("HOME", folder);
        command.arg("--pgdata").arg(folder.join("data"));
        Ok(command)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be stopped already.
        let _ = self.crash();
    }
}

/// Runs a program that must succeed.
fn check(command: &mut Command) -> Result<(), BoxError> {
    // A server keeps what it inherits: its output must not be a pipe that we wait for.
    let output = tempfile::NamedTempFile::new()?;
    command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?);
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(output.path()).unwrap_or_default();
    Err(format!("{}: {status}: {said}", command.get_program().display()).into())
}

/// The folder of the newest initdb with its server: on PATH (perhaps by a link), or where Debian has it.
fn find_bin() -> Option<PathBuf> {
    let has_server = |bin: &Path| {
        let mut programs = ["initdb", "pg_ctl", "postgres"].iter();
        programs.all(|program| bin.join(program).exists())
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .filter_map(|folder| fs::canonicalize(folder.join("initdb")).ok())
        .filter_map(|initdb| Some(initdb.parent()?.to_owned()));
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut installed: Vec<_> = installed.flatten().map(|e| e.path().join("bin")).collect();
    installed.sort();
    on_path
        .chain(installed.into_iter().rev())
        .find(|bin| has_server(bin))
}

fn unprivileged() -> &'static str {
    let known = Command::new("id").arg("postgres").output();
    match known.is_ok_and(|output| output.status.success()) {
        true => "postgres",
        false => "nobody",
    }
}

fn group_of(owner: &str) -> io::Result<String> {
    let output = Command::new("id").args(["-g", owner]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
