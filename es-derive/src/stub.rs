//! What a refused item still gets: enough for the rest of the program to make sense to the compiler,
//! so that it reports the mistake and not what follows from it. None of it ever runs.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Path, parse_quote};

use crate::{
    expand::{self, event_set},
    model::{Aggregate, Event, EventSet, Projection},
};

pub(crate) fn event(event: &Event) -> TokenStream {
    expand::event::expand(event)
}

pub(crate) fn aggregate(aggregate: &Aggregate) -> TokenStream {
    let (item, set) = (&aggregate.item, &aggregate.events);
    let (ident, krate, event) = (&item.ident, &item.krate, &set.ident);
    let events = events(set, krate, &expand::aggregate::doc(aggregate));
    let into_events = expand::aggregate::into_events(aggregate);
    let (impl_generics, ty_generics, _) = item.generics.split_for_impl();
    let (_, event_generics, _) = set.generics.split_for_impl();
    let where_clause = expand::where_clause(&item.generics, expand::aggregate::bounds(aggregate));
    quote! {
        #events
        #into_events
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::Aggregate for #ident #ty_generics #where_clause {
            const AGGREGATE_TYPE: &'static ::core::primitive::str = "";
            const STATE_FINGERPRINT: ::core::primitive::u64 = 0;
            type Event = #event #event_generics;

            fn begin(
                _: &#event #event_generics,
            ) -> ::core::result::Result<Self, #krate::Misplaced> {
                ::core::unreachable!()
            }

            fn evolve(
                &mut self,
                _: &#event #event_generics,
            ) -> ::core::result::Result<(), #krate::Misplaced> {
                ::core::unreachable!()
            }
        }
    }
}

pub(crate) fn projection(projection: &Projection) -> TokenStream {
    let doc = expand::projection::doc(projection);
    let events = events(&projection.events, &projection.item.krate, &doc);
    let implementation = expand::projection::implementation(projection);
    quote!(#events #implementation)
}

fn events(set: &EventSet, krate: &Path, doc: &str) -> TokenStream {
    let definition = event_set::definition(set, doc, placeholder(set));
    let conversion = conversion(set, krate);
    let ident = &set.ident;
    let (impl_generics, ty_generics, _) = set.generics.split_for_impl();
    let where_clause = expand::where_clause(&set.generics, event_set::event_bounds(set, krate));
    let debug = (!event_set::derives_debug(set)).then(|| {
        quote! {
            #[automatically_derived]
            #[allow(deprecated)]
            impl #impl_generics ::core::fmt::Debug for #ident #ty_generics #where_clause {
                fn fmt(&self, _: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::unreachable!()
                }
            }
        }
    });
    quote! {
        #definition
        #conversion
        #debug
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::EventSet for #ident #ty_generics #where_clause {
            const EVENT_TYPES: &'static [#krate::EventType] = &[];

            fn event_type(&self) -> #krate::EventType {
                ::core::unreachable!()
            }

            fn encode(
                &self,
            ) -> ::core::result::Result<#krate::Json, #krate::__private::serde_json::Error> {
                ::core::unreachable!()
            }

            fn decode(
                _: &::core::primitive::str,
                _: ::core::primitive::u32,
                _: &::core::primitive::str,
            ) -> ::core::result::Result<Self, #krate::DecodeError> {
                ::core::unreachable!()
            }
        }
    }
}

/// From any event: which ones were meant is not known.
fn conversion(set: &EventSet, krate: &Path) -> TokenStream {
    let ident = &set.ident;
    let (_, ty_generics, where_clause) = set.generics.split_for_impl();
    let mut generics = set.generics.clone();
    generics.params.push(parse_quote!(__E: #krate::Event));
    let (impl_generics, _, _) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics ::core::convert::From<__E> for #ident #ty_generics #where_clause {
            fn from(_: __E) -> Self {
                ::core::unreachable!()
            }
        }
    }
}

/// An enum without variants would make code that uses it unreachable, which is a warning.
fn placeholder(set: &EventSet) -> Option<TokenStream> {
    set.variants.is_empty().then(|| {
        quote! {
            #[doc(hidden)]
            #[allow(dead_code)]
            __Unknown,
        }
    })
}
