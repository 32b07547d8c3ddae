//! Asks of this process whose answers come from elsewhere.

use crate::core::{hash::Fast, reply::AnySlot};
use odeon_protocol::limits::ASKS_MAX;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const SHARDS: u64 = 16;
/// Numbers from here on are of this table; those below are of rights to answer that travelled in messages.
const FIRST: u64 = 1 << 63;

/// An ask that is not answered yet. It stays after its asker has given up: the answer also settles its flow.
pub(crate) struct Pending {
    pub(crate) slot: Arc<dyn AnySlot>,
    pub(crate) flow: u32,
    pub(crate) sequence: u32,
}

/// The table of pending asks.
pub(crate) struct Asks {
    next: AtomicU64,
    shards: Vec<Mutex<HashMap<u64, Pending, Fast>>>,
}

impl Default for Asks {
    fn default() -> Self {
        Self { next: AtomicU64::new(FIRST), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Asks {
    /// A number for an ask.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn shard(&self, correlation: u64) -> &Mutex<HashMap<u64, Pending, Fast>> {
        &self.shards[(correlation % SHARDS) as usize]
    }

    /// Keeps an ask until its answer comes. False if there are as many as may be.
    pub(crate) fn insert(&self, correlation: u64, pending: Pending) -> bool {
        let mut asks = self.shard(correlation).lock();
        if asks.len() >= ASKS_MAX / SHARDS as usize {
            return false;
        }
        asks.insert(correlation, pending);
        true
    }

    /// Takes an ask out.
    pub(crate) fn take(&self, correlation: u64) -> Option<Pending> {
        self.shard(correlation).lock().remove(&correlation)
    }

    /// Takes the asks out that fit.
    pub(crate) fn take_where(&self, fits: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            taken.extend(shard.lock().extract_if(|_, pending| fits(pending)).map(|(_, pending)| pending));
        }
        taken
    }
}
