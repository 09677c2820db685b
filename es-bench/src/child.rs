//! This program once more, as a process of its own: its memory is then that of one replay, and what it does
//! is what another process does.

use std::{
    fs,
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{live, place::Place, replay, side::Result};

/// What the other process is to do. It writes lines of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Replay(Place, replay::Order),
    Follow(Place),
}

/// Does what the other process has asked for.
pub(crate) async fn run(task: &str) -> Result<()> {
    match serde_json::from_str(task)? {
        Task::Replay(place, order) => replay::ours::run(&place, order).await,
        Task::Follow(place) => live::follow(&place).await,
    }
}

/// To the one who has asked.
pub(crate) fn say(message: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(message)?);
    Ok(())
}

/// The other process. It is killed when this is dropped.
pub(crate) struct Other {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Other {
    pub(crate) fn start(task: &Task) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--task")
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        Ok(Self {
            process,
            input: input.ok_or("its input is not ours")?,
            output: BufReader::new(output.ok_or("its output is not ours")?).lines(),
        })
    }

    /// The next thing it has to say.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        match self.output.next_line().await? {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => Err(format!("the other process: {}", self.process.wait().await?).into()),
        }
    }

    /// Tells it something, on a line.
    pub(crate) async fn tell(&mut self, message: &impl Serialize) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(message)?);
        Ok(self.input.write_all(line.as_bytes()).await?)
    }
}

/// The most memory this process ever had in use, in KiB. Linux only.
pub(crate) fn peak_memory() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Since 1970: processes of one machine have the same clock.
pub(crate) fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}
