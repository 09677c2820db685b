//! What stands in the parentheses of `starts(…)`, `events(…)` and `enum(…)`.

use proc_macro2::Span;
use syn::{
    Error, Ident, Path, Result, Token, Visibility, ext::IdentExt, parse::ParseStream,
    punctuated::Punctuated, token::Paren,
};

use super::raw::{Raw, skip_to_comma};
use crate::errors::Errors;

/// `starts(…)` or `events(…)`.
pub(crate) struct List {
    pub(crate) span: Span,
    pub(crate) events: Vec<Listed>,
    /// Whether all of it could be read.
    pub(crate) complete: bool,
}

/// One entry of a list: `path::Event`, or `path::Event as Variant`.
pub(crate) struct Listed {
    pub(crate) path: Path,
    pub(crate) alias: Option<Ident>,
}

/// `enum(pub(crate) Name, derive(Debug, Clone))`, each part optional.
#[derive(Default)]
pub(crate) struct Set {
    pub(crate) vis: Option<Visibility>,
    pub(crate) ident: Option<Ident>,
    pub(crate) derives: Vec<Path>,
}

impl List {
    /// The value of `starts(…)` and `events(…)`. A bad entry does not hide the good ones.
    pub(super) fn read(raw: Raw, key: &str, errors: &mut Errors) -> Result<List> {
        let span = raw.key.span();
        let entries = raw.parens(key, |input| {
            let mut entries = Vec::new();
            while !input.is_empty() {
                match listed(input) {
                    Ok(event) => entries.push(Ok(event)),
                    Err(at) => {
                        skip_to_comma(input)?;
                        entries.push(Err(at));
                    }
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(entries)
        })?;
        let mut list = List {
            span,
            events: Vec::new(),
            complete: true,
        };
        for entry in entries {
            match entry {
                Ok(event) => list.events.push(event),
                Err(at) => {
                    list.complete = false;
                    errors.at(
                        at,
                        "expected the path of an event, for example `PlayerMoved`, `rooms::Moved` or `rooms::Moved as RoomMoved`",
                    );
                }
            }
        }
        Ok(list)
    }
}

/// One event of a list, or the place where it stops being one.
fn listed(input: ParseStream) -> std::result::Result<Listed, Span> {
    let start = input.span();
    let path: Path = input.parse().map_err(|_| start)?;
    let is_type = path.segments.last().is_some_and(|last| {
        !matches!(last.arguments, syn::PathArguments::Parenthesized(_))
            && !["Self", "self", "super", "crate"].contains(&last.ident.to_string().as_str())
    });
    if !is_type {
        return Err(start);
    }
    let alias = if input.peek(Token![as]) {
        let span = input.span();
        input.parse::<Token![as]>().map_err(|_| span)?;
        Some(input.parse().map_err(|_| span)?)
    } else {
        None
    };
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.span());
    }
    Ok(Listed { path, alias })
}

impl Set {
    pub(super) fn read(input: ParseStream) -> Result<Self> {
        let mut set = Self::default();
        if input.peek(Token![pub]) {
            set.vis = Some(input.parse()?);
        }
        if input.peek(Ident::peek_any) && !input.peek2(Paren) {
            set.ident = Some(input.parse()?);
        }
        if (set.vis.is_some() || set.ident.is_some()) && !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        if !input.is_empty() {
            let derive: Ident = input.parse()?;
            if derive != "derive" {
                return Err(Error::new(derive.span(), "expected `derive`"));
            }
            let derives;
            syn::parenthesized!(derives in input);
            let paths = Punctuated::<Path, Token![,]>::parse_terminated_with(
                &derives,
                Path::parse_mod_style,
            )?;
            set.derives = paths.into_iter().collect();
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(set)
    }
}
