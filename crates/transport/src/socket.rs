//! One end of a link between a process and its agent, over whichever transport.
//!
//! A link begins with one frame each way, read and written whole here (the agent's first may carry descriptors);
//! then it is split and goes on with [`crate::frame_io`].

use crate::{
    memory::{self, MemoryStream},
    unix,
};
use bytes::BytesMut;
use odeon_protocol::frame::{FrameError, Splitter};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};

/// The first frame of either side; later ones may be larger.
const FIRST_BYTES_MAX: usize = 4 << 20;
/// Bytes of it that memory is reserved for at a time.
const PIECE_BYTES: usize = 64 << 10;
/// A frame's length and version.
const HEAD_BYTES: usize = 5;

/// One end of a link.
#[derive(Debug)]
pub struct Socket(Kind);

#[derive(Debug)]
enum Kind {
    Unix(UnixStream),
    Memory(MemoryStream),
}

/// The half of a link that frames are read from.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The half of a link that frames are written to.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self(Kind::Unix(stream))
    }
}

impl From<MemoryStream> for Socket {
    fn from(stream: MemoryStream) -> Self {
        Self(Kind::Memory(stream))
    }
}

impl Socket {
    /// Both ends of a link inside this process.
    #[must_use]
    pub fn memory() -> (Self, Self) {
        let (left, right) = memory::pair();
        (left.into(), right.into())
    }

    /// Writes one whole frame, with descriptors.
    ///
    /// # Errors
    /// The stream's.
    pub async fn send_first(&mut self, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Unix(stream) => unix::send(stream, frame, descriptors).await,
            Kind::Memory(memory) => {
                memory.pass(descriptors)?;
                memory.stream.write_all(frame).await
            }
        }
    }

    /// Reads exactly one frame and the descriptors that came with it.
    ///
    /// # Errors
    /// The stream's, its end, or bytes that are no frame (kind `InvalidData`).
    pub async fn receive_first(&mut self) -> io::Result<(BytesMut, Vec<OwnedFd>)> {
        let (mut splitter, mut descriptors) = (Splitter::default(), Vec::new());
        // Length and version first: what is no frame is refused before more of it is waited for.
        splitter.buffer().resize(HEAD_BYTES, 0);
        self.receive(splitter.buffer(), &mut descriptors).await?;
        if splitter.next_frame().map_err(invalid)?.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let buffer = splitter.buffer();
        let length = u32::from_le_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize + 4;
        if length > FIRST_BYTES_MAX {
            return Err(invalid(FrameError::TooBig { bytes: length }));
        }
        // Memory follows what has come, not what was announced.
        while splitter.buffer().len() < length {
            let have = splitter.buffer().len();
            splitter.buffer().resize(length.min(have + PIECE_BYTES), 0);
            self.receive(&mut splitter.buffer()[have..], &mut descriptors).await?;
        }
        let frame = splitter.next_frame().map_err(invalid)?.ok_or(io::ErrorKind::InvalidData)?;
        if let Kind::Memory(memory) = &self.0 {
            descriptors = memory.passed();
        }
        Ok((frame, descriptors))
    }

    async fn receive(&mut self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
        match &mut self.0 {
            Kind::Unix(stream) => unix::receive(stream, buffer, descriptors).await,
            Kind::Memory(memory) => memory.stream.read_exact(buffer).await.map(drop),
        }
    }

    /// Both halves, for [`crate::frame_io::read_frames`] and [`crate::frame_io::write_frames`].
    #[must_use]
    pub fn split(self) -> (Reader, Writer) {
        match self.0 {
            Kind::Unix(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Kind::Memory(memory) => {
                let (reader, writer) = tokio::io::split(memory.stream);
                (Box::new(reader), Box::new(writer))
            }
        }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
