//! A server of a test's own, which it may crash and restart. It listens on a socket in a temporary
//! folder and is stopped when it is dropped, also by a panic.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

pub(crate) struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    /// Postgres refuses to run as root: it runs as this user, where we are root.
    owner: Option<&'static str>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let is_root = fs::metadata(folder.path()).unwrap().uid() == 0;
        let cluster = Self {
            folder,
            bin: find_bin(),
            owner: is_root.then(unprivileged),
        };
        if let Some(owner) = cluster.owner {
            check(Command::new("chown").arg(owner).arg(cluster.folder.path()));
        }
        check(
            cluster
                .server_tool("initdb")
                .args(["--username", "es", "--auth", "trust", "--encoding", "UTF8"])
                .args(["--locale", "C", "--no-sync"]),
        );
        cluster.start_again();
        cluster
    }

    /// Starts the server that [`stop`](Self::stop) has stopped.
    pub(crate) fn start_again(&self) {
        let folder = self.folder.path().display();
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off \
             -c full_page_writes=off -c max_prepared_transactions=5 -c shared_buffers=16MB"
        );
        check(
            self.server_tool("pg_ctl")
                .args(["--wait", "--timeout", "60", "--options", &options])
                .arg("--log")
                .arg(self.folder.path().join("log"))
                .arg("start"),
        );
    }

    /// `fast` ends the sessions, `immediate` is a crash.
    pub(crate) fn stop(&self, mode: &str) {
        check(
            self.server_tool("pg_ctl")
                .args(["--wait", "--mode", mode, "stop"]),
        );
    }

    pub(crate) fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://es@localhost/postgres?host={folder}")
    }

    /// A program that initdb comes with.
    pub(crate) fn tool(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }

    /// A program that works on the data.
    fn server_tool(&self, name: &str) -> Command {
        let (folder, program) = (self.folder.path(), self.bin.join(name));
        let mut command = match self.owner {
            None => Command::new(program),
            Some(owner) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", owner, "--regid", &group_of(owner)]);
                command.arg("--clear-groups").arg(program);
                command
            }
        };
        command.current_dir(folder).env("HOME", folder);
        command.arg("--pgdata").arg(folder.join("data"));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be stopped already.
        let mut stop = self.server_tool("pg_ctl");
        let _ = stop.args(["--mode", "immediate", "stop"]).output();
    }
}

/// Runs a program that must succeed.
pub(crate) fn check(command: &mut Command) {
    // A server keeps what it inherits: its output must not be a pipe that we wait for.
    let output = tempfile::NamedTempFile::new().unwrap();
    let to = || output.reopen().unwrap();
    let status = command.stdout(to()).stderr(to()).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{command:?}: {status:?}: {}",
        fs::read_to_string(output.path()).unwrap_or_default()
    );
}

/// The folder of the newest initdb with its server: on PATH (perhaps by a link), or where Debian has it.
fn find_bin() -> PathBuf {
    let has_server = |bin: &Path| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|p| bin.join(p).exists())
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
        .expect("needs initdb, pg_ctl and postgres: put them on PATH")
}

fn unprivileged() -> &'static str {
    let known = Command::new("id").arg("postgres").output();
    if known.is_ok_and(|output| output.status.success()) {
        return "postgres";
    }
    "nobody"
}

fn group_of(owner: &str) -> String {
    let output = Command::new("id").args(["-g", owner]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
