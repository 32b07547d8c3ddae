//! Whole frames out of a stream of bytes.

use super::{FrameError, HEADER_BYTES, header::LENGTH_BYTES};
use crate::{PROTOCOL_VERSION, limits::FRAME_BYTES_MAX};
use bytes::BytesMut;

/// After so many bytes of a frame it is believed to come, and memory is reserved for all of it.
const BELIEVED_BYTES: usize = 1 << 20;
/// Reserved beyond that, so that whoever reads on finds room for the next frame's first bytes.
pub const SLACK_BYTES: usize = 256 << 10;

/// Cuts a stream of bytes into whole frames.
#[derive(Debug)]
pub struct Splitter {
    buffer: BytesMut,
    /// Where memory for large frames comes from.
    memory: fn(usize) -> BytesMut,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::with_memory(BytesMut::with_capacity)
    }
}

impl Splitter {
    /// One that takes the memory for frames of more than 1 MiB from there; it has to have the capacity asked for.
    #[must_use]
    pub fn with_memory(memory: fn(usize) -> BytesMut) -> Self {
        Self { buffer: BytesMut::new(), memory }
    }

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
            let (missing, has) = (length - self.buffer.len(), self.buffer.len());
            if has < BELIEVED_BYTES {
                self.buffer.reserve(missing.min(BELIEVED_BYTES));
            } else if self.buffer.capacity() < length {
                // In one step: growing by and by would copy it several times over.
                let begun = std::mem::replace(&mut self.buffer, (self.memory)(length + SLACK_BYTES));
                self.buffer.extend_from_slice(&begun);
            }
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length)))
    }
}
