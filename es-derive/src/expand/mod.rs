//! The model to code. Nothing is decided here.
//!
//! Generated code names only public items of `es-core` and its `__private` module, always by full
//! path, and its local names start with `__` because a constant of the user's could capture others.

pub(crate) mod aggregate;
pub(crate) mod event;
pub(crate) mod event_set;
pub(crate) mod projection;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{DeriveInput, Generics, Path, WhereClause, WherePredicate, parse2};

use crate::{check, errors::Errors, stub};

/// `#[derive(Event)]`.
pub(crate) fn event(input: TokenStream) -> TokenStream {
    derive(input, check::event, event::expand, stub::event)
}

/// `#[derive(Aggregate)]`.
pub(crate) fn aggregate(input: TokenStream) -> TokenStream {
    derive(input, check::aggregate, aggregate::expand, stub::aggregate)
}

/// `#[derive(Projection)]`.
pub(crate) fn projection(input: TokenStream) -> TokenStream {
    derive(
        input,
        check::projection,
        projection::expand,
        stub::projection,
    )
}

/// The where-clause as written, and `extra`.
pub(crate) fn where_clause(
    generics: &Generics,
    extra: impl IntoIterator<Item = WherePredicate>,
) -> WhereClause {
    let mut generics = generics.clone();
    let clause = generics.make_where_clause();
    clause.predicates.extend(extra);
    clause.clone()
}

/// `krate` shown at `span`, so that an error in the call it begins is reported there. Where its names
/// are looked up does not change.
pub(crate) fn located(krate: &Path, span: Span) -> TokenStream {
    let mut tokens: Vec<TokenTree> = krate.to_token_stream().into_iter().collect();
    for token in &mut tokens {
        token.set_span(token.span().located_at(span));
    }
    tokens.into_iter().collect()
}

/// Whether an item has type parameters, whose bounds the impls must then ask for.
pub(crate) fn is_generic(generics: &Generics) -> bool {
    generics.type_params().next().is_some()
}

fn derive<M>(
    input: TokenStream,
    check: fn(&DeriveInput, &mut Errors) -> Option<M>,
    expand: fn(&M) -> TokenStream,
    stub: fn(&M) -> TokenStream,
) -> TokenStream {
    let input: DeriveInput = match parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let model = check(&input, &mut errors);
    match (errors.into_tokens(), model) {
        (None, Some(model)) => expand(&model),
        (Some(errors), Some(model)) => {
            let stub = stub(&model);
            quote!(#errors #stub)
        }
        (errors, None) => errors.unwrap_or_default(),
    }
}
