//! How a capability's [`Value`] is written: `true`, `2`, `1.5`, `eu-1`, `"2"` (quoted to stay text).

use crate::control::Value;
use std::{fmt, str::FromStr};

const MICROS: i64 = 1_000_000;

impl FromStr for Value {
    type Err = std::convert::Infallible;

    /// Reads what stands behind `K=`. Whatever is neither `true`, `false` nor a number is text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "true" => Self::Bool(true),
            "false" => Self::Bool(false),
            _ => match (micros(text), text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))) {
                (Some(micros), _) => Self::Micros(micros),
                (None, Some(quoted)) => Self::Text(quoted.to_owned()),
                (None, None) => Self::Text(text.to_owned()),
            },
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Micros(micros) => {
                let (whole, part) = (micros.unsigned_abs() / MICROS as u64, micros.unsigned_abs() % MICROS as u64);
                let sign = if *micros < 0 { "-" } else { "" };
                if part == 0 {
                    return write!(f, "{sign}{whole}");
                }
                write!(f, "{sign}{whole}.{}", format!("{part:06}").trim_end_matches('0'))
            }
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// A decimal number in millionths; nothing if it is none, is too large, or has more than six digits behind the point.
#[must_use]
pub fn micros(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(part) || part.len() > 6 {
        return None;
    }
    let part = format!("{part:0<6}").parse::<i64>().ok()?;
    let micros = whole.parse::<i64>().ok()?.checked_mul(MICROS)?.checked_add(part)?;
    Some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_shown() {
        for (text, value, shown) in [
            ("true", Value::Bool(true), "true"),
            ("2", Value::Micros(2_000_000), "2"),
            ("-1.50", Value::Micros(-1_500_000), "-1.5"),
            ("0.000001", Value::Micros(1), "0.000001"),
            ("eu-1", Value::Text("eu-1".to_owned()), "\"eu-1\""),
            ("\"2\"", Value::Text("2".to_owned()), "\"2\""),
            ("1.2.3", Value::Text("1.2.3".to_owned()), "\"1.2.3\""),
            ("", Value::Text(String::new()), "\"\""),
        ] {
            assert_eq!(text.parse(), Ok(value.clone()), "{text}");
            assert_eq!(value.to_string(), shown);
            assert_eq!(shown.parse(), Ok(value), "what is shown is read back");
        }
    }

    #[test]
    fn what_is_no_exact_number_is_text() {
        for text in ["1e3", "99999999999999", "0.1234567", "-", ".5", "5.", "+1"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
