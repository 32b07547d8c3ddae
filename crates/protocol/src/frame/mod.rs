//! The frame: a fixed little-endian header that routers read without serde, typed extensions, a body they leave closed.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | bytes that follow this field |
//! | 4 | 1 | protocol version |
//! | 5 | 1 | kind |
//! | 6 | 1 | class |
//! | 7 | 1 | codec of the body |
//! | 8 | 2 | flags |
//! | 10 | 2 | bytes of extensions |
//! | 12 | 4 | remaining time in milliseconds, 0 for none |
//! | 16 | 24 | to: node, boot, serial |
//! | 40 | 24 | from: node, boot, serial |
//! | 64 | 8 | epoch of the receiver, 0 for none |
//! | 72 | 8 | epoch of the sender, 0 for none |
//! | 80 | 4 | flow, chosen by the sender's worker |
//! | 84 | 4 | number in the flow |
//! | 88 | 8 | correlation of an ask and its answer |
//! | 96 | 8 | type id of the body |
//! | 104 | 8 | schema fingerprint of the body, 0 where it has none |
//! | 112 | | extensions, then the body |
//!
//! An extension is a tag (1 byte; the high bit marks it critical), its length (2 bytes) and its bytes. A reader skips
//! unknown ones, unless critical.
//!
//! - **F-1.** Reading never panics and never reserves memory by a length it has not checked.
//! - **F-2.** What [`Header::write`] writes, [`Header::read`] reads back unchanged.

mod error;
mod extension;
mod header;
mod splitter;
#[cfg(test)]
mod tests;

pub use error::FrameError;
pub use extension::{Extension, Extensions};
pub use header::{
    Class, Codec, FLOW_ORDER_BITS, HEADER_BYTES, Header, Kind, flags, is_bulk, is_urgent, kind_of, order_of, set_to,
    to_of,
};
pub use splitter::{SLACK_BYTES, Splitter};

use crate::{address::Direct, limits::EXTENSION_BYTES_MAX, reason::Reason};
use bytes::{BufMut, Bytes, BytesMut};

/// A whole frame: header read, extensions and body as the bytes they came in.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The fixed part.
    pub header: Header,
    bytes: Bytes,
    extension_bytes: usize,
}

impl Frame {
    /// Reads a whole frame, as [`Splitter`] cut it.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub fn read(bytes: Bytes) -> Result<Self, FrameError> {
        let (header, extension_bytes) = Header::read(&bytes)?;
        Ok(Self { header, bytes, extension_bytes })
    }

    /// Makes a frame.
    #[must_use]
    pub fn new(header: Header, extensions: &[Extension<'_>], body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len() + 32);
        let extension_bytes = write(&mut bytes, &header, extensions, body);
        Self { header, bytes: bytes.freeze(), extension_bytes }
    }

    /// The frame as it travels.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The frame as it travels, and nothing else of it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The body, sharing the frame's memory.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES + self.extension_bytes..)
    }

    /// The known extensions in order; ends at the first malformed one with its error.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions { rest: &self.bytes[HEADER_BYTES..HEADER_BYTES + self.extension_bytes] }
    }

    /// The global name of the receiver, if the frame has one.
    #[must_use]
    pub fn to_name(&self) -> Option<&str> {
        self.extensions().to_name()
    }

    /// The message's name, where the frame says it in place of a type id.
    #[must_use]
    pub fn message_name(&self) -> Option<&str> {
        self.extensions().flatten().find_map(|extension| match extension {
            Extension::Message(name) => Some(name),
            _ => None,
        })
    }

    /// The troupe through which the message went to its member, if it did.
    #[must_use]
    pub fn troupe(&self) -> Option<Direct> {
        self.extensions().troupe()
    }

    /// Who waits for the answer to an ask that was forwarded, and under which number.
    #[must_use]
    pub fn reply_to(&self) -> Option<(Direct, u64)> {
        self.extensions().reply_to()
    }

    /// The global name of the sender, if it has one.
    #[must_use]
    pub fn from_name(&self) -> Option<&str> {
        self.extensions().flatten().find_map(|extension| match extension {
            Extension::From(name) => Some(name),
            _ => None,
        })
    }

    /// The reason of a `Returned` or `Failure` frame, with its words.
    #[must_use]
    pub fn reason(&self) -> Option<(Reason, &str)> {
        self.extensions().flatten().find_map(|extension| match extension {
            Extension::Reason { reason, text } => Some((reason, text)),
            _ => None,
        })
    }

    /// The same frame with another header; extensions and body are copied.
    #[must_use]
    pub fn with_header(&self, header: Header) -> Self {
        let rest = &self.bytes[HEADER_BYTES..];
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        header.write(&mut bytes, self.extension_bytes, rest.len() - self.extension_bytes);
        bytes.put_slice(rest);
        Self { header, bytes: bytes.freeze(), extension_bytes: self.extension_bytes }
    }
}

/// The extensions of a whole frame, where it lies; none of what is no frame.
#[must_use]
pub fn extensions_of(frame: &[u8]) -> Extensions<'_> {
    let bytes = frame.get(10..12).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    Extensions { rest: frame.get(HEADER_BYTES..HEADER_BYTES + bytes).unwrap_or(&[]) }
}

/// Appends a whole frame to `out`; returns the bytes of its extensions.
///
/// Extensions that do not fit into [`EXTENSION_BYTES_MAX`] are left out; those that an honest process writes always fit.
pub fn write(out: &mut BytesMut, header: &Header, extensions: &[Extension<'_>], body: &[u8]) -> usize {
    let extension_bytes = begin(out, header, extensions, body.len());
    out.put_slice(body);
    extension_bytes
}

/// As [`write()`], but for the body of so many bytes: it has to follow.
pub fn begin(out: &mut BytesMut, header: &Header, extensions: &[Extension<'_>], body_bytes: usize) -> usize {
    if extensions.is_empty() {
        header.write(out, 0, body_bytes);
        return 0;
    }
    let mut packed = BytesMut::with_capacity(64);
    for extension in extensions {
        let before = packed.len();
        extension.write(&mut packed);
        if packed.len() > EXTENSION_BYTES_MAX {
            packed.truncate(before);
        }
    }
    header.write(out, packed.len(), body_bytes);
    out.put_slice(&packed);
    packed.len()
}
