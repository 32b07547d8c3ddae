//! Whole frames out of a stream of bytes.

use super::{FrameError, HEADER_BYTES, header::LENGTH_BYTES};
use crate::{PROTOCOL_VERSION, limits::FRAME_BYTES_MAX};
use bytes::BytesMut;

/// After so many bytes of a frame memory is reserved for all of it.
const BELIEVED_BYTES: usize = 1 << 20;
/// Reserved beyond that, so that whoever reads on finds room for the next frame's first bytes.
const SLACK_BYTES: usize = 256 << 10;

/// Cuts a stream of bytes into whole frames.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Where the next bytes are read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, or nothing until more bytes have come.
    ///
    /// # Errors
    /// The length is impossible or the version another: the stream cannot go on and its socket is to be closed.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let Some(head) = self.buffer.get(..LENGTH_BYTES + 1) else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize + LENGTH_BYTES;
        if head[4] != PROTOCOL_VERSION {
            return Err(FrameError::Version { has: head[4] });
        }
        if length < HEADER_BYTES {
            return Err(FrameError::Short { bytes: length });
        }
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooBig { bytes: length });
        }
        if self.buffer.len() < length {
            // In one step as soon as enough has come to believe it: growing by and by would copy it several times over.
            let (missing, has) = (length - self.buffer.len(), self.buffer.len());
            self.buffer.reserve(if has < BELIEVED_BYTES { missing.min(BELIEVED_BYTES) } else { missing + SLACK_BYTES });
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length)))
    }
}
