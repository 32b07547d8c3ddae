//! How a capability's [`Value`] is written: `true`, `2`, `1.5`, `eu-1`, `"2"` (quoted to stay text).
//!
//! Within quotes a backslash stands before a quote or backslash, or begins `\u{…}`, a character by its number.

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
            _ => match (micros(text), quoted(text).filter(|(_, rest)| rest.is_empty())) {
                (Some(micros), _) => Self::Micros(micros),
                (None, Some((quoted, _))) => Self::Text(quoted),
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
            Self::Text(text) => write_quoted(text, f),
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
    let micros = i128::from(whole.parse::<i64>().ok()?) * i128::from(MICROS) + i128::from(part);
    // The smallest number has no positive counterpart.
    i64::try_from(if negative { -micros } else { micros }).ok()
}

/// The text in quotes that `text` begins with, and what follows it; nothing if it begins with none.
#[must_use]
pub fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut inner, mut rest) = (String::new(), text.strip_prefix('"')?);
    loop {
        let end = rest.find(['"', '\\'])?;
        inner.push_str(&rest[..end]);
        if rest[end..].starts_with('"') {
            return Some((inner, &rest[end + 1..]));
        }
        let (character, after) = escaped(&rest[end + 1..])?;
        inner.push(character);
        rest = after;
    }
}

/// The character that is written behind a backslash.
fn escaped(text: &str) -> Option<(char, &str)> {
    if let Some(numbered) = text.strip_prefix("u{") {
        let (number, rest) = numbered.split_once('}')?;
        return Some((char::from_u32(u32::from_str_radix(number, 16).ok()?)?, rest));
    }
    let character = text.chars().next().filter(|character| matches!(character, '"' | '\\'))?;
    Some((character, &text[1..]))
}

fn write_quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            _ if character.is_control() => write!(f, "{}", character.escape_unicode())?,
            _ => write!(f, "{character}")?,
        }
    }
    f.write_str("\"")
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
            ("-9223372036854.775808", Value::Micros(i64::MIN), "-9223372036854.775808"),
            (r#"a"b\c"#, Value::Text(r#"a"b\c"#.to_owned()), r#""a\"b\\c""#),
            ("a\nb", Value::Text("a\nb".to_owned()), r#""a\u{a}b""#),
            (r#""\x""#, Value::Text(r#""\x""#.to_owned()), r#""\"\\x\"""#),
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
