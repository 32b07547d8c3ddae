//! Large frames on their way in: they are read on a thread of their own, so that the link's thread goes on meanwhile.
//!
//! - **LG-1.** Frames of one order are taken in the order in which they came: those that follow a large one wait for it.
//! - **LG-2.** Orders take turns, a frame at a time.

use super::Link;
use crate::core::current;
use odeon_protocol::{
    frame::{Frame, is_bulk, order_of},
    limits::LARGE_FRAME_BYTES,
};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long the thread waits for more before it ends.
const IDLE: Duration = Duration::from_secs(1);

/// What waits to be read.
#[derive(Default)]
pub(super) struct Large {
    /// Whether anything waits: a look at this costs nothing.
    busy: AtomicBool,
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    orders: HashMap<u64, VecDeque<Frame>>,
    /// Whose turn it is; the order of the frame that is being read is not among them.
    turns: VecDeque<u64>,
    /// The order of whatever came last.
    last: u64,
    has_thread: bool,
}

impl Waiting {
    fn put(&mut self, order: u64, frame: &Frame) {
        self.last = order;
        let queue = self.orders.entry(order).or_insert_with(|| {
            self.turns.push_back(order);
            VecDeque::new()
        });
        queue.push_back(frame.clone());
    }
}

impl Link {
    /// Puts a frame aside that is large or has to wait for a large one. Whether it did.
    pub(super) fn puts_aside(&self, frame: &Frame) -> bool {
        let is_large = frame.bytes().len() > LARGE_FRAME_BYTES;
        if !is_large && !self.large.busy.load(Ordering::Acquire) {
            return false;
        }
        let order = order_of(frame.bytes());
        let mut waiting = self.large.waiting.lock();
        if is_large || waiting.orders.contains_key(&order) {
            waiting.put(order, frame);
        } else if is_bulk(frame.bytes()) && !waiting.orders.is_empty() {
            let last = waiting.last;
            waiting.put(last, frame);
        } else {
            return false;
        }
        self.large.busy.store(true, Ordering::Release);
        self.large.more.notify_one();
        true
    }

    /// Has a thread read what waits, if there is none yet.
    pub(super) fn start_reading_large(self: &Arc<Self>) {
        if !self.large.busy.load(Ordering::Acquire)
            || std::mem::replace(&mut self.large.waiting.lock().has_thread, true)
        {
            return;
        }
        let link = self.clone();
        let started = thread::Builder::new().name("odeon-large".to_owned()).spawn(move || link.read_until_idle());
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for large messages: the link's own reads them");
            self.large.waiting.lock().has_thread = false;
            while self.read_next_large() {}
        }
    }

    fn read_until_idle(self: Arc<Self>) {
        loop {
            while self.read_next_large() {}
            let mut waiting = self.large.waiting.lock();
            if waiting.turns.is_empty()
                && self.large.more.wait_for(&mut waiting, IDLE).timed_out()
                && waiting.turns.is_empty()
            {
                waiting.has_thread = false;
                return;
            }
        }
    }

    /// Reads one frame. False if none waits.
    pub(crate) fn read_next_large(self: &Arc<Self>) -> bool {
        let Some(system) = self.system() else { return false };
        let (order, frame) = {
            let mut waiting = self.large.waiting.lock();
            let Some(order) = waiting.turns.pop_front() else { return false };
            let Some(frame) = waiting.orders.get_mut(&order).and_then(VecDeque::pop_front) else { return true };
            (order, frame)
        };
        {
            let _here = current::enter_system(&system);
            self.take(&system, &frame);
            self.counting.changed();
        }
        let mut waiting = self.large.waiting.lock();
        if waiting.orders.get(&order).is_some_and(|queue| !queue.is_empty()) {
            waiting.turns.push_back(order);
        } else {
            waiting.orders.remove(&order);
        }
        self.large.busy.store(!waiting.orders.is_empty(), Ordering::Release);
        true
    }

    /// Nothing of it is of use any more.
    pub(super) fn forget_large(&self) {
        let mut waiting = self.large.waiting.lock();
        waiting.orders.clear();
        waiting.turns.clear();
        self.large.busy.store(false, Ordering::Release);
    }
}
