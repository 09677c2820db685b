//! Options whose values are still tokens, so that a bad one can be skipped.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    DeriveInput, Error, Ident, Meta, Result, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    token::Paren,
};

use super::keys::form;
use crate::errors::Errors;

/// One option before its value is understood. Keeping values as tokens lets a bad one be skipped.
pub(super) struct Raw {
    pub(super) key: Ident,
    value: Value,
}

enum Value {
    Nothing,
    Equals(TokenStream),
    Parens(Group),
}

impl Raw {
    /// The value of `key = value`.
    pub(super) fn equals<T>(self, key: &str, parser: fn(ParseStream) -> Result<T>) -> Result<T> {
        let text = format!("expected {}", form(key));
        match self.value {
            Value::Equals(tokens) if !tokens.is_empty() => parser
                .parse2(tokens.clone())
                .map_err(|_| Error::new_spanned(tokens, text)),
            Value::Parens(group) => Err(Error::new_spanned(group, text)),
            _ => Err(Error::new(self.key.span(), text)),
        }
    }

    /// `key` alone: `true`.
    pub(super) fn flag(self, key: &str) -> Result<bool> {
        let value = match self.value {
            Value::Nothing => return Ok(true),
            Value::Equals(tokens) if tokens.is_empty() => self.key.to_token_stream(),
            Value::Equals(tokens) => tokens,
            Value::Parens(group) => group.to_token_stream(),
        };
        Err(Error::new_spanned(value, format!("expected {}", form(key))))
    }

    /// The value of `key(value)`.
    pub(super) fn parens<T>(self, key: &str, parser: fn(ParseStream) -> Result<T>) -> Result<T> {
        match self.value {
            Value::Parens(group) => parser.parse2(group.stream()).map_err(|error| {
                // An error at the end of the tokens has no place of its own.
                let span = if error.to_string().starts_with("unexpected end") {
                    self.key.span()
                } else {
                    error.span()
                };
                Error::new(span, format!("expected {}", form(key)))
            }),
            Value::Equals(tokens) if !tokens.is_empty() => Err(Error::new_spanned(
                tokens,
                format!("expected {}", form(key)),
            )),
            _ => Err(Error::new(
                self.key.span(),
                format!("expected {}", form(key)),
            )),
        }
    }
}

/// The options of all the item's attributes, and whether that is all of them.
pub(super) fn raw_options(
    input: &DeriveInput,
    attribute: &str,
    errors: &mut Errors,
) -> (Vec<Raw>, bool) {
    let mut options = Vec::new();
    let mut complete = true;
    for attr in &input.attrs {
        if !attr.path().is_ident(attribute) {
            continue;
        }
        let parsed = match &attr.meta {
            Meta::List(list) if matches!(list.delimiter, syn::MacroDelimiter::Paren(_)) => list
                .parse_args_with(|input: ParseStream| {
                    while !input.is_empty() {
                        match raw_option(input) {
                            Ok(raw) => {
                                options.push(raw);
                                if follows_without_comma(input, errors) {
                                    continue;
                                }
                            }
                            Err(error) => {
                                errors.push(error);
                                complete = false;
                                skip_to_comma(input)?;
                            }
                        }
                        if !input.is_empty() {
                            input.parse::<Token![,]>()?;
                        }
                    }
                    Ok(())
                }),
            meta => Err(Error::new_spanned(
                meta,
                format!("expected options in parentheses: `#[{attribute}(…)]`"),
            )),
        };
        if let Err(error) = parsed {
            errors.push(error);
            complete = false;
        }
    }
    (options, complete)
}

fn raw_option(input: ParseStream) -> Result<Raw> {
    let key = Ident::parse_any(input)
        .map_err(|error| Error::new(error.span(), "expected the name of an option"))?;
    let value = if input.peek(Paren) {
        Value::Parens(input.parse()?)
    } else if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        let mut tokens = TokenStream::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            tokens.extend([input.parse::<TokenTree>()?]);
        }
        Value::Equals(tokens)
    } else {
        Value::Nothing
    };
    Ok(Raw { key, value })
}

/// Reports a missing comma; `true` if the next option begins here all the same.
fn follows_without_comma(input: ParseStream, errors: &mut Errors) -> bool {
    if input.is_empty() || input.peek(Token![,]) {
        return false;
    }
    errors.push(input.error("expected `,`"));
    if input.peek(Ident::peek_any) {
        return true;
    }
    // Nothing can be left but groups and punctuation, whose reading cannot fail.
    let _ = skip_to_comma(input);
    false
}

pub(super) fn skip_to_comma(input: ParseStream) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}
