//! The lane of large frames: which frames take it, when they may leave, and how much of it is under way.

use super::{
    Shared, lane_of,
    outbound::{After, Outbound},
};
use bytes::Bytes;
use odeon_protocol::limits::{CHUNK_BYTES, LARGE_FRAME_BYTES, LARGE_LANE};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Waker,
    time::Duration,
};
use tokio::sync::Notify;

/// Bytes of large frames on their way at any time: what others may find before them in the network's queues.
const UNDER_WAY_BYTES: u64 = 16 * CHUNK_BYTES as u64;
/// On a long way more, so that this much passes in a second.
const BYTES_A_SECOND: u64 = 128 << 20;
/// Orders that are remembered beyond those in the lane.
const ORDERS_KEPT: usize = 1024;

/// Which orders have frames in the lane.
#[derive(Debug, Default)]
pub(super) struct Large {
    /// Whether there may be any: a look at this costs nothing.
    busy: AtomicBool,
    /// The number after the last frame of each order.
    orders: Mutex<HashMap<u64, u64>>,
}

pub(super) fn outbound(lane: usize) -> Outbound {
    if lane == LARGE_LANE { Outbound::of_large() } else { Outbound::default() }
}

impl Large {
    /// Whether there may be large frames that the peer has not received.
    pub(super) fn may_have(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Whether there are large frames that the peer has not received.
    pub(super) fn has_large(&self) -> bool {
        self.outbound[LARGE_LANE].lock().bytes() > 0
    }

    /// Whether a frame takes the lane of large frames: it is one, or must not overtake one.
    pub(super) fn takes_large_lane(&self, order: u64, frame: &[u8]) -> bool {
        if frame.len() > LARGE_FRAME_BYTES {
            return true;
        }
        if !self.large.may_have() {
            return false;
        }
        let mut orders = self.large.orders.lock();
        let lane = self.outbound[LARGE_LANE].lock();
        if lane.bytes() == 0 {
            orders.clear();
            self.large.busy.store(false, Ordering::Release);
            return false;
        }
        orders.get(&order).is_some_and(|end| *end > lane.outstanding_from())
    }

    /// Queues a frame for which [`Shared::takes_large_lane`].
    pub(super) fn push_large(&self, order: u64, frame: Bytes) -> Result<Option<Waker>, Bytes> {
        let mut orders = self.large.orders.lock();
        let lane = lane_of(order);
        let number = self.outbound[lane].lock().end();
        let mut large = self.outbound[LARGE_LANE].lock();
        let writer = large.push_large(frame, After { lane, number })?;
        if orders.len() > ORDERS_KEPT {
            let outstanding = large.outstanding_from();
            orders.retain(|_, end| *end > outstanding);
        }
        orders.insert(order, large.end());
        self.large.busy.store(true, Ordering::Release);
        Ok(writer)
    }

    /// The next batch of a lane for the current connection, or nothing until the writer is woken.
    pub(super) fn take_batch(&self, lane: usize, writer: &Waker) -> Option<Bytes> {
        if lane == LARGE_LANE {
            let after = {
                let mut large = self.outbound[lane].lock();
                // Registered before the look at the other lane.
                large.wait(writer);
                large.next_after()
            };
            if let Some(After { lane, number }) = after
                && self.outbound[lane].lock().outstanding_from() < number
            {
                return None;
            }
        }
        self.outbound[lane].lock().take(writer)
    }

    /// A lane's frames were acknowledged or taken back: a large one may have waited for that.
    pub(super) fn wake_large(&self) {
        if self.large.may_have()
            && let Some(writer) = { self.outbound[LARGE_LANE].lock().writer() }
        {
            writer.wake();
        }
    }
}

/// How much of the lane one connection has taken to the peer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    taken: AtomicU64,
    heard: Notify,
}

impl Progress {
    /// The peer has read so many bytes of the lane.
    pub(super) fn taken(&self, bytes: u64) {
        self.taken.fetch_max(bytes, Ordering::AcqRel);
        self.heard.notify_one();
    }

    /// Waits until there is room for more than the `sent` bytes that were sent; `rtt` is the shortest round trip so far.
    pub(super) async fn room(&self, sent: u64, rtt: Duration) {
        let far = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).saturating_mul(BYTES_A_SECOND / 1_000_000);
        while sent.saturating_sub(self.taken.load(Ordering::Acquire)) >= UNDER_WAY_BYTES.saturating_add(far) {
            self.heard.notified().await;
        }
    }
}
