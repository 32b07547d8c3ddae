//! Frames towards other agents, as the router hands them over: it never waits.
//!
//! Where the convention's queue towards an agent is full, frames gather here and follow in order as it empties. Flows'
//! windows make that rare; [`HELD_BYTES`] and one frame bound it.

use crate::{
    convention::{self, Unsent},
    router::Peers,
};
use bytes::Bytes;
use odeon_protocol::{
    NodeId,
    limits::{HELD_BYTES, LARGE_FRAME_BYTES},
};
use odeon_transport::quic::Undelivered;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::runtime;

/// See the module's head.
#[derive(Clone)]
pub(crate) struct Links {
    convention: convention::Handle,
    runtime: runtime::Handle,
    waiting: Arc<Mutex<BTreeMap<NodeId, Waiting>>>,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Links {
    pub(crate) fn new(convention: convention::Handle, runtime: runtime::Handle) -> Self {
        Self { convention, runtime, waiting: Arc::default() }
    }

    /// Sends what gathered, until nothing is left.
    async fn drain(self, node: NodeId) {
        loop {
            let next = self.waiting.lock().get(&node).and_then(|waiting| waiting.frames.front().cloned());
            // Where all was taken back meanwhile, the next look finds nothing and ends this.
            if let Some(next) = next {
                self.convention.room(node, &next).await;
            }
            let mut all = self.waiting.lock();
            let Some(waiting) = all.get_mut(&node) else { return };
            while let Some(frame) = waiting.frames.pop_front() {
                waiting.bytes -= frame.len();
                if let Err(Unsent::Full(frame)) = self.convention.send(node, frame) {
                    waiting.bytes += frame.len();
                    waiting.frames.push_front(frame);
                    break;
                }
            }
            if waiting.frames.is_empty() {
                all.remove(&node);
                return;
            }
        }
    }
}

impl Peers for Links {
    fn queued(&self) -> usize {
        let waiting: usize = self.waiting.lock().values().map(|waiting| waiting.bytes).sum();
        waiting + self.convention.queued()
    }

    fn send(&self, node: NodeId, frame: Bytes) -> bool {
        let mut all = self.waiting.lock();
        let waits = all.contains_key(&node);
        let frame = if waits {
            frame
        } else {
            match self.convention.send(node, frame) {
                Ok(()) => return true,
                // The others must not wait for a large one.
                Err(Unsent::Full(frame)) if frame.len() <= LARGE_FRAME_BYTES => frame,
                Err(_) => return false,
            }
        };
        let waiting = all.entry(node).or_default();
        if waiting.bytes >= HELD_BYTES {
            return false;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        if !waits {
            self.runtime.spawn(self.clone().drain(node));
        }
        true
    }

    fn take_back(&self, node: NodeId, fits: &dyn Fn(&[u8]) -> bool) -> Undelivered {
        // Held over both: what waits here follows what is there, and goes there under this lock alone.
        let mut all = self.waiting.lock();
        let mut back = self.convention.take_back(node, fits);
        if let Some(waiting) = all.get_mut(&node) {
            let (taken, kept): (Vec<_>, Vec<_>) = waiting.frames.drain(..).partition(|frame| fits(frame));
            waiting.frames = kept.into();
            back.unsent.extend(taken);
            waiting.bytes = waiting.frames.iter().map(Bytes::len).sum();
        }
        back
    }
}
