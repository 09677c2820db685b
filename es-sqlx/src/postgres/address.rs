//! What may name a Postgres database and a schema in it.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::OpenError;

/// The options, and how to show where they lead: without the password.
pub(super) fn parse(url: &str) -> Result<(PgConnectOptions, String), OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid("it does not begin with `postgres://`"));
    }
    // The parser's error may quote parts of the URL: say what is needed instead.
    let options =
        PgConnectOptions::from_str(url).map_err(|_| invalid("it cannot be read as a URL"))?;
    let address = shown(&options);
    // Postgres 12 and newer writes floats exactly without being asked, and pgbouncer would refuse to be asked.
    Ok((options.extra_float_digits(None), address))
}

/// Host, port and database of a connection.
pub(super) fn shown(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("(default)");
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

/// The schema's name, quoted for SQL.
pub(super) fn schema(name: &str) -> Result<String, OpenError> {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit();
    let reserved = name.starts_with("pg_");
    if reserved || name.len() > 63 || !name.starts_with(first) || !name.chars().all(rest) {
        return Err(OpenError::InvalidAddress {
            backend: "Postgres",
            problem: format!(
                "`{name}` cannot be the schema; use at most 63 lower-case letters, digits and \
                 underscores, and begin with neither a digit nor `pg_`"
            ),
        });
    }
    Ok(format!("\"{name}\""))
}

fn invalid(problem: &str) -> OpenError {
    OpenError::InvalidAddress {
        backend: "Postgres",
        problem: format!("{problem}; a valid one is postgres://user:password@host:5432/database"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_repeated() {
        for url in [
            "mysql://me:secret@host/game",
            "postgres://me:secret@host:99999/game",
            "postgres://me:secret@[::1/game",
            "me:secret@host",
        ] {
            let error = parse(url).map(|(_, address)| address).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
        let (_, address) = parse("postgres://me:secret@host:5433/game").unwrap();
        assert_eq!(address, "host:5433/game");
    }

    #[test]
    fn schemas_are_plain_names() {
        assert_eq!(schema("game_2").unwrap(), "\"game_2\"");
        for bad in [
            "",
            "2game",
            "pg_game",
            "Game",
            "a b",
            "a\"; DROP TABLE events; --",
        ] {
            assert!(schema(bad).is_err(), "{bad}");
        }
        assert!(schema(&"x".repeat(64)).is_err());
    }
}
