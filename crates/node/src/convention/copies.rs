//! This agent's copy of the directory: by the Raft log on voters, by the change stream on everyone else.
//!
//! - **C-1.** What readers see only grows: the copy changes its source only when the other one is as new.

use super::store::SharedMachine;
use odeon_cluster::directory::{Delta, Directory, Gap};
use parking_lot::RwLock;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Copies {
    machine: Option<SharedMachine>,
    followed: RwLock<Directory>,
    by_log: AtomicBool,
    version: Arc<watch::Sender<u64>>,
}

impl Copies {
    /// `version` is the sender that the machine announces its versions on.
    pub(crate) fn new(machine: Option<SharedMachine>, version: Arc<watch::Sender<u64>>) -> Self {
        let known = machine.as_ref().map_or(0, |machine| machine.read().directory.version());
        version.send_replace(known);
        Self { machine, followed: RwLock::default(), by_log: AtomicBool::new(known > 0), version }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Directory) -> T) -> T {
        match &self.machine {
            Some(machine) if self.by_log.load(Ordering::Acquire) => read(&machine.read().directory),
            _ => read(&self.followed.read()),
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn version(&self) -> u64 {
        self.read(Directory::version)
    }

    /// Whether the log is the source.
    pub(crate) fn is_by_log(&self) -> bool {
        self.by_log.load(Ordering::Acquire)
    }

    /// The log feeds this agent now: it becomes the source once it has all that readers have seen.
    pub(crate) fn log_feeds(&self) {
        let Some(machine) = &self.machine else { return };
        let log = machine.read().directory.version();
        if !self.is_by_log() && log >= self.version() {
            self.by_log.store(true, Ordering::Release);
            *self.followed.write() = Directory::default();
            // Readers look again even if the number is the same: what they see is another copy.
            self.version.send_modify(|now| *now = log.max(*now));
        }
    }

    /// The log no longer feeds this agent (it was dropped from the voters): the stream goes on from what it had.
    pub(crate) fn log_ended(&self) {
        let Some(machine) = &self.machine else { return };
        if self.is_by_log() {
            *self.followed.write() = machine.read().directory.without_secrets();
            self.by_log.store(false, Ordering::Release);
        }
    }

    pub(crate) fn take_snapshot(&self, directory: Directory) {
        let version = directory.version();
        let mut followed = self.followed.write();
        if version >= followed.version() {
            *followed = directory;
        }
        drop(followed);
        announce(&self.version, version);
    }

    pub(crate) fn take_delta(&self, delta: &Delta) -> Result<(), Gap> {
        self.followed.write().follow(delta)?;
        announce(&self.version, delta.version);
        Ok(())
    }
}

/// Raises the version that readers wait on.
pub(crate) fn announce(sender: &watch::Sender<u64>, version: u64) {
    sender.send_if_modified(|now| {
        let newer = version > *now;
        *now = version.max(*now);
        newer
    });
}
