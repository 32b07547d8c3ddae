//! The Raft log and the directory's snapshots on disk: one redb file per voter-to-be, one thread that writes it (in a
//! simulation: one task).
//!
//! - **ST-1.** Whoever is told that something is written will find it after a crash: a callback or answer is given
//!   only after the transaction that holds it was committed with an fsync.
//! - **ST-2.** Writes happen in the order in which they were asked for; everything that waits goes into one transaction.
//! - **ST-3.** The log that is not purged is held in memory too: entries are readable as soon as `append` returns.

mod anew;
mod log;
mod machine;
mod medium;
mod writer;

pub(crate) use anew::{Beginning, Kept};
pub(crate) use log::{Log, open};
pub(crate) use machine::{SharedMachine, level_of};
pub use medium::Disk;
pub(crate) use medium::Medium;
pub(crate) use writer::OpenError;
use writer::Store;

use odeon_cluster::directory::{Answer, Command};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

openraft::declare_raft_types!(
    /// The types that the directory's Raft group is made of. Its node ids are the agents'.
    pub(crate) TypeConfig:
        D = Batch,
        R = Answers,
        NodeId = u64,
        Node = openraft::EmptyNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Vec<u8>,
        AsyncRuntime = super::runtime::Runtime,
);

/// One log entry: up to [`odeon_protocol::limits::BATCH_MAX`] commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Batch(pub(crate) Arc<Vec<Command>>);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

/// The answers to a [`Batch`], one each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answers(pub(crate) Vec<Answer>);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::StoredMembership<u64, openraft::EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::EmptyNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;

#[cfg(test)]
mod tests;
