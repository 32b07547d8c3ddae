//! JSON at the edges: free-form data inside messages, and messages as the command line and HTTP write them.

use crate::schema::{Fingerprint, Schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use std::{fmt, ops::Deref};

/// Free-form JSON as a field of a message.
///
/// Between processes it travels as its text, since the binary form is not self-describing; at the edges as itself.
///
/// ```
/// #[odeon::message]
/// struct Event { kind: String, detail: odeon::Json }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json(pub serde_json::Value);

impl Json {
    /// The JSON form of any value.
    ///
    /// # Errors
    /// The value has no JSON form: a map whose keys are not texts, say.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> crate::Result<Self> {
        serde_json::to_value(value).map(Self).map_err(crate::Error::other)
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// It does not fit.
    pub fn to<T: DeserializeOwned>(&self) -> crate::Result<T> {
        T::deserialize(&self.0).map_err(crate::Error::other)
    }
}

impl Schema for Json {
    const FINGERPRINT: u64 = Fingerprint::leaf("json");
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { self.0.serialize(serializer) } else { serializer.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return serde_json::Value::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Deref for Json {
    type Target = serde_json::Value;
    fn deref(&self) -> &serde_json::Value {
        &self.0
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value)
    }
}

/// Reads a message or arguments that came as JSON; for a type without fields nothing, `null` and `{}` are all accepted.
///
/// # Errors
/// What does not fit, and where.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let error = match serde_json::from_slice(body) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if !matches!(body.trim_ascii(), b"" | b"null" | b"{}") {
        return Err(error);
    }
    let error = if body.trim_ascii().is_empty() { None } else { Some(error) };
    // A unit is written `null`, a struct without fields `{}`; for one with fields the second error names what is missing.
    match (serde_json::from_str("null"), error) {
        (Ok(value), _) => Ok(value),
        (Err(_), None) => serde_json::from_str("{}"),
        (Err(_), Some(error)) => serde_json::from_str("{}").map_err(|_| error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Unit;
    #[derive(Debug, PartialEq, Deserialize)]
    struct Braces {}
    #[derive(Debug, PartialEq, Deserialize)]
    struct Full {
        by: u32,
    }

    #[test]
    fn it_survives_both_codecs() {
        let value = Json(json!({"a": [1, 2.5, null], "b": {"c": "d"}}));
        let bytes = postcard::to_stdvec(&value).unwrap();
        assert_eq!(postcard::from_bytes::<Json>(&bytes).unwrap(), value);
        assert_eq!(serde_json::to_string(&value).unwrap(), value.to_string());
        assert_eq!(decode::<Json>(value.to_string().as_bytes()).unwrap(), value);
    }

    #[test]
    fn a_message_without_fields_is_nothing_null_or_braces() {
        for body in ["", " ", "null", "{}", " {}\n"] {
            assert_eq!(decode::<Unit>(body.as_bytes()).unwrap(), Unit, "{body:?}");
            assert_eq!(decode::<Braces>(body.as_bytes()).unwrap(), Braces {}, "{body:?}");
            decode::<()>(body.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_does_not_fit_says_where() {
        assert!(decode::<Unit>(b"3").is_err());
        assert!(decode::<Full>(b"").unwrap_err().to_string().contains("missing field `by`"));
        assert!(decode::<Full>(b"{}").unwrap_err().to_string().contains("missing field `by`"));
        let error = decode::<Full>(br#"{"by": "x"}"#).unwrap_err().to_string();
        assert!(error.contains("line 1 column"), "{error}");
    }
}
