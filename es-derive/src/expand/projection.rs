//! `impl Projection`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{WherePredicate, ext::IdentExt, parse_quote};

use super::{event_set, is_generic, where_clause};
use crate::model::Projection;

pub(crate) fn expand(projection: &Projection) -> TokenStream {
    let krate = &projection.item.krate;
    let set = event_set::expand(&projection.events, krate, &doc(projection));
    let implementation = implementation(projection);
    quote!(#set #implementation)
}

/// The documentation of the enum.
pub(crate) fn doc(projection: &Projection) -> String {
    format!(
        " Every event that `{}` wants.",
        projection.item.ident.unraw()
    )
}

/// `impl Projection`. Needs nothing of the events but that they are a set.
pub(crate) fn implementation(projection: &Projection) -> TokenStream {
    let (item, set) = (&projection.item, &projection.events);
    let (ident, krate, name, event) = (&item.ident, &item.krate, &item.name, &set.ident);
    let version = projection.version;
    let repeatable = projection.repeatable.then(|| {
        quote!(
            const REPEATABLE: ::core::primitive::bool = true;
        )
    });
    let (impl_generics, ty_generics, _) = item.generics.split_for_impl();
    let (_, event_generics, _) = set.generics.split_for_impl();
    let mut bounds: Vec<WherePredicate> = Vec::new();
    if is_generic(&item.generics) {
        bounds.push(parse_quote! {
            Self: ::core::marker::Send + ::core::marker::Sync + 'static
        });
        bounds.extend(event_set::event_bounds(set, krate));
    }
    let where_clause = where_clause(&item.generics, bounds);

    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::Projection for #ident #ty_generics #where_clause {
            const NAME: &'static ::core::primitive::str = #name;
            const VERSION: ::core::primitive::u32 = #version;
            #repeatable
            type Event = #event #event_generics;
        }
    }
}
