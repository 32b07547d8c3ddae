//! Reads requirements; an error shows the place.

use super::{Compare, Expression};
use crate::capability::{Value, begins_key, continues_key};
use odeon_protocol::{
    capability::{micros, quoted},
    limits::REQUIREMENT_BYTES_MAX,
};
use std::fmt;

/// `!` and parentheses within each other.
const DEPTH_MAX: usize = 64;
const UNCLOSED: &str = "this text has no closing \", or a \\ before something else than \" or \\";

/// Why a text is no requirement; shown with a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseRequirementError {
    /// The whole text.
    pub text: String,
    /// The offending place, in characters.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl std::error::Error for ParseRequirementError {}

impl fmt::Display for ParseRequirementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the requirement is not understood: {}\n  {}\n  {:at$}^", self.why, self.text, "", at = self.at)
    }
}

pub(super) fn expression(text: &str) -> Result<Expression, ParseRequirementError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    if text.len() > REQUIREMENT_BYTES_MAX {
        let shown = text.chars().take(40).collect::<String>() + "…";
        let why = format!("it has more than {REQUIREMENT_BYTES_MAX} bytes");
        return Err(ParseRequirementError { text: shown, at: 40, why });
    }
    reader.skip_space();
    if reader.rest().is_empty() {
        return Ok(Expression::Anywhere);
    }
    let expression = reader.any()?;
    if reader.rest().is_empty() { Ok(expression) } else { Err(reader.error("expected && or || here")) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Result<Expression, ParseRequirementError> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        if parts.len() > 1 { Ok(Expression::Any(parts)) } else { Ok(parts.remove(0)) }
    }

    fn all(&mut self) -> Result<Expression, ParseRequirementError> {
        let mut parts = vec![self.one()?];
        while self.take("&&") {
            parts.push(self.one()?);
        }
        if parts.len() > 1 { Ok(Expression::All(parts)) } else { Ok(parts.remove(0)) }
    }

    fn one(&mut self) -> Result<Expression, ParseRequirementError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.error("too many parentheses within each other"));
        }
        self.depth += 1;
        let one = if self.take("!") {
            Expression::Not(Box::new(self.one()?))
        } else if self.take("(") {
            let inner = self.any()?;
            if !self.take(")") {
                return Err(self.error("expected ) here"));
            }
            inner
        } else {
            self.term()?
        };
        self.depth -= 1;
        Ok(one)
    }

    fn term(&mut self) -> Result<Expression, ParseRequirementError> {
        let begin = self.at;
        let key = self.word();
        if key.is_empty() {
            return Err(self.error("expected a capability here, for example gpu >= 1"));
        }
        if ["true", "false", "in"].contains(&key) {
            self.at = begin;
            return Err(self.error(&format!("{key} is no capability's key")));
        }
        let key = key.to_owned();
        let before = self.at;
        if self.word() == "in" {
            return self.set(key);
        }
        self.at = before;
        let Some(compare) = self.compare()? else { return Ok(Expression::True(key)) };
        let place = self.at;
        let value = self.value()?;
        if matches!(value, Value::Bool(_)) && !matches!(compare, Compare::Equal | Compare::Differs) {
            self.at = place;
            return Err(self.error("true and false are compared by == and != only"));
        }
        Ok(Expression::Compare(key, compare, value))
    }

    fn set(&mut self, key: String) -> Result<Expression, ParseRequirementError> {
        if !self.take("[") {
            return Err(self.error("expected [ here, for example zone in [\"a\", \"b\"]"));
        }
        let mut values = vec![self.value()?];
        while self.take(",") {
            values.push(self.value()?);
        }
        if self.take("]") { Ok(Expression::In(key, values)) } else { Err(self.error("expected , or ] here")) }
    }

    fn compare(&mut self) -> Result<Option<Compare>, ParseRequirementError> {
        use Compare::{AtLeast, AtMost, Differs, Equal, Less, More};
        for compare in [Equal, Differs, AtMost, AtLeast, Less, More] {
            if self.take(compare.sign()) {
                return Ok(Some(compare));
            }
        }
        if self.rest().starts_with('=') {
            return Err(self.error("expected == here: one = compares nothing"));
        }
        Ok(None)
    }

    fn value(&mut self) -> Result<Value, ParseRequirementError> {
        let begin = self.at;
        if self.rest().starts_with('"') {
            let Some((text, after)) = quoted(self.rest()) else { return Err(self.error(UNCLOSED)) };
            self.advance(self.rest().len() - after.len());
            return Ok(Value::Text(text));
        }
        let end = self.rest().find(|c: char| !continues_key(c)).unwrap_or(self.rest().len());
        let word = &self.rest()[..end];
        let value = match word {
            "" => return Err(self.error("expected a number, a \"text\", true or false here")),
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => match micros(word) {
                Some(micros) => Value::Micros(micros),
                None => {
                    self.at = begin;
                    return Err(self.error(&format!("{word} is no number: write text in quotes, \"{word}\"")));
                }
            },
        };
        self.advance(end);
        Ok(value)
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        if !rest.starts_with(begins_key) {
            return "";
        }
        let end = rest.find(|c| !continues_key(c)).unwrap_or(rest.len());
        self.advance(end);
        &rest[..end]
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.advance(sign.len());
        }
        found
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.skip_space();
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn error(&self, why: &str) -> ParseRequirementError {
        // The caret stands under the text's first line only if the text has no other.
        let text = self.text.replace(|c: char| c.is_control(), " ");
        ParseRequirementError { text, at: self.text[..self.at].chars().count(), why: why.to_owned() }
    }
}
