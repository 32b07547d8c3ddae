//! What attributes of several macros share: names, opaque labels, durations.

use crate::errors::Errors;
use std::time::Duration;
use syn::{Attribute, LitStr, meta::ParseNestedMeta, parse::Parse};

/// `TYPE_NAME_BYTES_MAX` of the protocol, which this crate does not depend on; the tests' `tidy` compares them.
const NAME_BYTES_MAX: usize = 128;

/// Checks the name of an actor type or a message.
pub(crate) fn check_name(name: &LitStr, errors: &mut Errors) {
    let text = name.value();
    let why = if text.is_empty() {
        "is empty"
    } else if text.len() > NAME_BYTES_MAX {
        "is longer than 128 bytes"
    } else if text.starts_with("odeon:") {
        "begins with `odeon:`, which addresses do"
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        "contains a space, a control character or `/`, which stands between a type's name and a key"
    } else {
        return;
    };
    errors.at(name, format!("the name {why}; write the crate and the type, like \"poll.question\""));
}

/// The value of `key = value`.
pub(crate) fn value<T: Parse>(meta: &ParseNestedMeta<'_>) -> syn::Result<T> {
    meta.value()?.parse()
}

/// Takes `#[message(opaque = "..")]` or `#[data(opaque = "..")]` off a field, and answers its label.
pub(crate) fn take_opaque(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> Option<LitStr> {
    let mut label = None;
    attributes.retain(|attribute| {
        if !attribute.path().is_ident("message") && !attribute.path().is_ident("data") {
            return true;
        }
        let parsed = attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("opaque") {
                return Err(meta.error("on a field there is `opaque = \"v1\"` only"));
            }
            label = Some(value::<LitStr>(&meta)?);
            Ok(())
        });
        errors.take(parsed);
        false
    });
    label
}

/// Reads `"10s"`: `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &LitStr) -> syn::Result<Duration> {
    let value = text.value();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match &value[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let parsed = digits.parse::<u32>().ok().zip(millis);
    match parsed {
        Some((number, millis)) => Ok(Duration::from_millis(u64::from(number) * millis)),
        None => {
            Err(syn::Error::new_spanned(text, "a duration is a whole number and `ms`, `s`, `m` or `h`, like \"10s\""))
        }
    }
}
