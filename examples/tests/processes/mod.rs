//! Running the examples as real processes.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    env,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Arguments that name a database.
pub(crate) type Database = Vec<String>;

/// A schema of its own on the test server.
pub(crate) fn postgres() -> Database {
    let url = env::var("ES_TEST_POSTGRES_URL")
        .expect("needs a Postgres: run scripts/test, or set ES_TEST_POSTGRES_URL");
    let schema = format!("example_{}", uuid::Uuid::now_v7().simple());
    ["--database-url", &url, "--schema", &schema]
        .map(str::to_owned)
        .to_vec()
}

/// A file in `folder`.
pub(crate) fn sqlite(folder: &tempfile::TempDir) -> Database {
    let file = folder.path().join("castle.db");
    vec![
        "--database-url".to_owned(),
        file.to_string_lossy().into_owned(),
    ]
}

/// Starts an example; its output is kept for the reader of a failure.
pub(crate) fn start(example: &str, arguments: &[&str], database: &[String]) -> Child {
    Command::new(path(example))
        .args(arguments)
        .args(database)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{example} does not start ({error}); build it: cargo build --examples")
        })
}

/// Waits for the end of a process that must succeed.
pub(crate) fn succeed(child: Child) -> String {
    let output = child.wait_with_output().expect("it can be waited for");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    said
}

/// Cargo builds the examples of a package before its tests, beside them.
fn path(example: &str) -> PathBuf {
    let mut path = env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(example);
    path
}
