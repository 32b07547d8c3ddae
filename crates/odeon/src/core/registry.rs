//! Which serial is which cell.

use super::cell::AnyCell;
use odeon_protocol::Serial;
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const SHARDS: usize = 64;

/// All live cells of a system.
pub(crate) struct Registry {
    shards: Box<[RwLock<Shard>]>,
    live: AtomicUsize,
}

type Shard = HashMap<u64, Arc<dyn AnyCell>, BuildHasherDefault<SerialHasher>>;

impl Registry {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), live: AtomicUsize::new(0) }
    }

    fn shard(&self, serial: Serial) -> &RwLock<Shard> {
        // Runs of serials stay together, so that a thread that creates many touches one lock and its cache lines.
        &self.shards[(serial.0 >> 6) as usize % SHARDS]
    }

    pub(crate) fn insert(&self, serial: Serial, cell: Arc<dyn AnyCell>) {
        let before = self.shard(serial).write().insert(serial.0, cell);
        if before.is_none() {
            self.live.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn remove(&self, serial: Serial) {
        let removed = self.shard(serial).write().remove(&serial.0);
        if removed.is_some() {
            self.live.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn get(&self, serial: Serial) -> Option<Arc<dyn AnyCell>> {
        self.shard(serial).read().get(&serial.0).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Whether any cell fits. Creations wait meanwhile, some at a time.
    pub(crate) fn any(&self, fits: impl Fn(&dyn AnyCell) -> bool) -> bool {
        self.shards.iter().any(|shard| shard.read().values().any(|cell| fits(&**cell)))
    }

    /// All cells, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<dyn AnyCell>> {
        self.shards.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>()).collect()
    }
}

/// Serials are distinct small numbers that nobody outside chooses; a multiplication spreads them well enough.
#[derive(Default)]
pub(crate) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
