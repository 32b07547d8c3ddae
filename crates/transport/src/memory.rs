//! A link inside one process: the same frames, encoded the same, without the kernel. For tests and embedded agents.
//!
//! Descriptors travel beside the bytes, in a queue for each direction.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};
use tokio::io::DuplexStream;

/// Bytes on their way in one direction, like a socket's buffer.
const BUFFER_BYTES: usize = 256 << 10;

type Descriptors = Arc<Mutex<VecDeque<OwnedFd>>>;

/// One end of a memory link.
#[derive(Debug)]
pub struct MemoryStream {
    pub(crate) stream: DuplexStream,
    outgoing: Descriptors,
    incoming: Descriptors,
}

/// Both ends of a new memory link.
#[must_use]
pub fn pair() -> (MemoryStream, MemoryStream) {
    let (left, right) = tokio::io::duplex(BUFFER_BYTES);
    let (one, two) = (Descriptors::default(), Descriptors::default());
    (
        MemoryStream { stream: left, outgoing: one.clone(), incoming: two.clone() },
        MemoryStream { stream: right, outgoing: two, incoming: one },
    )
}

impl MemoryStream {
    pub(crate) fn pass(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let copies: Vec<_> = descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect::<Result<_, _>>()?;
        self.outgoing.lock().extend(copies);
        Ok(())
    }

    pub(crate) fn passed(&self) -> Vec<OwnedFd> {
        self.incoming.lock().drain(..).collect()
    }
}
