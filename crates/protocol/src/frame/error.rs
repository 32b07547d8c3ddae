//! What can be wrong with bytes that should be a frame.

use crate::{PROTOCOL_VERSION, limits::FRAME_BYTES_MAX};

/// Why bytes are no frame. The peer's fault; its socket or stream is closed, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Shorter than a header.
    #[error("a frame of {bytes} bytes is shorter than its header")]
    Short {
        /// Its size.
        bytes: usize,
    },
    /// The length field and the bytes differ.
    #[error("the frame says {says} bytes and has {is}")]
    Length {
        /// What the length field says.
        says: usize,
        /// What there is.
        is: usize,
    },
    /// Over [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooBig {
        /// Its size.
        bytes: usize,
    },
    /// Another protocol version, or no Odeon at all.
    #[error(
        "the peer speaks protocol version {has}, this process {PROTOCOL_VERSION}: run the same Odeon version on both sides"
    )]
    Version {
        /// The peer's version.
        has: u8,
    },
    /// A number without a meaning.
    #[error("the frame's {field} is {value}, which has no meaning")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// The extensions are malformed.
    #[error("the frame's extensions are malformed")]
    Extensions,
    /// An extension that must be understood is not.
    #[error("the frame needs extension {tag}, which this version does not know")]
    Critical {
        /// Its tag.
        tag: u8,
    },
}
