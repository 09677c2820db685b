//! What a user sees who gives the wrong database: one line that says what to do.

mod processes;

use std::fs;

use processes::start;

/// The line on stderr of a game that must not start.
fn refusal(url: &str) -> String {
    let database = ["--database-url".to_owned(), url.to_owned()];
    let output = start("adventure_quest", &[], &database)
        .wait_with_output()
        .unwrap();
    assert!(!output.status.success(), "{url} was accepted");
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!line.contains("panicked"), "{line}");
    line
}

#[test]
fn an_invalid_url_is_named_without_its_password() {
    let line = refusal("postgres://me:secret@localhost:99999/game");
    assert!(line.contains("not a valid Postgres address"), "{line}");
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn a_server_that_is_not_there_is_named_without_the_password() {
    let line = refusal("postgres://me:secret@127.0.0.1:9/game");
    assert!(
        line.contains("could not open the Postgres database at"),
        "{line}"
    );
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn an_unknown_kind_of_database_is_refused() {
    let line = refusal("mysql://localhost/game");
    assert!(line.contains("not a valid SQLite address"), "{line}");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let line = refusal("/no/such/folder/game.db");
    assert!(line.contains("/no/such/folder/game.db"), "{line}");
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diary.txt");
    fs::write(&file, "Dear diary, ".repeat(500)).unwrap();

    let line = refusal(file.to_str().unwrap());

    assert!(line.contains("not an event store of ours"), "{line}");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "Dear diary, ".repeat(500)
    );
}
