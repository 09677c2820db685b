//! A number that changes when the stored shape of an aggregate's state changes.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Fields, ext::IdentExt};

/// The fingerprint of the item's fields: their names, types and serde attributes, and the item's own
/// serde attributes. Comments, visibility and the item's name do not count.
pub(crate) fn of(input: &DeriveInput) -> u64 {
    fnv1a(&shape(input))
}

/// The tokens as text that does not depend on how the compiler prints them.
pub(crate) fn text(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write_tokens(tokens.into_token_stream(), &mut text);
    text
}

fn shape(input: &DeriveInput) -> String {
    let mut shape = String::new();
    write_serde(&input.attrs, &mut shape);
    match &input.data {
        Data::Struct(data) => write_fields(&data.fields, &mut shape),
        Data::Enum(data) => {
            for variant in &data.variants {
                write_serde(&variant.attrs, &mut shape);
                shape.push_str("| ");
                shape.push_str(&variant.ident.unraw().to_string());
                shape.push(' ');
                write_fields(&variant.fields, &mut shape);
            }
        }
        // A union is refused before anybody asks.
        Data::Union(_) => {}
    }
    shape
}

fn write_fields(fields: &Fields, shape: &mut String) {
    let (open, close) = match fields {
        Fields::Named(_) => ("{ ", "} "),
        Fields::Unnamed(_) => ("( ", ") "),
        Fields::Unit => ("; ", ""),
    };
    shape.push_str(open);
    for field in fields {
        write_serde(&field.attrs, shape);
        if let Some(ident) = &field.ident {
            shape.push_str(&ident.unraw().to_string());
            shape.push_str(" : ");
        }
        write_tokens(field.ty.to_token_stream(), shape);
        shape.push_str(", ");
    }
    shape.push_str(close);
}

fn write_serde(attrs: &[Attribute], shape: &mut String) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("serde")) {
        write_tokens(attr.meta.to_token_stream(), shape);
    }
}

fn write_tokens(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("( ", ") "),
                    Delimiter::Brace => ("{ ", "} "),
                    Delimiter::Bracket => ("[ ", "] "),
                    // What a `macro_rules!` put around a fragment is not in the source.
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write_tokens(group.stream(), text);
                text.push_str(close);
            }
            other => {
                text.push_str(&other.to_string());
                text.push(' ');
            }
        }
    }
}

/// FNV-1a with 64 bits: short, and the same on every compiler.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{fnv1a, of, shape};
    use syn::{DeriveInput, parse_quote};

    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn shape_is_plain_text() {
        let input: DeriveInput = parse_quote!(
            struct Player {
                #[serde(default)]
                r#type: Vec<u8>,
            }
        );

        assert_eq!(shape(&input), "{ serde ( default ) type : Vec < u8 > , } ");
    }

    #[test]
    fn only_what_is_stored_counts() {
        let plain: DeriveInput = parse_quote!(
            struct Player {
                name: String,
                health: u32,
            }
        );
        let dressed: DeriveInput = parse_quote!(
            /// A comment.
            #[derive(Debug)]
            pub struct Renamed {
                /// Another.
                pub name: String,
                #[allow(dead_code)]
                pub(crate) health: u32,
            }
        );

        assert_eq!(of(&plain), of(&dressed));
    }

    #[test]
    fn every_change_of_the_stored_shape_counts() {
        let shapes: [DeriveInput; 12] = [
            parse_quote!(
                struct S {
                    name: String,
                    health: u32,
                }
            ),
            parse_quote!(
                struct S {
                    health: u32,
                    name: String,
                }
            ),
            parse_quote!(
                struct S {
                    name: String,
                    health: u64,
                }
            ),
            parse_quote!(
                struct S {
                    name: String,
                    hp: u32,
                }
            ),
            parse_quote!(
                struct S {
                    name: String,
                    #[serde(rename = "hp")]
                    health: u32,
                }
            ),
            parse_quote!(
                #[serde(rename_all = "camelCase")]
                struct S {
                    name: String,
                    health: u32,
                }
            ),
            parse_quote!(
                struct S(String, u32);
            ),
            parse_quote!(
                struct S((String, u32));
            ),
            parse_quote!(
                struct S;
            ),
            parse_quote!(
                enum S {
                    A,
                    B,
                }
            ),
            parse_quote!(
                enum S {
                    A,
                    #[serde(rename = "b")]
                    B,
                }
            ),
            parse_quote!(
                enum S {
                    A,
                    B(u8),
                }
            ),
        ];
        let distinct: std::collections::HashSet<u64> = shapes.iter().map(of).collect();

        assert_eq!(distinct.len(), shapes.len());
    }
}
