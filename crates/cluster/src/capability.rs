//! What a host can do: named facts, `gpu = 2`, `zone = "eu-1"`, `archive = true`.

pub use odeon_protocol::control::Value;

use odeon_protocol::limits::{CAPABILITIES_MAX, CAPABILITY_KEY_BYTES_MAX, CAPABILITY_VALUE_BYTES_MAX};
use std::collections::BTreeMap;

/// A host's capabilities.
pub type Map = BTreeMap<String, Value>;

/// Why a text is no capability, or a map is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The key is not fit.
    #[error(
        "{0:?} is no capability's key: use letters, digits, _ . and -, beginning with a letter, for example zone=eu-1"
    )]
    Key(String),
    /// The key is reserved by the requirement language.
    #[error("{0:?} cannot be a capability's key: requirements use the word themselves")]
    Reserved(String),
    /// Key or value is too long.
    #[error("the capability {key:?} is too long: at most 64 bytes for the key and 256 for the value")]
    TooLong {
        /// Which.
        key: String,
    },
    /// Too many.
    #[error("a host may have {CAPABILITIES_MAX} capabilities, not {0}")]
    TooMany(usize),
}

/// Reads `K=V`; a bare `K` is `K=true`.
///
/// # Errors
/// The key is not fit, or something is too long.
pub fn parse(text: &str) -> Result<(String, Value), CapabilityError> {
    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
    let (key, Ok(value)) = (key.trim(), value.trim().parse());
    check(key, &value)?;
    Ok((key.to_owned(), value))
}

/// Puts capabilities together, later ones over earlier ones.
///
/// # Errors
/// One of them is not fit, or there are too many.
pub fn collect(pairs: impl IntoIterator<Item = (String, Value)>) -> Result<Map, CapabilityError> {
    let mut map = Map::new();
    for (key, value) in pairs {
        check(&key, &value)?;
        map.insert(key, value);
    }
    if map.len() > CAPABILITIES_MAX {
        return Err(CapabilityError::TooMany(map.len()));
    }
    Ok(map)
}

fn check(key: &str, value: &Value) -> Result<(), CapabilityError> {
    let long_value = matches!(value, Value::Text(text) if text.len() > CAPABILITY_VALUE_BYTES_MAX);
    if key.len() > CAPABILITY_KEY_BYTES_MAX || long_value {
        return Err(CapabilityError::TooLong { key: key.chars().take(80).collect() });
    }
    if ["true", "false", "in"].contains(&key) {
        return Err(CapabilityError::Reserved(key.to_owned()));
    }
    let mut chars = key.chars();
    if !chars.next().is_some_and(begins_key) || !chars.all(continues_key) {
        return Err(CapabilityError::Key(key.to_owned()));
    }
    Ok(())
}

pub(crate) fn begins_key(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

pub(crate) fn continues_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        assert_eq!(parse("gpu=2"), Ok(("gpu".to_owned(), Value::Micros(2_000_000))));
        assert_eq!(parse("zone = eu-1"), Ok(("zone".to_owned(), Value::Text("eu-1".to_owned()))));
        assert_eq!(parse("archive"), Ok(("archive".to_owned(), Value::Bool(true))));
        assert_eq!(parse("flags=a=b"), Ok(("flags".to_owned(), Value::Text("a=b".to_owned()))));
    }

    #[test]
    fn what_is_not_fit_is_refused() {
        for text in ["", "=1", "1gpu=1", "a b=1", "ä=1"] {
            assert!(matches!(parse(text), Err(CapabilityError::Key(_))), "{text}");
        }
        assert!(matches!(parse("in=1"), Err(CapabilityError::Reserved(_))));
        assert!(matches!(parse(&format!("{}=1", "k".repeat(65))), Err(CapabilityError::TooLong { .. })));
        assert!(matches!(parse(&format!("k={}", "v".repeat(257))), Err(CapabilityError::TooLong { .. })));
        let many = (0..=CAPABILITIES_MAX).map(|n| (format!("k{n}"), Value::Bool(true)));
        assert_eq!(collect(many), Err(CapabilityError::TooMany(CAPABILITIES_MAX + 1)));
    }

    #[test]
    fn later_ones_win() {
        let map = collect([("a".to_owned(), Value::Bool(true)), ("a".to_owned(), Value::Bool(false))]);
        assert_eq!(map.unwrap()["a"], Value::Bool(false));
    }
}
