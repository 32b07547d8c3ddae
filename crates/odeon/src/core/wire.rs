//! Values as bytes: postcard between processes, JSON at the edges.

use crate::error::{Error, Result};
use odeon_protocol::{Reason, frame::Codec};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes for which a message has room from the start.
const SMALL: usize = 112;

/// Writes a value.
pub(crate) fn write<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Vec<u8>> {
    match codec {
        // Most messages fit without growing step by step.
        Codec::Postcard => {
            postcard::to_extend(value, Vec::with_capacity(SMALL)).map_err(|error| cannot::<T>("be written", &error))
        }
        Codec::Json => serde_json::to_vec(value).map_err(|error| cannot::<T>("be written as JSON", &error)),
        Codec::Raw | Codec::Cbor => Err(cannot::<T>("be written", &format!("codec {codec:?} is for bytes only"))),
    }
}

/// Reads a value back; nothing may be left over.
pub(crate) fn read<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T> {
    match codec {
        Codec::Postcard => match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(cannot::<T>("be read", &format!("{} bytes are left over", rest.len()))),
            Err(error) => Err(cannot::<T>("be read", &error)),
        },
        Codec::Json => crate::json::decode(bytes).map_err(|error| cannot::<T>("be read from JSON", &error)),
        Codec::Raw | Codec::Cbor => Err(cannot::<T>("be read", &format!("codec {codec:?} is not spoken here"))),
    }
}

fn cannot<T: ?Sized>(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Decode, format!("{} cannot {what}: {why}", std::any::type_name::<T>()))
}
