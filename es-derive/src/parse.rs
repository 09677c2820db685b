//! Tokens to options. Every option keeps its key, and so its place in the source.

use syn::{DeriveInput, Error, Ident, LitInt, LitStr, Path, Result, parse::Parse};

use self::{
    keys::known_key,
    raw::{Raw, raw_options},
};
use crate::errors::Errors;

mod keys;
mod lists;
mod raw;

pub(crate) use self::lists::{List, Listed, Set};

/// What one of the derives may be told.
pub(crate) struct Grammar {
    /// The attribute's name.
    pub(crate) attribute: &'static str,
    /// Its options.
    pub(crate) options: &'static [&'static str],
}

/// The options of one item, as written.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitInt>,
    pub(crate) repeatable: bool,
    pub(crate) krate: Option<Path>,
    pub(crate) starts: Option<List>,
    pub(crate) events: Option<List>,
    pub(crate) set: Option<Set>,
    /// Something could not be read, and is reported: what is missing may be what it was.
    pub(crate) incomplete: bool,
}

/// Reads the item's attributes. What cannot be read becomes an error and is left out.
pub(crate) fn options(input: &DeriveInput, grammar: &Grammar, errors: &mut Errors) -> Options {
    let mut options = Options::default();
    let mut seen: Vec<(&str, Ident)> = Vec::new();
    let (raws, complete) = raw_options(input, grammar.attribute, errors);
    options.incomplete = !complete;
    for raw in raws {
        let Some(key) = known_key(&raw.key, grammar, &seen, errors) else {
            options.incomplete = true;
            continue;
        };
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == key) {
            let mut error = Error::new(raw.key.span(), format!("`{key}` is given twice"));
            error.combine(Error::new(first.span(), "first given here"));
            errors.push(error);
            continue;
        }
        seen.push((key, raw.key.clone()));
        if let Err(error) = options.set(key, raw, errors) {
            errors.push(error);
            options.incomplete = true;
        }
    }
    options
}

impl Options {
    fn set(&mut self, key: &str, raw: Raw, errors: &mut Errors) -> Result<()> {
        match key {
            "name" => self.name = Some(raw.equals(key, <LitStr as Parse>::parse)?),
            "crate" => self.krate = Some(raw.equals(key, Path::parse_mod_style)?),
            "starts" => self.starts = Some(List::read(raw, key, errors)?),
            "events" => self.events = Some(List::read(raw, key, errors)?),
            "repeatable" => self.repeatable = raw.flag(key)?,
            "enum" => self.set = Some(raw.parens(key, Set::read)?),
            _ => self.version = Some(raw.equals(key, <LitInt as Parse>::parse)?),
        }
        Ok(())
    }
}
