//! The decoders of this crate as functions that no bytes may make panic; `tests/fuzz` calls them. No part of the interface.

use crate::{Json, json};
use odeon_protocol::{
    control::{decode, encode},
    fuzz::Target,
};
use std::collections::BTreeMap;

/// Every decoder.
pub const TARGETS: &[Target] = &[("json", json)];

/// A message as it comes from the edge, then as it goes from process to process.
fn json(bytes: &[u8]) {
    let _ = (json::decode::<()>(bytes).is_ok(), json::decode::<BTreeMap<String, u64>>(bytes).is_ok());
    if let Ok(value) = json::decode::<Json>(bytes) {
        assert_eq!(decode::<Json>(&encode(&value)).as_ref(), Ok(&value), "between processes it stays what it was");
        assert_eq!(json::decode::<Json>(value.to_string().as_bytes()).ok(), Some(value), "and at the edges");
    }
    if let Ok(value) = decode::<Json>(bytes) {
        assert_eq!(decode::<Json>(&encode(&value)), Ok(value));
    }
}
