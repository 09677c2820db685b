//! A child of this program, and what can be done to it.

use std::{
    fs::OpenOptions,
    io::Read,
    process::{ExitStatus, Stdio},
};

use es_core::BoxError;
use tokio::process::{Child, ChildStdin, Command};

/// A process that is up.
pub(crate) struct Process {
    child: Child,
    /// While it is open the child knows that its parent lives. Kept apart: waiting for a child closes what
    /// belongs to it.
    _pipe: Option<ChildStdin>,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Stop,
    Continue,
    Terminate,
    Kill,
}

impl Process {
    /// Starts this program with other arguments. What it says goes to the end of `log`.
    pub(crate) fn start(arguments: &[String], log: &std::path::Path) -> Result<Self, BoxError> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.kill_on_drop(true).spawn()?;
        let _pipe = child.stdin.take();
        Ok(Self { child, _pipe })
    }

    /// A process that has ended meanwhile hears nothing.
    pub(crate) async fn signal(&mut self, signal: Signal) -> Result<(), BoxError> {
        let Some(id) = self.child.id() else {
            return Ok(());
        };
        let name = match signal {
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
            Signal::Terminate => "-TERM",
            Signal::Kill => "-KILL",
        };
        let mut kill = Command::new("kill");
        kill.args([name, &id.to_string()])
            .stderr(Stdio::null())
            .status()
            .await?;
        Ok(())
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, BoxError> {
        Ok(self.child.try_wait()?)
    }

    pub(crate) async fn wait(&mut self) -> Result<ExitStatus, BoxError> {
        Ok(self.child.wait().await?)
    }
}

/// In a child: ends it when the pipe to its parent is closed, however the parent ended.
pub(crate) fn die_with_parent() {
    // A thread, since the runtime would wait for one of its own at the end.
    std::thread::spawn(|| {
        let mut nothing = Vec::new();
        // The parent never writes.
        let _ = std::io::stdin().read_to_end(&mut nothing);
        std::process::exit(9);
    });
}
