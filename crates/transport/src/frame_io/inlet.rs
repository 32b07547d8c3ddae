//! Frames on their way in: chunks become frames again, credits go to the queue in the other direction.

use super::{Gate, Outbox, memory};
use bytes::BytesMut;
use odeon_protocol::frame::{FrameError, HEADER_BYTES, Header, Kind, Splitter, kind_of};
use std::{io, mem};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes asked of the stream at once.
const READ_BYTES: usize = 128 << 10;

/// What of a link's frames is meant for the link itself.
#[derive(Debug)]
pub struct Inlet {
    /// The queue in the other direction.
    outbox: Outbox,
    gate: Gate,
    /// What has come of the stream of large frames.
    large: Splitter,
}

impl Inlet {
    /// For the link that is written from `outbox`; chunks are credited while the gate is open.
    #[must_use]
    pub fn new(outbox: Outbox, gate: Gate) -> Self {
        Self { outbox, gate, large: Splitter::with_memory(memory) }
    }

    /// Leaves the frames for whoever is behind the link, of those that came.
    ///
    /// # Errors
    /// The chunks are no frames; those before are left.
    pub fn take(&mut self, frames: &mut Vec<BytesMut>) -> Result<(), FrameError> {
        if !frames.iter().any(|frame| matches!(kind_of(frame), Some(Kind::Chunk | Kind::Credit))) {
            return Ok(());
        }
        let (came, mut chunks) = (mem::take(frames), 0);
        for frame in came {
            match kind_of(&frame) {
                Some(Kind::Chunk) => {
                    self.take_chunk(&frame, frames)?;
                    chunks += 1;
                }
                Some(Kind::Credit) => self.outbox.credited(Header::read(&frame)?.0.correlation),
                _ => frames.push(frame),
            }
        }
        if chunks > 0 {
            self.gate.credit(&self.outbox, chunks);
        }
        Ok(())
    }

    fn take_chunk(&mut self, chunk: &[u8], frames: &mut Vec<BytesMut>) -> Result<(), FrameError> {
        let (_, extension_bytes) = Header::read(chunk)?;
        self.large.buffer().extend_from_slice(&chunk[HEADER_BYTES + extension_bytes..]);
        while let Some(whole) = self.large.next_frame()? {
            frames.push(whole);
        }
        if self.large.buffer().is_empty() {
            // The memory is the frames' alone.
            *self.large.buffer() = BytesMut::new();
        }
        Ok(())
    }

    /// Bytes of frames of which a part is still to come.
    #[must_use]
    pub fn begun(&mut self) -> usize {
        self.large.buffer().len()
    }
}

/// Reads until the stream's end and hands over frames as they come, many at a time.
///
/// The frames share the memory they were read in: what is to be kept for long is to be copied.
///
/// # Errors
/// The stream's error, a malformed frame, or an end within a frame.
pub async fn read_frames<R: AsyncRead + Unpin>(
    mut stream: R,
    mut inlet: Inlet,
    mut on_batch: impl FnMut(Vec<BytesMut>),
) -> Result<(), ReadError> {
    let mut splitter = Splitter::default();
    loop {
        splitter.buffer().reserve(READ_BYTES);
        if stream.read_buf(splitter.buffer()).await? == 0 {
            return match splitter.buffer().len() + inlet.begun() {
                0 => Ok(()),
                bytes => Err(ReadError::Cut { bytes }),
            };
        }
        let mut batch = Vec::new();
        let fault = loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => batch.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let fault = inlet.take(&mut batch).err().or(fault);
        if !batch.is_empty() {
            on_batch(batch);
        }
        if let Some(error) = fault {
            return Err(error.into());
        }
    }
}

/// Why a stream of frames ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame, after {bytes} of its bytes")]
    Cut {
        /// How much of the frame had come.
        bytes: usize,
    },
}
