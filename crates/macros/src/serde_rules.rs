//! Which of serde's attributes a message may bear.
//!
//! Postcard, the form between processes, writes fields one after the other without names. What changes how many fields
//! there are, or needs to look at the data to know its type, corrupts the message or fails at run time; so it is refused
//! here, with what to write instead.

use crate::errors::Errors;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{Attribute, Token, meta::ParseNestedMeta, token::Paren};

/// Refused everywhere.
const CORRUPTING: &[(&str, &str)] = &[
    ("skip_serializing_if", "make the field an `Option` and leave this out: `None` takes one byte"),
    ("skip_serializing", "leave the field out of the message and keep it in the actor"),
    ("skip_deserializing", "leave the field out of the message and keep it in the actor"),
    ("skip", "leave the field out of the message and keep it in the actor"),
    ("untagged", "leave it out: variants travel by number; for free-form data use `odeon::Json`"),
    ("tag", "leave it out: variants travel by number, and by name in JSON"),
    ("content", "leave it out: variants travel by number, and by name in JSON"),
    (
        "flatten",
        "write the inner fields here, or keep the inner struct as a field; for free-form data use `odeon::Json`",
    ),
];

/// Refused unless the type or field is opaque: they write another shape than the fields show.
const HIDING: &[&str] = &["with", "serialize_with", "deserialize_with", "from", "try_from", "into", "remote", "getter"];

/// Checks the serde attributes of a type, variant or field.
pub(crate) fn check(attributes: &[Attribute], opaque: bool, errors: &mut Errors) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        let parsed = attribute.parse_nested_meta(|meta| {
            check_one(&meta, opaque, errors);
            skip_value(&meta)
        });
        errors.take(parsed);
    }
}

fn check_one(meta: &ParseNestedMeta<'_>, opaque: bool, errors: &mut Errors) {
    let Some(word) = meta.path.get_ident().map(ToString::to_string) else { return };
    if let Some((_, instead)) = CORRUPTING.iter().find(|(name, _)| *name == word) {
        errors.at(&meta.path, format!("`{word}` does not survive the binary form between processes; {instead}"));
    } else if HIDING.contains(&word.as_str()) && !opaque {
        errors.at(
            &meta.path,
            format!(
                "`{word}` writes another shape than the fingerprint sees; add `#[data(opaque = \"v1\")]` here \
                 and change \"v1\" whenever that shape changes"
            ),
        );
    } else if word == "crate" {
        errors.at(&meta.path, "the macro sets serde's crate; leave it out");
    }
}

fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(Paren) {
        let inner;
        syn::parenthesized!(inner in meta.input);
        inner.parse::<TokenStream>()?;
    }
    Ok(())
}

/// The name that a field or variant has on the wire, if `#[serde(rename = "..")]` gives it one.
pub(crate) fn renamed(attributes: &[Attribute]) -> Option<String> {
    let mut name = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // Mistakes in it were reported by `check`, or will be by serde.
        let _ = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") && meta.input.peek(Token![=]) {
                name = Some(meta.value()?.parse::<syn::LitStr>()?.value());
                return Ok(());
            }
            skip_value(&meta)
        });
    }
    name
}

/// Whether a serde attribute has that word.
pub(crate) fn has(attributes: &[Attribute], word: &str) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // Mistakes in it were reported by `check`, or will be by serde.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident(word);
            skip_value(&meta)
        });
    }
    found
}

/// Serde's derives. Where the user derives them too, that is a mistake, and they are not written twice.
pub(crate) fn missing_derives(attributes: &[Attribute], errors: &mut Errors) -> TokenStream {
    let mut missing = vec!["Serialize", "Deserialize"];
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let parsed = attribute.parse_nested_meta(|meta| {
            let last = meta.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            if missing.contains(&last.as_str()) {
                errors.at(&meta.path, format!("leave `{last}` out: the macro derives it"));
                missing.retain(|word| *word != last);
            }
            Ok(())
        });
        errors.take(parsed);
    }
    let missing = missing.into_iter().map(|word| Ident::new(word, Span::call_site()));
    quote!(#[derive(#(::odeon::hidden::serde::#missing),*)])
}
