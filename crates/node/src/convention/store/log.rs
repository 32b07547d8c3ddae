//! openraft's log storage over the writer.

use super::{
    Entry, LogId, Medium, OpenError, StorageError, Store, TypeConfig, Vote,
    machine::{Machine, SharedMachine},
    writer::Write,
};
use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use parking_lot::RwLock;
use std::{collections::BTreeMap, fmt::Debug, io, ops::RangeBounds, sync::Arc};
use tokio::sync::watch;

/// The Raft log: what is not purged, in memory and on disk.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    store: Store,
    shared: Arc<RwLock<Kept>>,
}

#[derive(Debug)]
struct Kept {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    recovery: u64,
}

/// Opens the file: the log, and the state machine as its last snapshot left it.
pub(crate) fn open(medium: &Medium, version: Arc<watch::Sender<u64>>) -> Result<(Log, SharedMachine), OpenError> {
    let (store, found) = Store::open(medium)?;
    let machine = Machine::new(found.snapshot, medium.path())?;
    let entries = found.entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
    let kept = Kept { entries, purged: found.purged, vote: found.vote, recovery: found.recovery };
    let log = Log { store: store.clone(), shared: Arc::new(RwLock::new(kept)) };
    Ok((log, SharedMachine::new(machine, store, version)))
}

impl Log {
    /// Whether anything was ever written: a vote, an entry.
    pub(crate) fn is_pristine(&self) -> bool {
        let kept = self.shared.read();
        kept.vote.is_none() && kept.entries.is_empty() && kept.purged.is_none()
    }

    /// Which recovery of the directory it began with; 0 for none.
    pub(crate) fn recovery(&self) -> u64 {
        self.shared.read().recovery
    }
}

impl Log {
    /// A leader that starts again is a candidate: elected anew, it first commits an entry of its own term. openraft would let
    /// it go on in its old term at once, without knowing what of that term is committed: its reads, and what it takes
    /// leases to be, could be older than what it had committed itself.
    pub(crate) fn stand_again(&self, me: u64) {
        if let Some(vote) = self.shared.write().vote.as_mut().filter(|vote| vote.leader_id().voted_for() == Some(me)) {
            vote.committed = false;
        }
    }

    /// Whether the disk is full: nothing is appended and no vote is cast until there is room.
    pub(crate) fn is_full(&self) -> bool {
        self.store.is_full()
    }

    /// From now on what a full disk does not take fails, so that Raft can end.
    pub(crate) fn await_no_room(&self) {
        self.store.await_no_room();
    }

    /// Closes the file, so that another start of the agent can open it.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.shared.read().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let kept = self.shared.read();
        let last = kept.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id: last.or(kept.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.store
            .written(|done| Write::Vote { vote, done })
            .await
            .map_err(|error| StorageIOError::write_vote(&error))?;
        self.shared.write().vote = Some(vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.read().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.store.note_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.store.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.shared.write().entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
        self.store.write(Write::Append { entries, done: callback }).map_err(|error| write_logs(&error))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.shared.write().entries.split_off(&log_id.index);
        let from = log_id.index;
        self.store.written(|done| Write::Truncate { from, done }).await.map_err(|error| write_logs(&error))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        {
            let mut kept = self.shared.write();
            kept.entries = kept.entries.split_off(&(upto.index + 1));
            kept.purged = Some(upto);
        }
        self.store.written(|done| Write::Purge { upto, done }).await.map_err(|error| write_logs(&error))
    }
}

fn write_logs(error: &io::Error) -> StorageError {
    StorageIOError::write_logs(error).into()
}
