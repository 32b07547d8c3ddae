//! What an actor asks of its host: an expression over capabilities.
//!
//! ```text
//! any   = all { "||" all }
//! all   = one { "&&" one }
//! one   = "!" one | "(" any ")" | key [ compare value | "in" "[" value { "," value } "]" ]
//! compare = "==" | "!=" | "<" | "<=" | ">" | ">="
//! value = number | "text" | true | false      (in a text, \" and \\ are a quote and a backslash)
//! ```
//!
//! A bare key means that the capability is `true`. A host without a capability, or with one of another kind, fits no
//! comparison but `!=`, so that `a != b` is always the contrary of `a == b`.

mod parse;

pub use parse::ParseRequirementError;

use crate::capability::{Map, Value};
use std::{fmt, str::FromStr, sync::Arc};

/// A requirement, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    text: Arc<str>,
    expression: Expression,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Anywhere,
    True(String),
    Compare(String, Compare, Value),
    In(String, Vec<Value>),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    Differs,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Compare {
    const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Differs => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    fn holds(self, has: Option<&Value>, wanted: &Value) -> bool {
        let same_kind = |has: &Value| std::mem::discriminant(has) == std::mem::discriminant(wanted);
        let Some(has) = has.filter(|has| same_kind(has)) else { return self == Self::Differs };
        match self {
            Self::Equal => has == wanted,
            Self::Differs => has != wanted,
            Self::Less => has < wanted,
            Self::AtMost => has <= wanted,
            Self::More => has > wanted,
            Self::AtLeast => has >= wanted,
        }
    }
}

impl Requirement {
    /// Fits every host.
    #[must_use]
    pub fn anywhere() -> Self {
        Self { text: "".into(), expression: Expression::Anywhere }
    }

    /// As it was written; empty for anywhere.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it was understood.
    pub(crate) fn understood(&self) -> String {
        self.expression.to_string()
    }

    /// Whether a host with these capabilities fits.
    #[must_use]
    pub fn fits(&self, host: &Map) -> bool {
        self.expression.fits(host)
    }

    /// What a host lacks, `gpu >= 1: gpu is 0`; nothing if it fits.
    #[must_use]
    pub fn explain(&self, host: &Map) -> Option<String> {
        (!self.fits(host)).then(|| self.expression.explain(host))
    }
}

impl FromStr for Requirement {
    type Err = ParseRequirementError;

    fn from_str(text: &str) -> Result<Self, ParseRequirementError> {
        Ok(Self { text: text.trim().into(), expression: parse::expression(text)? })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    fn fits(&self, host: &Map) -> bool {
        match self {
            Self::Anywhere => true,
            Self::True(key) => host.get(key) == Some(&Value::Bool(true)),
            Self::Compare(key, compare, value) => compare.holds(host.get(key), value),
            Self::In(key, values) => host.get(key).is_some_and(|has| values.contains(has)),
            Self::Not(inner) => !inner.fits(host),
            Self::All(parts) => parts.iter().all(|part| part.fits(host)),
            Self::Any(parts) => parts.iter().any(|part| part.fits(host)),
        }
    }

    /// Why a host does not fit; to be asked only where it does not.
    fn explain(&self, host: &Map) -> String {
        let is = |key: &str| match host.get(key) {
            Some(value) => format!("{key} is {value}"),
            None => format!("no {key}"),
        };
        match self {
            Self::Anywhere => String::new(),
            Self::True(key) | Self::Compare(key, ..) | Self::In(key, _) => format!("{self}: {}", is(key)),
            Self::Not(inner) => match &**inner {
                Self::True(key) | Self::Compare(key, ..) | Self::In(key, _) => format!("{self}: {}", is(key)),
                _ => format!("{self} does not hold"),
            },
            Self::All(parts) => {
                let missing: Vec<_> =
                    parts.iter().filter(|part| !part.fits(host)).map(|part| part.explain(host)).collect();
                missing.join(", ")
            }
            Self::Any(parts) => {
                let missing: Vec<_> = parts.iter().map(|part| part.explain(host)).collect();
                missing.join(" or ")
            }
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], between: &str| {
            for (index, part) in parts.iter().enumerate() {
                f.write_str(if index > 0 { between } else { "" })?;
                match part {
                    Self::All(_) | Self::Any(_) => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Anywhere => Ok(()),
            Self::True(key) => f.write_str(key),
            Self::Compare(key, compare, value) => write!(f, "{key} {} {value}", compare.sign()),
            Self::In(key, values) => {
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                write!(f, "{key} in [{}]", values.join(", "))
            }
            Self::Not(inner) => match &**inner {
                Self::True(_) | Self::Not(_) => write!(f, "!{inner}"),
                _ => write!(f, "!({inner})"),
            },
            Self::All(parts) => list(f, parts, " && "),
            Self::Any(parts) => list(f, parts, " || "),
        }
    }
}

#[cfg(test)]
mod tests;
