//! What simulated hosts send each other.

use odeon_cluster::{
    Directory,
    anti_entropy::{self, Digest},
    directory::{Answer, Command, Delta},
};
use odeon_protocol::{
    NodeId,
    peer::{Renewal, Renewed},
};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Propose { number: u64, command: Command },
    Answer { number: u64, answer: Answer },
    NotLeader,
    Renew(Renewal),
    Renewed(Renewed),
    Follow { version: u64 },
    Steps(Vec<Arc<Delta>>),
    Snapshot(Box<Directory>),
    Digest(Digest),
    Facts(anti_entropy::Delta),
    Adopt { name: Arc<str>, epoch: u64 },
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}
