//! A host as another host sees it.

use crate::capability::Map;
use odeon_protocol::{Boot, NodeId, directory::Role};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// What is known of a host: from the directory who it is, from gossip how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// Its node id.
    pub node: NodeId,
    /// Its agent's newest start.
    pub boot: Boot,
    /// Its name.
    pub name: String,
    /// What other agents dial.
    pub address: String,
    /// Its part.
    pub role: Role,
    /// Votes, hosts no actors.
    pub witness: bool,
    /// Whether it seems alive.
    pub liveness: Liveness,
    /// It takes no new actors.
    pub draining: bool,
    /// Somebody there wants to hear of messages that come back.
    pub hears_dead_letters: bool,
    /// What it can do.
    pub capabilities: Map,
    /// The actor types that its workers run.
    pub types: BTreeSet<Arc<str>>,
    /// How busy it is.
    pub load: Load,
    /// Grows with every load report.
    pub load_version: u64,
}

/// Whether a host seems alive. A hint: nothing is freed, moved or evicted for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Liveness {
    /// It answers, or is ourselves.
    Up,
    /// It did not answer lately.
    Suspect,
    /// It has not answered for long.
    Down,
    /// Nothing was heard of it yet.
    #[default]
    Unknown,
}

impl Liveness {
    /// The word in lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Unknown => "joining",
        }
    }
}

/// How busy a host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Actors alive.
    pub actors: u64,
    /// Messages waiting in all their mailboxes.
    pub waiting: u64,
    /// Worker processes.
    pub workers: u32,
    /// Processors; 0 if unknown.
    pub cores: u32,
}

impl Load {
    /// One number to compare hosts by: actors and waiting messages a processor, in thousandths.
    #[must_use]
    pub const fn score(&self, placed_since: u64) -> u64 {
        let units = self.actors.saturating_add(self.waiting).saturating_add(placed_since);
        let cores = if self.cores == 0 { 1 } else { self.cores as u64 };
        units.saturating_mul(1000) / cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_host_bears_more() {
        let small = Load { actors: 10, waiting: 0, workers: 1, cores: 2 };
        let large = Load { actors: 15, waiting: 0, workers: 1, cores: 8 };
        assert!(large.score(0) < small.score(0));
        assert!(large.score(30) > small.score(0));
        assert_eq!(Load { actors: u64::MAX, waiting: 9, workers: 0, cores: 0 }.score(1), u64::MAX);
    }
}
