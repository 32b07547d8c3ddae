//! What the macros' code refers to. Not part of the public interface: it may change in any release.

pub use crate::{
    key::{KeyProbe, ViaFromKey, WithoutFromKey},
    schema::Fingerprint,
};
pub use odeon_protocol::hash::fnv1a;
pub use serde;
