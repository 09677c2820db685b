//! The derive macros of `es-core`, which re-exports and documents them.
//!
//! One file per stage: `parse` reads the attribute and keeps the spans, `check` holds every rule and
//! builds the `model`, `expand` only quotes, and `stub` is what a refused item still gets, so that the
//! user sees the mistake and nothing else.

mod case;
mod check;
mod errors;
mod expand;
mod fingerprint;
mod model;
mod parse;
mod stub;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Implements `es_core::Event` for a struct.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    expand::event(input.into()).into()
}

/// Implements `es_core::Aggregate` for a struct or an enum, and generates the enum of its events.
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn derive_aggregate(input: TokenStream) -> TokenStream {
    expand::aggregate(input.into()).into()
}

/// Implements `es_core::Projection` for a struct, and generates the enum of its events.
#[proc_macro_derive(Projection, attributes(projection))]
pub fn derive_projection(input: TokenStream) -> TokenStream {
    expand::projection(input.into()).into()
}
