//! What may name a SQLite database.

use std::path::PathBuf;

use crate::OpenError;

/// The file, or `None` for a database in memory.
pub(super) fn parse(address: &str) -> Result<Option<PathBuf>, OpenError> {
    let invalid = |problem: String| OpenError::InvalidAddress {
        backend: "SQLite",
        problem: format!("{problem}; give a path, `sqlite:` and a path, or `:memory:`"),
    };
    let path = match address.split_once(':') {
        Some(("sqlite", path)) => without_parameters(path.strip_prefix("//").unwrap_or(path)),
        // The rest may hold a password: name only the scheme.
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(invalid(format!(
                "`{scheme}://` is another kind of database"
            )));
        }
        _ => Some(address),
    };
    let Some(path) = path else {
        return Err(invalid(
            "its parameters are not understood, use `SqliteOptions`".to_owned(),
        ));
    };
    match path {
        // SQLite would read parameters of its own from it.
        path if path.starts_with("file:") => {
            Err(invalid("`file:` addresses are not understood".to_owned()))
        }
        ":memory:" => Ok(None),
        "" => Err(invalid("the path is empty".to_owned())),
        path if path.contains('\0') => Err(invalid("the path holds a NUL character".to_owned())),
        path => Ok(Some(PathBuf::from(path))),
    }
}

/// `mode=rwc` is what other tools need to create the file, and what we do anyway.
fn without_parameters(path: &str) -> Option<&str> {
    match path.split_once('?') {
        None => Some(path),
        Some((path, "mode=rwc")) => Some(path),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls_name_files() {
        for (address, path) in [
            ("game.db", "game.db"),
            ("sqlite:game.db", "game.db"),
            ("sqlite://game.db", "game.db"),
            ("sqlite:///var/game.db", "/var/game.db"),
            ("sqlite:game.db?mode=rwc", "game.db"),
            ("/var/game.db", "/var/game.db"),
            ("what?.db", "what?.db"),
        ] {
            assert_eq!(
                parse(address).unwrap(),
                Some(PathBuf::from(path)),
                "{address}"
            );
        }
        assert_eq!(parse(":memory:").unwrap(), None);
        assert_eq!(parse("sqlite::memory:").unwrap(), None);
    }

    #[test]
    fn other_urls_are_refused_without_their_password() {
        let error = parse("postgres://me:secret@host/game").unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a valid SQLite address: `postgres://` is another kind of database; \
             give a path, `sqlite:` and a path, or `:memory:`",
        );
        assert!(parse("").is_err());
    }
}
