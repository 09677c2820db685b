//! `impl Event`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse_quote;

use super::{is_generic, where_clause};
use crate::model::Event;

pub(crate) fn expand(event: &Event) -> TokenStream {
    let item = &event.item;
    let (ident, krate, name) = (&item.ident, &item.krate, &item.name);
    let schema_version = event.schema_version;
    let (impl_generics, ty_generics, _) = item.generics.split_for_impl();
    let bound = is_generic(&item.generics).then(|| {
        parse_quote! {
            Self: #krate::__private::Serialize + #krate::__private::DeserializeOwned
                + ::core::marker::Send + ::core::marker::Sync + 'static
        }
    });
    let where_clause = where_clause(&item.generics, bound);

    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #krate::Event for #ident #ty_generics #where_clause {
            const EVENT_TYPE: &'static ::core::primitive::str = #name;
            const SCHEMA_VERSION: ::core::primitive::u32 = #schema_version;
        }
    }
}
