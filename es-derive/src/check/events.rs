//! The rules of event lists and of the enum generated from them.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::{
    DeriveInput, Error, GenericParam, Generics, Ident, Path, Visibility, ext::IdentExt,
    punctuated::Punctuated,
};

use crate::{
    errors::Errors,
    fingerprint,
    model::{EventSet, Role, Variant},
    parse::{List, Listed, Options},
};

/// The variants of the enum, in the order of the lists, without the repeated ones.
pub(super) fn variants(
    lists: &[(Role, Option<&List>)],
    generics: &Generics,
    errors: &mut Errors,
) -> Vec<Variant> {
    let mut variants: Vec<Variant> = Vec::new();
    let mut paths: HashMap<String, Path> = HashMap::new();
    let listed = lists
        .iter()
        .filter_map(|(role, list)| list.map(|list| (*role, list)))
        .flat_map(|(role, list)| list.events.iter().map(move |event| (role, event)));
    for (role, Listed { path, alias }) in listed {
        // A path without segments cannot be parsed.
        let Some(last) = path.segments.last() else {
            continue;
        };
        if let Some(first) = paths.insert(fingerprint::text(path), path.clone()) {
            let mut error = Error::new_spanned(
                path,
                format!("event `{}` is listed twice; remove one", last.ident.unraw()),
            );
            error.combine(Error::new_spanned(first, "first listed here"));
            errors.push(error);
            continue;
        }
        let ident = alias.as_ref().unwrap_or(&last.ident);
        if let Some(first) = variants.iter().find(|variant| variant.ident == *ident) {
            let mut error = Error::new(
                ident.span(),
                format!(
                    "two events give the variant `{0}`; name one of them: `{1} as Other{0}`",
                    ident.unraw(),
                    fingerprint::text(path).replace(' ', ""),
                ),
            );
            error.combine(Error::new(first.ident.span(), "first used here"));
            errors.push(error);
            continue;
        }
        variants.push(Variant {
            ident: ident.clone(),
            path: path.clone(),
            role,
            generic: generics
                .type_params()
                .any(|param| mentions(path.to_token_stream(), &param.ident)),
            span: last.ident.span(),
        });
    }
    variants
}

/// The enum that holds `variants`.
pub(super) fn event_set(
    input: &DeriveInput,
    options: &Options,
    variants: Vec<Variant>,
    errors: &mut Errors,
) -> EventSet {
    let chosen = options.set.as_ref();
    let vis = match chosen.and_then(|set| set.vis.as_ref()) {
        None => input.vis.clone(),
        Some(vis) => {
            if let (Some(chosen), Some(least)) = (reach(vis), reach(&input.vis))
                && chosen < least
            {
                errors.over(
                    vis,
                    format!(
                        "the enum must be visible wherever `{0}` is, because it is the `Event` of `{0}`; write `{1}` or leave the visibility out",
                        input.ident.unraw(),
                        input.vis.to_token_stream(),
                    ),
                );
            }
            private_as_nothing(vis)
        }
    };
    let list = options.starts.as_ref().or(options.events.as_ref());
    EventSet {
        ident: chosen
            .and_then(|set| set.ident.clone())
            .unwrap_or_else(|| format_ident!("{}Event", input.ident, span = input.ident.span())),
        vis,
        derives: chosen.map_or_else(Vec::new, |set| set.derives.clone()),
        generics: mentioned(&input.generics, &variants),
        variants,
        span: list.map_or_else(Span::call_site, |list| list.span),
    }
}

/// How far an item is seen, if that can be compared.
fn reach(vis: &Visibility) -> Option<u8> {
    match vis {
        Visibility::Public(_) => Some(2),
        Visibility::Restricted(to) if to.path.is_ident("crate") => Some(1),
        Visibility::Restricted(to) if to.path.is_ident("self") => Some(0),
        Visibility::Restricted(_) => None,
        Visibility::Inherited => Some(0),
    }
}

/// `pub(self)` is how an option says “private”; as code it would be a lint.
fn private_as_nothing(vis: &Visibility) -> Visibility {
    match vis {
        Visibility::Restricted(to) if to.path.is_ident("self") => Visibility::Inherited,
        other => other.clone(),
    }
}

/// Those generics that the events mention. An enum must use all of its parameters.
fn mentioned(generics: &Generics, variants: &[Variant]) -> Generics {
    let (kept, dropped): (Vec<&GenericParam>, Vec<&GenericParam>) =
        generics.params.iter().partition(|param| {
            variants
                .iter()
                .any(|variant| mentions(variant.path.to_token_stream(), name_of(param)))
        });
    let usable = |tokens: TokenStream| {
        !mentions(tokens.clone(), &format_ident!("Self"))
            && dropped
                .iter()
                .all(|param| !mentions(tokens.clone(), name_of(param)))
    };
    let mut generics = generics.clone();
    generics.params = kept.into_iter().cloned().collect();
    for param in generics.type_params_mut() {
        param.bounds = keep(&param.bounds, usable);
    }
    if let Some(clause) = &mut generics.where_clause {
        clause.predicates = keep(&clause.predicates, usable);
        // `where i32: Clone` and the like may stay: it holds or the item itself is refused.
    }
    generics
}

fn keep<T: ToTokens + Clone, P: Default>(
    all: &Punctuated<T, P>,
    usable: impl Fn(TokenStream) -> bool,
) -> Punctuated<T, P> {
    all.iter()
        .filter(|part| usable(part.to_token_stream()))
        .cloned()
        .collect()
}

fn name_of(param: &GenericParam) -> &Ident {
    match param {
        GenericParam::Lifetime(lifetime) => &lifetime.lifetime.ident,
        GenericParam::Type(ty) => &ty.ident,
        GenericParam::Const(value) => &value.ident,
    }
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}
