//! Lanes without connections: whoever simulates carries batches, acknowledgements and what each end says first.

use super::{
    Lanes,
    link::{Resume, resume},
};
use bytes::{Bytes, BytesMut};
use odeon_protocol::{frame::Splitter, limits::LANES};
use std::{io, task::Waker};

/// What one end of a connection says first, and from then on as acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting(Resume);

/// Lanes as a simulation drives them.
#[derive(Clone, Copy, Debug)]
pub struct Simulated<'a>(&'a Lanes);

impl Lanes {
    /// See [`Simulated`].
    #[must_use]
    pub fn simulated(&self) -> Simulated<'_> {
        Simulated(self)
    }
}

impl Simulated<'_> {
    /// What this end says first.
    #[must_use]
    pub fn greeting(&self) -> Greeting {
        Greeting(resume(&self.0.shared, 0))
    }

    /// A connection is up, and that is what its other end said first. Answers each lane's first number.
    ///
    /// # Errors
    /// The peer claims what cannot be.
    pub fn connect(&self, peer: Greeting) -> io::Result<[u64; LANES]> {
        self.0.shared.resume(peer.0, 0..LANES)
    }

    /// The next batch of a lane for the connection.
    #[must_use]
    pub fn take(&self, lane: usize) -> Option<Bytes> {
        let batch = self.0.shared.take_batch(lane, Waker::noop());
        self.0.shared.wake_room(lane);
        batch
    }

    /// Whether large frames are unsent or not acknowledged.
    #[must_use]
    pub fn has_large(&self) -> bool {
        self.0.shared.has_large()
    }

    /// A batch has arrived over a connection whose other end greeted so; `first` is its first frame's number. Answers the
    /// number after its last.
    ///
    /// # Errors
    /// The bytes are no whole frames.
    pub fn receive(&self, peer: Greeting, lane: usize, first: u64, batch: &Bytes) -> io::Result<u64> {
        let mut splitter = Splitter::default();
        *splitter.buffer() = BytesMut::from(&batch[..]);
        let mut frames = Vec::new();
        while let Some(frame) = splitter.next_frame().map_err(io::Error::other)? {
            frames.push(frame);
        }
        let next = first + frames.len() as u64;
        self.0.shared.take((peer.0.session(), lane, first), frames);
        Ok(next)
    }

    /// What was received so far, for the other end's [`Simulated::acknowledge`].
    #[must_use]
    pub fn received(&self) -> [u64; LANES] {
        std::array::from_fn(|lane| self.0.shared.inbound[lane].lock().received())
    }

    /// The other end has received so many frames of each lane.
    ///
    /// # Errors
    /// It claims to have received what it was not sent.
    pub fn acknowledge(&self, received: [u64; LANES]) -> io::Result<()> {
        for (lane, count) in received.into_iter().enumerate() {
            self.0.shared.outbound[lane].lock().acknowledge(count).map_err(io::Error::other)?;
            self.0.shared.wake_room(lane);
        }
        Ok(())
    }
}
