//! The names of options, what was meant by a wrong one, and how each is written.

use syn::{Ident, ext::IdentExt};

use super::Grammar;
use crate::errors::Errors;

/// The option that `key` names. A misspelled one is reported, and then read as what was meant.
pub(super) fn known_key(
    key: &Ident,
    grammar: &Grammar,
    seen: &[(&str, Ident)],
    errors: &mut Errors,
) -> Option<&'static str> {
    let written = key.unraw().to_string();
    if let Some(known) = grammar.options.iter().find(|known| **known == written) {
        return Some(known);
    }
    let meant = grammar.options.iter().copied().find(|known| {
        distance(known, &written) <= 2 || (written.len() > 3 && known.ends_with(&written))
    });
    let attribute = grammar.attribute;
    let hint = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("expected {}", either(grammar.options)),
    };
    errors.at(
        key.span(),
        format!("unknown `{attribute}` option `{written}`; {hint}"),
    );
    meant.filter(|meant| seen.iter().all(|(name, _)| name != meant))
}

/// How to write an option.
pub(super) fn form(key: &str) -> &'static str {
    match key {
        "name" => "a string: `name = \"…\"`",
        "schema_version" => "a whole number from 1: `schema_version = 2`",
        "version" => "a whole number from 1: `version = 2`",
        "repeatable" => "nothing after `repeatable`: write it alone, or leave it out",
        "crate" => "a path to es-core: `crate = my_facade::es_core`",
        "starts" => "a list of events: `starts(PlayerCreated, …)`",
        "events" => "a list of events: `events(PlayerMoved, …)`",
        _ => {
            "a visibility, a name and derives, each optional: `enum(pub(crate) PlayerFact, derive(Debug, Clone))`"
        }
    }
}

fn either(options: &[&str]) -> String {
    let quoted: Vec<String> = options.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// How many letters to change, add or remove (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}
