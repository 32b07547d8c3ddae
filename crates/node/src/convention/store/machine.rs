//! openraft's state machine: the directory, its snapshots, and the recent entries that followers resume from.

use super::{
    Answers, Batch, Entry, LogId, Membership, OpenError, SnapshotMeta, StorageError, Store, TypeConfig, writer::Write,
};
use crate::convention::copies::announce;
use odeon_cluster::directory::{Answer, Command, Delta, Directory, Feed};
use odeon_protocol::level::{FEATURE_LEVEL, decode_known};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError, storage::RaftStateMachine};
use parking_lot::{RwLock, RwLockReadGuard};
use std::{io, path::Path, sync::Arc};
use tokio::sync::watch;

/// The directory as this voter's log has made it.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) directory: Directory,
    applied: Option<LogId>,
    membership: Membership,
    snapshot: Option<(SnapshotMeta, Arc<Vec<u8>>)>,
    feed: Feed,
}

impl Machine {
    pub(super) fn new(snapshot: Option<(SnapshotMeta, Arc<Vec<u8>>)>, path: &Path) -> Result<Self, OpenError> {
        let mut machine = Self::default();
        if let Some((meta, data)) = snapshot {
            check_level(&data, path)?;
            machine.restore(&meta, &data).map_err(|why| OpenError::Content {
                path: path.to_owned(),
                what: "the snapshot",
                why,
            })?;
            machine.snapshot = Some((meta, data));
        }
        Ok(machine)
    }

    fn restore(&mut self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), postcard::Error> {
        self.directory = postcard::from_bytes(data)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.feed = Feed::default();
        Ok(())
    }

    /// The steps after `version`; nothing if some are no longer kept: then a snapshot is needed.
    pub(crate) fn since(&self, version: u64, at_most: usize) -> Option<Vec<Arc<Delta>>> {
        self.feed.since(version, self.directory.version(), at_most)
    }

    /// The newest entry that was carried out.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    /// Who the log says votes.
    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(super) fn apply(&mut self, entry: Entry) -> Answers {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Answers::default(),
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                Answers::default()
            }
            EntryPayload::Normal(Batch(commands)) => {
                let answers = commands.iter().map(|command| self.carry_out(command)).collect();
                Answers(answers)
            }
        }
    }
}

/// A later build's snapshot may read well, and stand for more than is read of it.
fn check_level(snapshot: &[u8], path: &Path) -> Result<(), OpenError> {
    match level_of(snapshot) {
        Some(needs) if needs > FEATURE_LEVEL => {
            Err(OpenError::Later { path: path.to_owned(), has: FEATURE_LEVEL, needs })
        }
        _ => Ok(()),
    }
}

/// The directory's level, which is the first in its snapshot whatever else there is.
pub(crate) fn level_of(snapshot: &[u8]) -> Option<u16> {
    decode_known(snapshot).ok()
}

impl Machine {
    fn carry_out(&mut self, command: &Command) -> Answer {
        let applied = self.directory.apply(command);
        if let Some(delta) = applied.delta {
            self.feed.push(Arc::new(delta));
        }
        applied.answer
    }
}

/// The machine as openraft, readers and the change stream share it.
#[derive(Clone, Debug)]
pub(crate) struct SharedMachine {
    machine: Arc<RwLock<Machine>>,
    store: Store,
    version: Arc<watch::Sender<u64>>,
}

impl SharedMachine {
    pub(super) fn new(machine: Machine, store: Store, version: Arc<watch::Sender<u64>>) -> Self {
        Self { machine: Arc::new(RwLock::new(machine)), store, version }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Machine> {
        self.machine.read()
    }

    async fn keep(&self, meta: SnapshotMeta, data: Arc<Vec<u8>>) -> io::Result<()> {
        let kept = (meta.clone(), data.clone());
        self.store.written(|done| Write::Snapshot { meta, data, done }).await?;
        self.machine.write().snapshot = Some(kept);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for SharedMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let machine = self.machine.read();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut machine = self.machine.write();
        let answers = entries.into_iter().map(|entry| machine.apply(entry)).collect();
        let version = machine.directory.version();
        drop(machine);
        announce(&self.version, version);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Box<Vec<u8>>) -> Result<(), StorageError> {
        let failed = |error: &io::Error| StorageIOError::write_snapshot(Some(meta.signature()), error);
        let data = Arc::new(*data);
        self.machine
            .write()
            .restore(meta, &data)
            .map_err(|error| StorageIOError::read_snapshot(Some(meta.signature()), &error))?;
        self.keep(meta.clone(), data).await.map_err(|error| failed(&error))?;
        announce(&self.version, self.machine.read().directory.version());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let machine = self.machine.read();
        Ok(machine
            .snapshot
            .as_ref()
            .map(|(meta, data)| Snapshot { meta: meta.clone(), snapshot: Box::new(data.as_ref().clone()) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SharedMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let (meta, data) = {
            let machine = self.machine.read();
            let data = postcard::to_stdvec(&machine.directory)
                .map_err(|error| StorageIOError::write_snapshot(None, &error))?;
            let meta = SnapshotMeta {
                last_log_id: machine.applied,
                last_membership: machine.membership.clone(),
                snapshot_id: machine.applied.map_or(0, |applied| applied.index).to_string(),
            };
            (meta, Arc::new(data))
        };
        self.keep(meta.clone(), data.clone())
            .await
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error))?;
        Ok(Snapshot { meta, snapshot: Box::new(data.as_ref().clone()) })
    }
}
