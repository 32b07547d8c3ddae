//! The one thread that writes the file, and what it is asked to write.
//!
//! - **WR-1.** What a full disk does not take waits until there is room, and nobody is told meanwhile that it is written:
//!   Raft rests, and with it this host's vote and its leadership. Every other failure is for good.

use super::{
    Batch, Entry, LogId, SnapshotMeta, TypeConfig, Vote,
    machine::level_of,
    medium::{Disk, Medium},
};
use crate::queue::Queue;
use odeon_cluster::directory::Command;
use odeon_protocol::level::{FEATURE_LEVEL, FIRST_LEVEL};
use openraft::{EntryPayload, storage::LogFlushed};
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

/// Between two attempts to write to a disk that is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "snapshot.meta";
const SNAPSHOT_DATA: &str = "snapshot.data";
/// Which recovery the file was made by; absent where by none.
const RECOVERY: &str = "recovery";

/// What the writer is asked to do; in order.
pub(super) enum Write {
    Append {
        entries: Vec<Entry>,
        done: LogFlushed<TypeConfig>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Truncate {
        from: u64,
        done: oneshot::Sender<io::Result<()>>,
    },
    Purge {
        upto: LogId,
        done: oneshot::Sender<io::Result<()>>,
    },
    Snapshot {
        meta: SnapshotMeta,
        data: Arc<Vec<u8>>,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Closes the file; nothing is written after it.
    Close {
        done: oneshot::Sender<()>,
    },
}

/// A snapshot and what it is of.
type Snapshot = (SnapshotMeta, Arc<Vec<u8>>);

/// What was on disk when the file was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: Vec<Entry>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) recovery: u64,
}

/// Why the directory's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// redb refused it.
    #[error("the directory's file {}: {source}: restore it, or remove the data directory and join again", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// Entries are missing.
    #[error("the directory's file {}: its log has a gap before entry {before}: restore a backup of it, or use another voter's", path.display())]
    Gap {
        /// Which.
        path: PathBuf,
        /// The first entry behind the gap.
        before: u64,
    },
    /// It holds what came with a later feature level.
    #[error(
        "the directory's file {}: it may hold what came with feature level {needs}, and this Odeon is of level {has}: \
         start an Odeon of level {needs} or later",
        path.display()
    )]
    Later {
        /// Which.
        path: PathBuf,
        /// This build's level.
        has: u16,
        /// The directory's level.
        needs: u16,
    },
    /// Its contents are not ours.
    #[error(
        "the directory's file {}: {what} does not decode ({why}): it was written by another version of Odeon: start the \
         newest that ran here",
        path.display()
    )]
    Content {
        /// Which.
        path: PathBuf,
        /// Which record.
        what: &'static str,
        /// Why.
        why: postcard::Error,
    },
}

/// The open file: hands writes to its thread.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    writes: Writes,
    shared: Arc<Shared>,
}

/// What the store and its writer know of one another.
#[derive(Debug, Default)]
struct Shared {
    /// Written with the next transaction, never with one of its own: it only saves re-applying.
    committed: Mutex<Option<LogId>>,
    /// Something waits for room on the disk.
    full: AtomicBool,
    /// Nothing waits for room any more.
    ends: AtomicBool,
}

/// The way to whatever writes.
#[derive(Clone)]
enum Writes {
    Thread(mpsc::Sender<Write>),
    Task(Arc<Queue<Write>>),
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writes")
    }
}

impl Store {
    /// Opens or makes the file and starts its thread, which ends when the last clone is dropped.
    pub(super) fn open(medium: &Medium) -> Result<(Self, Found), OpenError> {
        let path = medium.path();
        let file = |source: redb::Error| OpenError::File { path: path.to_owned(), source };
        let database = medium.open().map_err(|error| file(error.into()))?;
        let found = read_all(&database, path)?;
        let shared = Arc::new(Shared { committed: Mutex::new(found.committed), ..Shared::default() });
        let writer = Writer {
            medium: medium.clone(),
            database: Some(database),
            waiting: Vec::new(),
            failed: false,
            shared: shared.clone(),
        };
        let writes = match medium {
            Medium::File(_) => {
                let (writes, queue) = mpsc::channel();
                std::thread::Builder::new()
                    .name("odeon-storage".into())
                    .spawn(move || writer.run(&queue))
                    .map_err(|error| file(redb::Error::Io(error)))?;
                Writes::Thread(writes)
            }
            Medium::Simulated(disk) => {
                let queue = Arc::<Queue<Write>>::default();
                tokio::spawn(writer.run_simulated(queue.clone(), disk.clone()));
                Writes::Task(queue)
            }
        };
        Ok((Self { writes, shared }, found))
    }

    pub(super) fn write(&self, write: Write) -> io::Result<()> {
        match &self.writes {
            Writes::Thread(writes) => writes.send(write).map_err(|_| io::Error::other("the storage thread has ended")),
            Writes::Task(queue) => {
                queue.push(write);
                Ok(())
            }
        }
    }

    /// Writes and waits until it is on disk.
    pub(super) async fn written(&self, write: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Write) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.write(write(done))?;
        wait.await.map_err(|_| io::Error::other("the storage thread has ended"))?
    }

    /// Closes the file; returns when that is done.
    pub(super) async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.write(Write::Close { done }).is_ok() {
            drop(wait.await);
        }
    }

    pub(super) fn note_committed(&self, committed: Option<LogId>) {
        *self.shared.committed.lock() = committed;
    }

    pub(super) fn committed(&self) -> Option<LogId> {
        *self.shared.committed.lock()
    }

    /// Whether something waits for room on the disk.
    pub(super) fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// From now on what a full disk does not take fails, after a second at most.
    pub(super) fn await_no_room(&self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}

/// What a file holds that nobody writes now; see [`super::anew`].
pub(super) fn read_file(path: &Path) -> Result<Found, OpenError> {
    let file = |source: redb::Error| OpenError::File { path: path.to_owned(), source };
    read_all(&Database::open(path).map_err(|error| file(error.into()))?, path)
}

/// Makes a file that holds this and no log.
pub(super) fn write_file(path: &Path, found: &Found) -> Result<(), OpenError> {
    let written = (|| -> Result<(), redb::Error> {
        let database = Database::create(path)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(LOG)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(RECOVERY, encode(&found.recovery)?.as_slice())?;
            meta.insert(COMMITTED, encode(&found.committed)?.as_slice())?;
            if let Some(vote) = &found.vote {
                meta.insert(VOTE, encode(vote)?.as_slice())?;
            }
            if let Some(purged) = &found.purged {
                meta.insert(PURGED, encode(purged)?.as_slice())?;
            }
            if let Some((about, data)) = &found.snapshot {
                meta.insert(SNAPSHOT_META, encode(about)?.as_slice())?;
                meta.insert(SNAPSHOT_DATA, data.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    })();
    written.map_err(|source| OpenError::File { path: path.to_owned(), source })
}

struct Writer {
    medium: Medium,
    /// Nothing after a failure: redb has to open it anew.
    database: Option<Database>,
    waiting: Vec<Write>,
    /// Something was not written for good: what came after it would leave a gap.
    failed: bool,
    shared: Arc<Shared>,
}

/// What became of some writes.
enum Progress {
    Done,
    /// They wait for room.
    Full,
    /// The file is to be closed; whoever waits for that is told after it is.
    Closing(oneshot::Sender<()>),
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Write>) {
        let mut pause = None;
        loop {
            let first = match pause {
                Some(pause) => queue.recv_timeout(pause),
                None => queue.recv().map_err(RecvTimeoutError::from),
            };
            if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            pause = match self.write(first.into_iter().chain(queue.try_iter())) {
                Progress::Done => None,
                Progress::Full => Some(FULL_PAUSE),
                Progress::Closing(done) => {
                    drop(self);
                    let _ = done.send(());
                    return;
                }
            };
        }
    }

    async fn run_simulated(mut self, queue: Arc<Queue<Write>>, disk: Disk) {
        let mut pause = None;
        loop {
            let group = match pause {
                Some(pause) => timeout(pause, queue.take()).await.unwrap_or_default(),
                None => queue.take().await,
            };
            sleep(disk.sync_takes()).await;
            pause = match self.write(group) {
                Progress::Done => None,
                Progress::Full => Some(FULL_PAUSE),
                Progress::Closing(done) => {
                    drop(self);
                    // Nobody may wait.
                    let _ = done.send(());
                    return;
                }
            };
        }
    }

    /// Writes what waits and these, up to an order to close.
    fn write(&mut self, writes: impl IntoIterator<Item = Write>) -> Progress {
        let mut closing = None;
        for write in writes {
            match write {
                Write::Close { done } => {
                    closing = Some(done);
                    break;
                }
                write => self.waiting.push(write),
            }
        }
        let result = self.commit();
        let was_full = self.shared.full.swap(matches!(&result, Err(error) if is_full(error)), Ordering::Relaxed);
        match &result {
            Err(error) if is_full(error) && closing.is_none() && !self.shared.ends.load(Ordering::Relaxed) => {
                if !was_full {
                    let path = self.medium.path().display();
                    tracing::error!(%path, "the disk is full: this host's vote rests until there is room for the directory's file");
                }
                return Progress::Full;
            }
            Err(error) => {
                self.failed = true;
                tracing::error!(%error, "the directory's file cannot be written: this agent gives up its vote");
            }
            Ok(()) if was_full => tracing::info!("there is room on the disk again: this host votes again"),
            Ok(()) => {}
        }
        self.waiting.drain(..).for_each(|write| write.finish(&result));
        closing.map_or(Progress::Done, Progress::Closing)
    }

    fn commit(&mut self) -> Result<(), redb::Error> {
        if self.failed {
            return Err(redb::Error::PreviousIo);
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => self.medium.open()?,
        };
        let committed = *self.shared.committed.lock();
        put(&database, &self.waiting, committed)?;
        self.database = Some(database);
        Ok(())
    }
}

fn is_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// In one transaction.
fn put(database: &Database, group: &[Write], committed: Option<LogId>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut log = transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        for write in group {
            match write {
                Write::Append { entries, .. } => {
                    for entry in entries {
                        log.insert(entry.log_id.index, encode(entry)?.as_slice())?;
                    }
                }
                Write::Vote { vote, .. } => drop(meta.insert(VOTE, encode(vote)?.as_slice())?),
                Write::Truncate { from, .. } => log.retain_in(*from.., |_, _| false)?,
                Write::Purge { upto, .. } => {
                    log.retain_in(..=upto.index, |_, _| false)?;
                    meta.insert(PURGED, encode(upto)?.as_slice())?;
                }
                Write::Close { .. } => {}
                Write::Snapshot { meta: about, data, .. } => {
                    meta.insert(SNAPSHOT_META, encode(about)?.as_slice())?;
                    meta.insert(SNAPSHOT_DATA, data.as_slice())?;
                }
            }
        }
        meta.insert(COMMITTED, encode(&committed)?.as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

impl Write {
    fn finish(self, result: &Result<(), redb::Error>) {
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        match self {
            Self::Close { done } => {
                let _ = done.send(());
            }
            Self::Append { done, .. } => done.log_io_completed(result),
            Self::Vote { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Snapshot { done, .. } => drop(done.send(result)),
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, redb::Error> {
    postcard::to_stdvec(value).map_err(|error| redb::Error::Io(io::Error::other(error)))
}

fn read_all(database: &Database, path: &Path) -> Result<Found, OpenError> {
    let file = |source: redb::Error| OpenError::File { path: path.to_owned(), source };
    let made = (|| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(LOG)?;
        transaction.open_table(META)?;
        Ok(transaction.commit()?)
    })();
    made.map_err(file)?;
    let transaction = database.begin_read().map_err(|error| file(error.into()))?;
    let log = transaction.open_table(LOG).map_err(|error| file(error.into()))?;
    let meta = transaction.open_table(META).map_err(|error| file(error.into()))?;
    let record = |key: &'static str| meta.get(key).map_err(|error| file(error.into()));
    let snapshot = match (record(SNAPSHOT_META)?, record(SNAPSHOT_DATA)?) {
        (Some(about), Some(data)) => {
            Some((decode(about.value(), SNAPSHOT_META, path)?, Arc::new(data.value().to_vec())))
        }
        _ => None,
    };
    let mut entries = Vec::new();
    for row in log.iter().map_err(|error| file(error.into()))? {
        let (_, bytes) = row.map_err(|error| file(error.into()))?;
        let entry =
            decode(bytes.value(), "a log entry", path).map_err(|error| match needs(&entries, snapshot.as_ref()) {
                needs if needs > FEATURE_LEVEL => OpenError::Later { path: path.to_owned(), has: FEATURE_LEVEL, needs },
                _ => error,
            })?;
        entries.push(entry);
    }
    Ok(Found {
        vote: record(VOTE)?.map(|bytes| decode(bytes.value(), VOTE, path)).transpose()?,
        committed: record(COMMITTED)?
            .map(|bytes| decode::<Option<LogId>>(bytes.value(), COMMITTED, path))
            .transpose()?
            .flatten(),
        purged: record(PURGED)?.map(|bytes| decode(bytes.value(), PURGED, path)).transpose()?,
        entries,
        snapshot,
        recovery: record(RECOVERY)?.map(|bytes| decode(bytes.value(), RECOVERY, path)).transpose()?.unwrap_or(0),
    })
}

/// The feature level that commands behind these entries may have.
fn needs(entries: &[Entry], snapshot: Option<&Snapshot>) -> u16 {
    let raised = entries.iter().flat_map(|entry| match &entry.payload {
        EntryPayload::Normal(Batch(commands)) => &commands[..],
        _ => &[],
    });
    let raised = raised.filter_map(|command| match command {
        Command::RaiseLevel { level, .. } => Some(*level),
        _ => None,
    });
    raised.chain(snapshot.and_then(|(_, data)| level_of(data))).max().unwrap_or(FIRST_LEVEL)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str, path: &Path) -> Result<T, OpenError> {
    postcard::from_bytes(bytes).map_err(|why| OpenError::Content { path: path.to_owned(), what, why })
}
