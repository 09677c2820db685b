//! All mistakes of an item are reported at once, and what remains still parses.

use proc_macro2::TokenStream;
use quote::quote;

use super::pretty;
use crate::expand;

/// The texts of the `compile_error!`s in `tokens`.
fn errors(tokens: TokenStream) -> Vec<String> {
    let file: syn::File = syn::parse2(tokens).expect("a stub is a file of items");
    let mut texts = Vec::new();
    for item in file.items {
        if let syn::Item::Macro(item) = item
            && item
                .mac
                .path
                .segments
                .last()
                .is_some_and(|s| s.ident == "compile_error")
        {
            let text: syn::LitStr = item.mac.parse_body().expect("a text");
            texts.push(text.value());
        }
    }
    texts
}

#[test]
fn mistakes_are_reported_together() {
    let texts = errors(expand::aggregate(quote! {
        #[aggregate(name = "", nmae = "x", start(A), events(A, B, 7, C::D), colour = "red", crate = "x")]
        struct Player { #[aggregate] name: String }
    }));

    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_flag_has_no_value() {
    for attribute in [
        quote!(#[projection(events(A), repeatable = true)]),
        quote!(#[projection(events(A), repeatable(yes))]),
        quote!(#[projection(events(A), repeatable =)]),
    ] {
        assert_eq!(
            errors(expand::projection(quote!(#attribute struct P;))),
            ["expected nothing after `repeatable`: write it alone, or leave it out"]
        );
    }
}

#[test]
fn a_name_has_at_most_255_bytes() {
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));

    assert!(
        errors(expand::event(quote!(
            #[event(name = #longest)]
            struct A;
        )))
        .is_empty()
    );
    assert_eq!(
        errors(expand::event(quote!(
            #[event(name = #longer)]
            struct A;
        ))),
        ["the stored name has 256 bytes; at most 255 are allowed"]
    );
}

#[test]
fn names_of_the_store_itself_are_refused() {
    assert_eq!(
        errors(expand::event(quote!(
            #[event(name = "$gone")]
            struct A;
        ))),
        ["the stored name `$gone` begins with `$`, which the store keeps for itself; leave it out"]
    );
}

#[test]
fn nothing_panics() {
    let attributes = [
        quote!(#[aggregate]),
        quote!(#[aggregate = "x"]),
        quote!(#[aggregate[starts(A)]]),
        quote!(#[aggregate()]),
        quote!(#[aggregate(,)]),
        quote!(#[aggregate(7)]),
        quote!(#[aggregate(starts)]),
        quote!(#[aggregate(starts =)]),
        quote!(#[aggregate(starts(,))]),
        quote!(#[aggregate(starts(A B))]),
        quote!(#[aggregate(starts(A as))]),
        quote!(#[aggregate(starts(Self))]),
        quote!(#[aggregate(starts(Fn(A)))]),
        quote!(#[aggregate(starts(A) events(B))]),
        quote!(#[aggregate(starts(A), events(A))]),
        quote!(#[aggregate(starts(a::A), events(b::A))]),
        quote!(#[aggregate(starts(A), enum)]),
        quote!(#[aggregate(starts(A), enum(B, C))]),
        quote!(#[aggregate(starts(A), enum(pub(self) B))]),
        quote!(#[aggregate(starts(A), crate = 7 + 7)]),
        quote!(#[aggregate(starts(A), name = "a b")]),
        quote!(#[aggregate(starts(A), r#enum(B), enum(C))]),
    ];
    for attribute in attributes {
        for item in [
            quote!(
                pub struct P(u8);
            ),
            quote!(
                pub enum P {}
            ),
            quote!(
                pub union P {
                    a: u8,
                }
            ),
        ] {
            let tokens = expand::aggregate(quote!(#attribute #item));
            assert!(!errors(tokens.clone()).is_empty(), "accepted: {attribute}");
            pretty(tokens);
        }
    }
}
