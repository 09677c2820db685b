//! `impl Aggregate`: from the enum to `Start` and `Apply`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{WherePredicate, ext::IdentExt, parse_quote, parse_quote_spanned};

use super::{event_set, is_generic, where_clause};
use crate::model::{Aggregate, Role, Variant};

pub(crate) fn expand(aggregate: &Aggregate) -> TokenStream {
    let krate = &aggregate.item.krate;
    let set = event_set::expand(&aggregate.events, krate, &doc(aggregate));
    let into_events = into_events(aggregate);
    let dispatch = dispatch(aggregate);
    quote!(#set #into_events #dispatch)
}

/// The documentation of the enum.
pub(crate) fn doc(aggregate: &Aggregate) -> String {
    format!(
        " Everything that can happen to a `{}`.",
        aggregate.item.ident.unraw()
    )
}

pub(crate) fn into_events(aggregate: &Aggregate) -> TokenStream {
    let (item, set) = (&aggregate.item, &aggregate.events);
    let (ident, krate, event) = (&item.ident, &item.krate, &set.ident);
    let (impl_generics, ty_generics, _) = item.generics.split_for_impl();
    let (_, event_generics, _) = set.generics.split_for_impl();
    let bound = is_generic(&item.generics)
        .then(|| parse_quote!(#ident #ty_generics: #krate::Aggregate<Event = Self>));
    let where_clause = where_clause(&item.generics, bound);
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::IntoEvents<#ident #ty_generics> for #event #event_generics
        #where_clause
        {
            fn into_events(self) -> #krate::__private::Vec<Self> {
                #krate::__private::one(self)
            }
        }
    }
}

fn dispatch(aggregate: &Aggregate) -> TokenStream {
    let (item, set) = (&aggregate.item, &aggregate.events);
    let (ident, krate, name, event) = (&item.ident, &item.krate, &item.name, &set.ident);
    let fingerprint = aggregate.fingerprint;
    let (impl_generics, ty_generics, _) = item.generics.split_for_impl();
    let (_, event_generics, _) = set.generics.split_for_impl();
    let where_clause = where_clause(&item.generics, bounds(aggregate));
    let begin = set.variants.iter().map(|variant| {
        let Variant {
            ident, path, span, ..
        } = variant;
        match variant.role {
            Role::Start => {
                let start = quote_spanned!(*span=> <Self as #krate::Start<#path>>::start);
                quote!(#event::#ident(__event) => ::core::result::Result::Ok(#start(__event)))
            }
            Role::Next => quote! {
                #event::#ident(_) => ::core::result::Result::Err(
                    #krate::__private::not_a_start::<Self>(__event),
                )
            },
        }
    });
    let evolve = set.variants.iter().map(|variant| {
        let Variant {
            ident, path, span, ..
        } = variant;
        match variant.role {
            Role::Start => quote! {
                #event::#ident(_) => ::core::result::Result::Err(
                    #krate::__private::started_twice::<Self>(__event),
                )
            },
            Role::Next => {
                let apply = quote_spanned!(*span=> <Self as #krate::Apply<#path>>::apply);
                quote! {
                    #event::#ident(__event) => {
                        #apply(self, __event);
                        ::core::result::Result::Ok(())
                    }
                }
            }
        }
    });

    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::Aggregate for #ident #ty_generics #where_clause {
            const AGGREGATE_TYPE: &'static ::core::primitive::str = #name;
            const STATE_FINGERPRINT: ::core::primitive::u64 = #fingerprint;
            type Event = #event #event_generics;

            fn begin(
                __event: &#event #event_generics,
            ) -> ::core::result::Result<Self, #krate::Misplaced> {
                match __event {
                    #(#begin,)*
                }
            }

            fn evolve(
                &mut self,
                __event: &#event #event_generics,
            ) -> ::core::result::Result<(), #krate::Misplaced> {
                match __event {
                    #(#evolve,)*
                }
            }
        }
    }
}

/// With type parameters, what `Start` and `Apply` ask of them is not known here: ask for those impls.
pub(crate) fn bounds(aggregate: &Aggregate) -> Vec<WherePredicate> {
    let (item, set) = (&aggregate.item, &aggregate.events);
    if !is_generic(&item.generics) {
        return Vec::new();
    }
    let krate = &item.krate;
    let mut bounds: Vec<WherePredicate> = vec![parse_quote! {
        Self: #krate::__private::Serialize + #krate::__private::DeserializeOwned
            + ::core::marker::Send + ::core::marker::Sync + 'static
    }];
    bounds.extend(event_set::event_bounds(set, krate));
    bounds.extend(set.variants.iter().map(|variant| {
        let (path, span) = (&variant.path, variant.span);
        match variant.role {
            Role::Start => parse_quote_spanned!(span=> Self: #krate::Start<#path>),
            Role::Next => parse_quote_spanned!(span=> Self: #krate::Apply<#path>),
        }
    }));
    bounds
}
