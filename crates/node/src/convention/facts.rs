//! Capabilities, types and load: each host the only writer of its own, spread by anti-entropy.

use odeon_cluster::{capability, host::Load};
use odeon_protocol::NodeId;
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What is known of every host.
#[derive(Debug)]
pub(crate) struct Facts {
    me: NodeId,
    known: RwLock<BTreeMap<NodeId, Known>>,
}

/// What is known of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) capabilities: capability::Map,
    pub(crate) types: BTreeSet<Arc<str>>,
    pub(crate) draining: bool,
    pub(crate) load: Load,
    pub(crate) load_version: u64,
}

impl Facts {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, known: RwLock::default() }
    }

    /// Changes what this host says of itself.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Known)) {
        change(self.known.write().entry(self.me).or_default());
    }

    pub(crate) fn of(&self, node: NodeId) -> Known {
        self.known.read().get(&node).cloned().unwrap_or_default()
    }
}
