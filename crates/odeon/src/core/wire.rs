//! Values as bytes: postcard between processes, JSON at the edges.

use crate::error::{Error, Result};
use bytes::{BufMut, BytesMut};
use odeon_protocol::{Reason, frame::Codec};
use postcard::{
    ser_flavors::{Flavor, Size},
    serialize_with_flavor,
};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes for which a message has room from the start.
const SMALL: usize = 112;

/// A value's bytes, or how many there are where that is more than was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Bytes(Vec<u8>),
    Larger(usize),
}

impl Written {
    pub(crate) const fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Larger(bytes) => *bytes,
        }
    }
}

/// What can be written, whatever it is.
pub(crate) trait Writable {
    /// Its bytes, unless they are more than `most`: those are only counted.
    fn write_up_to(&self, codec: Codec, most: usize) -> Result<Written>;
    /// Appends its bytes. On an error some are there already.
    fn append(&self, codec: Codec, out: &mut BytesMut) -> Result;
}

impl<T: Serialize> Writable for T {
    fn write_up_to(&self, codec: Codec, most: usize) -> Result<Written> {
        if codec != Codec::Postcard {
            let bytes = write(codec, self)?;
            return Ok(if bytes.len() <= most { Written::Bytes(bytes) } else { Written::Larger(bytes.len()) });
        }
        let up_to = UpTo { bytes: Vec::with_capacity(SMALL), most };
        serialize_with_flavor(self, up_to).map(Written::Bytes).or_else(|error| {
            // Too many, or it cannot be written at all: which of them is seen by counting.
            match serialize_with_flavor(self, Size::default()) {
                Ok(bytes) if bytes > most => Ok(Written::Larger(bytes)),
                _ => Err(cannot::<T>("be written", &error)),
            }
        })
    }

    fn append(&self, codec: Codec, out: &mut BytesMut) -> Result {
        if codec != Codec::Postcard {
            out.put_slice(&write(codec, self)?);
            return Ok(());
        }
        serialize_with_flavor(self, Append(out)).map_err(|error| cannot::<T>("be written", &error))
    }
}

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

/// Takes at most so many bytes.
struct UpTo {
    bytes: Vec<u8>,
    most: usize,
}

impl Flavor for UpTo {
    type Output = Vec<u8>;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.bytes.len() >= self.most {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.bytes.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > self.most - self.bytes.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.bytes)
    }
}

/// Puts bytes behind those that are there.
struct Append<'a>(&'a mut BytesMut);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serializer;

    #[test]
    fn what_is_larger_than_asked_for_is_counted_and_can_be_appended() {
        let value = (7_u64, "a text".to_owned(), vec![1_u8; 1000], format_args!("{:>200}", 1).to_string());
        for codec in [Codec::Postcard, Codec::Json] {
            let whole = write(codec, &value).unwrap();
            for most in 0..whole.len() {
                assert_eq!(value.write_up_to(codec, most).unwrap(), Written::Larger(whole.len()), "up to {most}");
            }
            for most in [whole.len(), whole.len() + 1, usize::MAX] {
                assert_eq!(value.write_up_to(codec, most).unwrap(), Written::Bytes(whole.clone()), "up to {most}");
            }
            let mut out = BytesMut::from(&b"before"[..]);
            value.append(codec, &mut out).unwrap();
            assert_eq!(out, [b"before", &whole[..]].concat());
        }
    }

    #[test]
    fn what_cannot_be_written_says_so_whatever_its_size() {
        struct Never;
        impl Serialize for Never {
            fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                to.collect_seq([0_u8; 100])?;
                Err(serde::ser::Error::custom("never"))
            }
        }
        for most in [0, 10, 1000] {
            let error = Never.write_up_to(Codec::Postcard, most).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{error}");
            assert!(error.to_string().contains("Never cannot be written"), "{error}");
        }
        assert!(Never.append(Codec::Postcard, &mut BytesMut::new()).is_err());
        assert!(().write_up_to(Codec::Raw, 10).is_err());
    }
}
