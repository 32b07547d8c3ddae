//! Feature levels: how agents of two builds belong to one convention, and how what they say to each other grows.
//!
//! A build has a level, one higher whenever agents say something new to each other or to the directory's log. Hosts are
//! upgraded one after the other, so for a while agents of two levels talk; `docs/protocol.md` says how each kind of
//! message grows. What the directory does about it is decided in `odeon-cluster`.
//!
//! - **FL-1.** A message grows by fields at its outermost end ([`added`]), which an older agent skips ([`decode_known`]),
//!   and enums by variants at their end. What is nested in a list or in another record never grows.
//! - **FL-2.** A new variant is said only to those who know it: commands of the log once every host does, requests to a
//!   host whose member record says so.

use crate::control::DecodeError;
use serde::{Deserialize, Deserializer, Serialize};

/// The level of the first build that had one; what did not say any is of it.
pub const FIRST_LEVEL: u16 = 1;

/// What this build understands; see [`Command::level`](crate::directory::Command::level).
///
/// With the Cargo feature `next-level` it is a build of the level after this one, for tests of both side by side.
pub const FEATURE_LEVEL: u16 = LEVEL + if cfg!(feature = "next-level") { 1 } else { 0 };
const LEVEL: u16 = 1;

/// What a joining host says beside its name and address: the `details` of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinDetails {
    /// The feature level of its agent.
    pub level: u16,
}

impl JoinDetails {
    /// As they travel.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        crate::control::encode(self)
    }

    /// Reads them; those of a host that says nothing are of the first level.
    #[must_use]
    pub fn read(details: &[u8]) -> Self {
        decode_known(details).unwrap_or(Self { level: FIRST_LEVEL })
    }
}

/// Reads a message of an agent whose level may be later: what it has added at the end is skipped.
///
/// # Errors
/// The bytes are no such message.
pub fn decode_known<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(body).map_err(|error| DecodeError { bytes: body.len(), why: error.to_string() })
}

/// Reads a field that was added at the end of a message: an older agent does not say it, so it has its default.
///
/// Written is such a field with `skip_serializing_if =` [`is_default`], so that it costs nothing until it is used.
///
/// # Errors
/// None.
pub fn added<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(T::deserialize(deserializer).unwrap_or_default())
}

/// Whether a field that was added may be left out.
pub fn is_default<T: Default + PartialEq>(field: &T) -> bool {
    *field == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{decode, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Older {
        Said { name: String, number: u64 },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Newer {
        Said {
            name: String,
            number: u64,
            #[serde(skip_serializing_if = "is_default", deserialize_with = "added")]
            more: String,
        },
    }

    fn newer(more: &str) -> Newer {
        Newer::Said { name: "n".into(), number: 300, more: more.into() }
    }

    #[test]
    fn a_message_that_grew_is_read_by_both() {
        let older = Older::Said { name: "n".into(), number: 300 };
        assert_eq!(decode::<Newer>(&encode(&older)), Ok(newer("")));
        assert_eq!(decode_known(&encode(&newer("later"))), Ok(older));
        assert_eq!(decode::<Newer>(&encode(&newer("later"))), Ok(newer("later")));
    }

    #[test]
    fn what_is_not_used_is_not_written() {
        assert_eq!(encode(&newer("")), encode(&Older::Said { name: "n".into(), number: 300 }));
        assert!(decode_known::<Older>(&[0, 1]).is_err(), "what is cut off is no message");
    }

    #[test]
    fn who_joins_without_a_level_has_the_first() {
        assert_eq!(JoinDetails::read(&[]).level, FIRST_LEVEL);
        for level in [1, 2, u16::MAX] {
            assert_eq!(JoinDetails::read(&JoinDetails { level }.write()), JoinDetails { level });
        }
    }
}
