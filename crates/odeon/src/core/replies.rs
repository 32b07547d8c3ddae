//! Asks of this system whose answer comes from another process, by their correlation.

use super::reply::AnySlot;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// See the module's head.
#[derive(Default)]
pub(crate) struct Replies {
    next: AtomicU64,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    slots: HashMap<u64, Arc<dyn AnySlot>>,
    sweep_at: usize,
}

/// Slots from which those that nobody waits for any more are looked for.
const SWEEP_FROM: usize = 1024;

impl Replies {
    /// Keeps a slot until its answer comes; answers the correlation.
    pub(crate) fn keep(&self, slot: Arc<dyn AnySlot>) -> u64 {
        let correlation = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut over = Vec::new();
        let mut pending = self.pending.lock();
        pending.slots.insert(correlation, slot);
        if pending.slots.len() >= pending.sweep_at.max(SWEEP_FROM) {
            over.extend(pending.slots.extract_if(|_, slot| !slot.is_open()));
            pending.sweep_at = pending.slots.len() * 2;
        }
        drop(pending);
        correlation
    }

    /// Takes the slot of an answer that has come.
    pub(crate) fn take(&self, correlation: u64) -> Option<Arc<dyn AnySlot>> {
        self.pending.lock().slots.remove(&correlation)
    }
}
