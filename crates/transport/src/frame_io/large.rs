//! Large frames on their way out, in chunks: a state machine without I/O.
//!
//! All of them are one stream of bytes, cut into chunks of equal size; so a frame that must not overtake a large one just
//! stands behind it.

use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    frame::{Class, Header, Kind, order_of},
    limits::{CHUNK_BYTES, CHUNKS_AHEAD},
};
use std::{
    collections::{HashMap, VecDeque},
    mem,
};

#[derive(Debug, Default)]
pub(super) struct Large {
    frames: VecDeque<Bytes>,
    /// How many frames of each order are among them.
    orders: HashMap<u64, usize>,
    /// Bytes of them that are in no chunk yet.
    bytes: usize,
    /// Bytes of the first one that are in chunks.
    begun: usize,
    /// Chunks that the reader has not credited.
    ahead: u32,
    /// Chunks that it has.
    credited: u64,
}

impl Large {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many chunks the reader has credited.
    pub(super) fn credited(&self) -> u64 {
        self.credited
    }

    /// Whether a frame of that order has to go behind these.
    pub(super) fn holds(&self, order: u64) -> bool {
        self.orders.contains_key(&order)
    }

    pub(super) fn push(&mut self, frame: Bytes) {
        *self.orders.entry(order_of(&frame)).or_default() += 1;
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Whether the reader takes a chunk, and there is one.
    pub(super) fn is_ready(&self) -> bool {
        !self.frames.is_empty() && self.ahead < CHUNKS_AHEAD
    }

    /// Appends the next chunk; the frames that end in it.
    pub(super) fn take_chunk(&mut self, out: &mut BytesMut) -> Vec<Bytes> {
        let mut ended = Vec::new();
        if !self.is_ready() {
            return ended;
        }
        self.ahead += 1;
        let size = self.bytes.min(CHUNK_BYTES);
        Header { class: Class::Bulk, ..Header::new(Kind::Chunk) }.write(out, 0, size);
        self.bytes -= size;
        let mut left = size;
        while left > 0
            && let Some(frame) = self.frames.front()
        {
            let end = frame.len().min(self.begun + left);
            out.extend_from_slice(&frame[self.begun..end]);
            left -= end - self.begun;
            self.begun = end;
            if end == frame.len() {
                self.begun = 0;
                ended.extend(self.take_first());
            }
        }
        ended
    }

    fn take_first(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        let order = order_of(&frame);
        if let Some(count) = self.orders.get_mut(&order) {
            *count -= 1;
            if *count == 0 {
                self.orders.remove(&order);
            }
        }
        Some(frame)
    }

    /// The reader has taken so many chunks.
    pub(super) fn credit(&mut self, chunks: u64) {
        self.credited = self.credited.saturating_add(chunks);
        self.ahead -= u32::try_from(chunks).unwrap_or(u32::MAX).min(self.ahead);
    }

    /// Those that are not wholly in chunks.
    pub(super) fn take_all(&mut self) -> Vec<Bytes> {
        mem::take(self).frames.into()
    }
}
