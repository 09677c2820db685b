//! The enum of the events: one variant each, conversions, names, and encoding by name.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Path, WhereClause, WherePredicate, ext::IdentExt, parse_quote};

use super::{located, where_clause};
use crate::model::{EventSet, Role, Variant};

/// The enum and its impls. `doc` documents the enum.
pub(crate) fn expand(set: &EventSet, krate: &Path, doc: &str) -> TokenStream {
    let definition = definition(set, doc, None);
    let conversions = conversions(set);
    let debug = debug(set, krate);
    let event_set = event_set(set, krate);
    let distinct = distinct(set, krate);
    quote!(#definition #conversions #debug #event_set #distinct)
}

/// The enum alone. Needs nothing of the events, so a stub can have it too, with an
/// `extra` variant.
pub(crate) fn definition(set: &EventSet, doc: &str, extra: Option<TokenStream>) -> TokenStream {
    let EventSet { ident, vis, .. } = set;
    let generics = &set.generics;
    let where_clause = &generics.where_clause;
    let derives = (!set.derives.is_empty()).then(|| {
        let derives = &set.derives;
        quote!(#[derive(#(#derives),*)])
    });
    let variants = set.variants.iter().map(|variant| {
        let Variant { ident, path, .. } = variant;
        let doc = variant_doc(variant);
        quote!(#[doc = #doc] #ident(#path))
    });
    quote! {
        #[doc = #doc]
        #derives
        #[allow(deprecated, clippy::enum_variant_names, clippy::large_enum_variant)]
        #vis enum #ident #generics #where_clause {
            #(#variants,)*
            #extra
        }
    }
}

fn conversions(set: &EventSet) -> TokenStream {
    let ident = &set.ident;
    let (impl_generics, ty_generics, where_clause) = set.generics.split_for_impl();
    let conversions = set.variants.iter().map(|variant| {
        let Variant {
            ident: name, path, ..
        } = variant;
        quote! {
            #[automatically_derived]
            #[allow(deprecated)]
            impl #impl_generics ::core::convert::From<#path> for #ident #ty_generics #where_clause {
                fn from(__event: #path) -> Self {
                    Self::#name(__event)
                }
            }
        }
    });
    quote!(#(#conversions)*)
}

/// What the events that mention a type parameter must satisfy.
pub(crate) fn event_bounds(set: &EventSet, krate: &Path) -> Vec<WherePredicate> {
    set.variants
        .iter()
        .filter(|variant| variant.generic)
        .map(|Variant { path, .. }| parse_quote!(#path: #krate::Event))
        .collect()
}

/// Whether the user's derives have a `Debug`.
pub(crate) fn derives_debug(set: &EventSet) -> bool {
    set.derives.iter().any(|path| {
        path.segments
            .last()
            .is_some_and(|last| last.ident == "Debug")
    })
}

fn set_clause(set: &EventSet, krate: &Path) -> WhereClause {
    where_clause(&set.generics, event_bounds(set, krate))
}

/// Only the name: what is in an event may be secret.
fn debug(set: &EventSet, krate: &Path) -> Option<TokenStream> {
    if derives_debug(set) {
        return None;
    }
    let ident = &set.ident;
    let (impl_generics, ty_generics, _) = set.generics.split_for_impl();
    let where_clause = set_clause(set, krate);
    Some(quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics ::core::fmt::Debug for #ident #ty_generics #where_clause {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                __f.write_str(#krate::EventSet::event_type(self).name)
            }
        }
    })
}

fn event_set(set: &EventSet, krate: &Path) -> TokenStream {
    let ident = &set.ident;
    let (impl_generics, ty_generics, _) = set.generics.split_for_impl();
    let where_clause = set_clause(set, krate);
    let types: Vec<TokenStream> = set
        .variants
        .iter()
        .map(|Variant { path, span, .. }| quote_spanned!(*span=> #krate::EventType::of::<#path>()))
        .collect();
    let names: Vec<_> = set.variants.iter().map(|variant| &variant.ident).collect();
    let encoded = set.variants.iter().map(|Variant { path, span, .. }| {
        let krate = located(krate, *span);
        let encode = quote_spanned!(*span=> #krate::Json::encode::<#path>);
        quote!(#encode(__event))
    });
    let decoded = set.variants.iter().map(|variant| {
        let Variant {
            ident, path, span, ..
        } = variant;
        let krate = located(krate, *span);
        let known = quote_spanned!(*span=> #krate::EventType::of::<#path>());
        let decode = quote_spanned!(*span=> #krate::__private::decode::<#path>);
        quote! {
            if __event_type == #known.name {
                return ::core::result::Result::map(
                    #decode(__schema_version, __data),
                    Self::#ident,
                );
            }
        }
    });
    // A set with parameters has no place for a check of its own; it is made with the list.
    let list = if !set.generics.params.is_empty() {
        quote! {{
            let __types: &'static [#krate::EventType] = &[#(#types),*];
            #krate::__private::assert_distinct(__types);
            __types
        }}
    } else {
        quote!(&[#(#types),*])
    };

    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::EventSet for #ident #ty_generics #where_clause {
            const EVENT_TYPES: &'static [#krate::EventType] = #list;

            fn event_type(&self) -> #krate::EventType {
                match self {
                    #(Self::#names(_) => #types,)*
                }
            }

            fn encode(
                &self,
            ) -> ::core::result::Result<#krate::Json, #krate::__private::serde_json::Error> {
                match self {
                    #(Self::#names(__event) => #encoded,)*
                }
            }

            fn decode(
                __event_type: &::core::primitive::str,
                __schema_version: ::core::primitive::u32,
                __data: &::core::primitive::str,
            ) -> ::core::result::Result<Self, #krate::DecodeError> {
                #(#decoded)*
                #krate::__private::unknown(__event_type)
            }
        }
    }
}

/// Refuses two events of one stored name while compiling.
fn distinct(set: &EventSet, krate: &Path) -> Option<TokenStream> {
    if !set.generics.params.is_empty() {
        return None;
    }
    let (ident, krate) = (&set.ident, located(krate, set.span));
    Some(quote_spanned! {set.span=>
        const _: () = #krate::__private::assert_distinct(<#ident as #krate::EventSet>::EVENT_TYPES);
    })
}

fn variant_doc(variant: &Variant) -> String {
    let name = variant.ident.unraw();
    match variant.role {
        Role::Start => format!(" `{name}`: a history begins."),
        Role::Next => format!(" `{name}` happened."),
    }
}
