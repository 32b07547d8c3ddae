//! This agent's copy of the directory: by the Raft log on voters, by the change stream on everyone else.
//!
//! - **C-1.** What readers see only grows: the copy changes its source only when the other one is as new.

use super::store::SharedMachine;
use odeon_cluster::directory::{Change, Delta, Directory, Feed, Gap};
use odeon_protocol::limits::DELTAS_KEPT;
use parking_lot::RwLock;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Copies {
    machine: Option<SharedMachine>,
    followed: RwLock<Followed>,
    by_log: AtomicBool,
    version: Arc<watch::Sender<u64>>,
}

/// A copy that the change stream feeds, and the last steps that it took.
#[derive(Debug, Default)]
struct Followed {
    directory: Directory,
    feed: Feed,
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
            _ => read(&self.followed.read().directory),
        }
    }

    /// The names that the steps after `version` change, and the version now; nothing if that may be any name.
    pub(crate) fn names_changed_after(&self, version: u64) -> (u64, Option<BTreeSet<Arc<str>>>) {
        let (now, steps) = match &self.machine {
            Some(machine) if self.is_by_log() => {
                let machine = machine.read();
                (machine.directory.version(), machine.since(version, DELTAS_KEPT))
            }
            _ => {
                let followed = self.followed.read();
                let now = followed.directory.version();
                (now, followed.feed.since(version, now, DELTAS_KEPT))
            }
        };
        (now, steps.and_then(|steps| names_of(&steps)))
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
            *self.followed.write() = Followed::default();
            // Readers look again even if the number is the same: what they see is another copy.
            self.version.send_modify(|now| *now = log.max(*now));
        }
    }

    /// The log no longer feeds this agent (it was dropped from the voters): the stream goes on from what it had.
    pub(crate) fn log_ended(&self) {
        let Some(machine) = &self.machine else { return };
        if self.is_by_log() {
            let directory = machine.read().directory.without_secrets();
            *self.followed.write() = Followed { directory, feed: Feed::default() };
            self.by_log.store(false, Ordering::Release);
        }
    }

    pub(crate) fn take_snapshot(&self, directory: Directory) {
        let version = directory.version();
        let mut followed = self.followed.write();
        if version >= followed.directory.version() {
            *followed = Followed { directory, feed: Feed::default() };
        }
        drop(followed);
        announce(&self.version, version);
    }

    pub(crate) fn take_delta(&self, delta: &Arc<Delta>) -> Result<(), Gap> {
        let mut followed = self.followed.write();
        let before = followed.directory.version();
        followed.directory.follow(delta)?;
        if followed.directory.version() > before {
            followed.feed.push(delta.clone());
        }
        drop(followed);
        announce(&self.version, delta.version);
        Ok(())
    }
}

/// The names that these steps change; nothing if that may be any name.
fn names_of(steps: &[Arc<Delta>]) -> Option<BTreeSet<Arc<str>>> {
    let mut names = BTreeSet::new();
    for change in steps.iter().flat_map(|step| &step.changes) {
        match change {
            Change::Name(record) => drop(names.insert(record.name.clone())),
            Change::NameMoved { name, .. } | Change::NameGone(name) => drop(names.insert(name.clone())),
            Change::Founded(_)
            | Change::Member(_)
            | Change::MemberGone(_)
            | Change::Token(_)
            | Change::TokenGone(_)
            | Change::LevelRaised(_) => {}
            _ => return None,
        }
    }
    Some(names)
}

/// Raises the version that readers wait on.
pub(crate) fn announce(sender: &watch::Sender<u64>, version: u64) {
    sender.send_if_modified(|now| {
        let newer = version > *now;
        *now = version.max(*now);
        newer
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::NodeId;

    fn step(version: u64, change: Change) -> Arc<Delta> {
        Arc::new(Delta { version, changes: vec![change] })
    }

    fn gone(name: &str) -> Change {
        Change::NameGone(name.into())
    }

    #[test]
    fn the_names_that_have_changed_are_told_as_far_back_as_the_steps_are_kept() {
        let copies = Copies::new(None, Arc::new(watch::Sender::new(0)));
        let changed = |after| {
            let (version, names) = copies.names_changed_after(after);
            (version, names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>()))
        };
        let told = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(changed(0), (0, told(&[])));
        for (version, change) in [(1, gone("b")), (2, Change::MemberGone(NodeId(7))), (3, gone("a"))] {
            copies.take_delta(&step(version, change)).expect("it follows");
        }
        copies.take_delta(&step(2, gone("c"))).expect("it is known already");
        assert_eq!(changed(0), (3, told(&["a", "b"])));
        assert_eq!(changed(1), (3, told(&["a"])));
        assert_eq!(changed(3), (3, told(&[])));
        assert_eq!(changed(9), (3, None), "a version of another copy");

        copies.take_delta(&step(4, Change::Unplaced(NodeId(7)))).expect("it follows");
        assert_eq!((changed(3), changed(4)), ((4, None), (4, told(&[]))), "it may be any name");
        copies.take_snapshot(Directory::default());
        assert_eq!(changed(4).0, 4, "an older snapshot is passed over");
    }

    #[test]
    fn after_a_snapshot_it_may_be_any_name() {
        let copies = Copies::new(None, Arc::new(watch::Sender::new(0)));
        copies.take_delta(&step(1, gone("a"))).expect("it follows");
        let mut other = Directory::default();
        (1..=3).for_each(|version| other.follow(&step(version, gone("b"))).expect("it follows"));
        copies.take_snapshot(other);
        assert_eq!(copies.names_changed_after(1), (3, None));
        copies.take_delta(&step(4, gone("b"))).expect("it follows");
        assert_eq!(copies.names_changed_after(3), (4, Some(BTreeSet::from(["b".into()]))));
    }
}
