//! Expansions as a person would read them, and mistakes. Refresh with `INSTA_UPDATE=always`.

mod expansions;
mod mistakes;

use proc_macro2::TokenStream;

/// The generated code, formatted.
fn pretty(tokens: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).expect("the expansion is a file of items"))
}
