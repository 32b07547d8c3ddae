//! Where an actor is reached, and how that is written.
//!
//! | form | text |
//! |---|---|
//! | direct | `odeon:<node>.<boot>.<serial>`, node and boot in hexadecimal |
//! | named | `odeon:name/<global name>` |
//! | troupe | `odeon:troupe/<node>.<boot>.<serial>` |
//!
//! A troupe's id has the shape of a direct address: it says which agent keeps the troupe.

use crate::{
    id::{Boot, NodeId, Serial},
    limits::NAME_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

/// One incarnation's place: which agent, which of its starts, which actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Direct {
    /// The agent.
    pub node: NodeId,
    /// The agent's start.
    pub boot: Boot,
    /// The actor.
    pub serial: Serial,
}

impl Direct {
    /// Nobody: used where a frame has no sender, or its receiver is known by name only.
    pub const NONE: Self = Self { node: NodeId(0), boot: Boot(0), serial: Serial(0) };

    /// Whether this is [`Direct::NONE`].
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// `self`, or nothing where it is [`Direct::NONE`].
    #[must_use]
    pub fn some(self) -> Option<Self> {
        (!self.is_none()).then_some(self)
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.boot, self.serial)
    }
}

impl FromStr for Direct {
    type Err = ParseAddressError;
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let bad = || ParseAddressError::Direct(beginning(text));
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or_else(bad);
        let (node, boot, serial) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self {
            node: node.parse().map_err(|_| bad())?,
            boot: boot.parse().map_err(|_| bad())?,
            serial: Serial(serial.parse().map_err(|_| bad())?),
        })
    }
}

/// The address of an actor or a troupe, as it travels in messages.
///
/// `Eq` and `Hash` ignore the hint and the epoch: two references to one global name are equal wherever the actor is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Address {
    /// An actor by its place.
    Direct(Direct),
    /// An actor by its global name, which outlives its instances.
    Named {
        /// The whole global name, `poll.question/pizza`.
        name: Arc<str>,
        /// Whether a message starts the actor where there is none (references made by `named`).
        starts: bool,
        /// Where the name was last seen; [`Direct::NONE`] if never.
        hint: Direct,
        /// The epoch it had there.
        epoch: u64,
    },
    /// A troupe; its agent picks the member.
    Troupe(Direct),
}

impl Address {
    /// The address of a global name, without a hint.
    #[must_use]
    pub fn named(name: impl Into<Arc<str>>, starts: bool) -> Self {
        Self::Named { name: name.into(), starts, hint: Direct::NONE, epoch: 0 }
    }

    /// The global name, if this is a named address.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Named { name, .. } => Some(name),
            Self::Direct(_) | Self::Troupe(_) => None,
        }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Direct(one), Self::Direct(two)) | (Self::Troupe(one), Self::Troupe(two)) => one == two,
            (Self::Named { name: one, .. }, Self::Named { name: two, .. }) => one == two,
            _ => false,
        }
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Direct(place) => (0u8, place).hash(state),
            Self::Named { name, .. } => (1u8, name).hash(state),
            Self::Troupe(place) => (2u8, place).hash(state),
        }
    }
}

impl From<Direct> for Address {
    fn from(place: Direct) -> Self {
        Self::Direct(place)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(place) => write!(f, "odeon:{place}"),
            Self::Named { name, .. } => write!(f, "odeon:name/{name}"),
            Self::Troupe(place) => write!(f, "odeon:troupe/{place}"),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    /// Reads the text form; a bare text without `odeon:` is a global name.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let Some(rest) = text.strip_prefix("odeon:") else {
            check_name(text)?;
            return Ok(Self::named(text, true));
        };
        if let Some(name) = rest.strip_prefix("name/") {
            check_name(name)?;
            return Ok(Self::named(name, true));
        }
        match rest.strip_prefix("troupe/") {
            Some(place) => place.parse().map(Self::Troupe),
            None => rest.parse().map(Self::Direct),
        }
    }
}

/// Checks a whole global name.
///
/// # Errors
/// It is empty, longer than [`NAME_BYTES_MAX`] bytes, begins with `odeon:`, or holds a control character.
pub fn check_name(name: &str) -> Result<(), ParseAddressError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it is longer than 512 bytes"
    } else if name.starts_with("odeon:") {
        "it begins with odeon:"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    Err(ParseAddressError::Name { name: beginning(name), why })
}

fn beginning(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Not the form of a direct address or troupe.
    #[error("{0:?} is no address: expected odeon:<node>.<boot>.<serial>")]
    Direct(String),
    /// Not fit for a global name.
    #[error("{name:?} is no global name: {why}")]
    Name {
        /// The beginning of the text.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Direct {
        Direct { node: NodeId(0xab), boot: Boot(0x10), serial: Serial(7) }
    }

    #[test]
    fn text_forms_are_read_back() {
        for (address, text) in [
            (Address::Direct(place()), "odeon:ab.10.7"),
            (Address::named("poll.question/pizza", true), "odeon:name/poll.question/pizza"),
            (Address::Troupe(place()), "odeon:troupe/ab.10.7"),
        ] {
            assert_eq!(address.to_string(), text);
            assert_eq!(text.parse::<Address>().unwrap(), address);
        }
        assert_eq!("c1".parse::<Address>().unwrap(), Address::named("c1", true));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "odeon:", "odeon:1.2", "odeon:1.2.3.4", "odeon:x.y.z", "odeon:name/", "a\nb", "odeon:troupe/1"]
        {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
        assert!("x".repeat(NAME_BYTES_MAX + 1).parse::<Address>().is_err());
    }

    #[test]
    fn equality_ignores_hint_and_epoch() {
        let here = Address::Named { name: "n".into(), starts: false, hint: place(), epoch: 3 };
        assert_eq!(here, Address::named("n", true));
    }
}
