//! Who this agent is, kept in its data directory: key, certificate, convention, host name, the count of its starts.
//!
//! ```text
//! DIR/lock            held while an agent runs
//! DIR/identity.json   everything below, 0600, replaced whole
//! DIR/directory.redb  the Raft log and snapshots
//! ```
//!
//! - **ID-1.** Two agents never share a data directory: the second is refused.
//! - **ID-2.** `boot` grows with every start, even if the clock went back.
//! - **ID-3.** The record is whole or absent: it is written aside, synced and renamed.
//! - **ID-4.** A record with a Raft past and no `directory.redb` is refused: a voter that forgot its vote could split
//!   the convention.
//! - **ID-5.** A host whose log is from before a recovery of the directory, and that has heard of it, does not start again.

use odeon_protocol::{Boot, ConventionId, NodeId};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

const RECORD: &str = "identity.json";
const LOCK: &str = "lock";
const DIRECTORY: &str = "directory.redb";
/// The record's version; another one is refused.
const VERSION: u32 = 1;

/// A data directory that cannot be used: what, why, what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another agent runs on it.
    #[error("data directory {}: another agent uses it: stop that one, or give this one another --data", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("data directory {}: {doing}: {source}: check its owner and free space, or give another --data", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The record is not ours.
    #[error("data directory {}: identity.json does not read ({why}): restore it, or give another --data and join again", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is another host's.
    #[error(
        "data directory {}: it belongs to host {recorded}, not {wanted}: start with --name {recorded}, or give another --data", path.display()
    )]
    OtherHost {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        recorded: String,
        /// Who asked.
        wanted: String,
    },
    /// Nothing is kept there.
    #[error("data directory {}: there is no identity.json: give the data directory of a host with --data", .0.display())]
    Empty(PathBuf),
    /// Something is kept there.
    #[error("data directory {}: it holds {found} already: give an empty one with --data", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// No key could be made.
    #[error("making this host's key: {0}")]
    Key(String),
    /// The Raft file is gone.
    #[error(
        "data directory {}: this host was a voter and its directory.redb is missing: restore it, or remove the whole data directory, evict this host and join again", path.display()
    )]
    Forgotten {
        /// The directory.
        path: PathBuf,
    },
}

/// The way in of another member, kept so that an agent finds its convention again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub node: NodeId,
    /// What to dial: `host:port`.
    pub address: String,
}

/// What belonging to a convention consists of.
#[derive(Clone, Serialize, Deserialize)]
pub struct Belonging {
    /// Which convention.
    pub convention: ConventionId,
    /// Whether this agent joined with a voter's token.
    pub voter: bool,
    /// The roots that are trusted, DER.
    #[serde(with = "hex_list")]
    pub roots: Vec<Vec<u8>>,
    /// This agent's certificate, DER.
    #[serde(with = "hex")]
    pub certificate: Vec<u8>,
    /// The certificate authority with its key, PEM: voters only.
    pub authority: Option<String>,
    /// Whether this agent formed the convention.
    pub formed: bool,
    /// The ways in.
    pub peers: Vec<Peer>,
    /// Whether this agent's Raft log was ever written.
    pub raft: bool,
    /// Which recovery of the directory this agent goes by; 0 for none. A log may say a later one.
    #[serde(default)]
    pub recovery: u64,
    /// Whether the directory was recovered without this agent's log.
    #[serde(default)]
    pub superseded: bool,
}

impl std::fmt::Debug for Belonging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Belonging")
            .field("convention", &self.convention)
            .field("voter", &self.voter)
            .field("peers", &self.peers)
            .field("raft", &self.raft)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    version: u32,
    host: String,
    boot: Boot,
    key: String,
    belonging: Option<Belonging>,
}

/// An open data directory. Dropping it releases the lock.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    host: String,
    boot: Boot,
    record: Mutex<Record>,
    lock: Mutex<Option<File>>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("host", &self.host).field("boot", &self.boot).finish_non_exhaustive()
    }
}

impl DataDir {
    /// Opens or makes the data directory for the host `host` and counts a new start. `new_key` makes a key, PEM.
    ///
    /// # Errors
    /// It is in use, of another host, damaged, or the file system refuses.
    pub fn open(
        path: &Path,
        host: &str,
        new_key: impl FnOnce() -> Result<String, String>,
    ) -> Result<Self, DataDirError> {
        let io = |doing: &'static str| move |source| DataDirError::Io { path: path.to_owned(), doing, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("it cannot be made"))?;
        let lock = lock(path)?;
        let mut record = match read(path)? {
            Some(record) if record.host != host => {
                let (recorded, wanted) = (record.host, host.to_owned());
                return Err(DataDirError::OtherHost { path: path.to_owned(), recorded, wanted });
            }
            Some(record) => record,
            None => Record {
                version: VERSION,
                host: host.into(),
                boot: Boot(0),
                key: new_key().map_err(DataDirError::Key)?,
                belonging: None,
            },
        };
        let had_raft = record.belonging.as_ref().is_some_and(|belonging| belonging.raft);
        if had_raft && !path.join(DIRECTORY).exists() {
            return Err(DataDirError::Forgotten { path: path.to_owned() });
        }
        let now =
            crate::convention::clock::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        record.boot = Boot(now.max(record.boot.0 + 1));
        write(path, &record)?;
        Ok(Self::of(path, record, lock))
    }

    /// Opens the data directory of a host whose agent does not run. No start is counted.
    ///
    /// # Errors
    /// It is empty, in use, damaged, or the file system refuses.
    pub fn open_stopped(path: &Path) -> Result<Self, DataDirError> {
        if !path.join(RECORD).exists() {
            return Err(DataDirError::Empty(path.to_owned()));
        }
        let lock = lock(path)?;
        let record = read(path)?.ok_or_else(|| DataDirError::Empty(path.to_owned()))?;
        Ok(Self::of(path, record, lock))
    }

    /// Makes an empty data directory that of `host`, with a key, PEM, and what it belongs to.
    ///
    /// # Errors
    /// Something is kept there, or the file system refuses.
    pub fn prepare(path: &Path, host: &str, key: String, belonging: Belonging) -> Result<Self, DataDirError> {
        let io = |doing: &'static str| move |source| DataDirError::Io { path: path.to_owned(), doing, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("it cannot be made"))?;
        let lock = lock(path)?;
        for found in [RECORD, DIRECTORY] {
            if path.join(found).exists() {
                return Err(DataDirError::NotEmpty { path: path.to_owned(), found });
            }
        }
        let record = Record { version: VERSION, host: host.into(), boot: Boot(0), key, belonging: Some(belonging) };
        write(path, &record)?;
        Ok(Self::of(path, record, lock))
    }

    fn of(path: &Path, record: Record, lock: File) -> Self {
        Self {
            path: path.to_owned(),
            host: record.host.clone(),
            boot: record.boot,
            record: Mutex::new(record),
            lock: Mutex::new(Some(lock)),
        }
    }

    /// Releases the lock: another agent may open the directory.
    pub fn close(&self) {
        *self.lock.lock() = None;
    }

    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the Raft log is.
    #[must_use]
    pub fn directory_file(&self) -> PathBuf {
        self.path.join(DIRECTORY)
    }

    /// The host's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// This start.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// This agent's key, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.record.lock().key.clone()
    }

    /// The convention that this agent belongs to, if it ever joined one.
    #[must_use]
    pub fn belonging(&self) -> Option<Belonging> {
        self.record.lock().belonging.clone()
    }

    /// Records what `change` makes of the belonging; written only if it differs in content.
    ///
    /// # Errors
    /// The file system refuses; the record in memory is then as before.
    pub fn update(&self, change: impl FnOnce(&mut Option<Belonging>)) -> Result<(), DataDirError> {
        let mut record = self.record.lock();
        let mut changed = record.clone();
        change(&mut changed.belonging);
        write(&self.path, &changed)?;
        *record = changed;
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let io = |source| DataDirError::Io { path: path.to_owned(), doing: "its lock cannot be taken", source };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK)).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.to_owned())),
        Err(error) => Err(io(error.into())),
    }
}

fn read(path: &Path) -> Result<Option<Record>, DataDirError> {
    let damaged = |why: String| DataDirError::Damaged { path: path.to_owned(), why };
    let text = match fs::read(path.join(RECORD)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(DataDirError::Io { path: path.to_owned(), doing: "identity.json cannot be read", source });
        }
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if record.version != VERSION {
        return Err(damaged(format!("it has version {}, this Odeon writes {VERSION}", record.version)));
    }
    Ok(Some(record))
}

fn write(path: &Path, record: &Record) -> Result<(), DataDirError> {
    let text = serde_json::to_vec_pretty(record)
        .map_err(|error| DataDirError::Damaged { path: path.to_owned(), why: error.to_string() })?;
    replace(&path.join(RECORD), &text).map_err(|source| DataDirError::Io {
        path: path.to_owned(),
        doing: "identity.json cannot be written",
        source,
    })
}

/// Replaces a private file whole: written aside (0600), synced, renamed, the directory synced.
///
/// # Errors
/// The file system's.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let aside = aside(path)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    put(&aside, path)
}

/// Where a file is written before it takes its place. What is left there of an earlier attempt is removed.
pub(crate) fn aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside.into()),
    }
}

/// Has what was written and synced aside take its place.
pub(crate) fn put(aside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(aside, path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Write;

    pub(super) fn text(bytes: &[u8]) -> String {
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return None;
        }
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bytes(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("no hexadecimal bytes"))
    }
}

mod hex_list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|bytes| super::hex::text(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let list: Option<_> = texts.iter().map(|text| super::hex::bytes(text)).collect();
        list.ok_or_else(|| D::Error::custom("no hexadecimal bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, host: &str) -> Result<DataDir, DataDirError> {
        DataDir::open(path, host, || Ok("key".into()))
    }

    fn belonging() -> Belonging {
        Belonging {
            convention: ConventionId(7),
            voter: true,
            roots: vec![vec![9; 4], vec![]],
            certificate: vec![8],
            authority: None,
            formed: false,
            peers: vec![Peer { node: NodeId(3), address: "127.0.0.1:7400".into() }],
            raft: false,
            recovery: 0,
            superseded: false,
        }
    }

    #[test]
    fn the_record_is_read_back_and_boots_grow() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "one").unwrap();
        first.update(|kept| *kept = Some(belonging())).unwrap();
        let boot = first.boot();
        drop(first);
        let second = DataDir::open(dir.path(), "one", || unreachable!("the key is kept")).unwrap();
        assert!(second.boot() > boot);
        assert_eq!(second.key(), "key");
        let kept = second.belonging().unwrap();
        assert_eq!(kept.convention, ConventionId(7));
        assert_eq!(kept.roots, belonging().roots);
        assert_eq!(kept.peers, belonging().peers);
    }

    #[test]
    fn a_boot_from_the_future_is_still_exceeded() {
        let dir = tempfile::tempdir().unwrap();
        let far = Boot(u64::MAX / 2);
        let record = Record { version: VERSION, host: "one".into(), boot: far, key: "key".into(), belonging: None };
        write(dir.path(), &record).unwrap();
        assert_eq!(open(dir.path(), "one").unwrap().boot(), Boot(far.0 + 1));
    }

    #[test]
    fn two_agents_do_not_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "one").unwrap();
        assert!(matches!(open(dir.path(), "one"), Err(DataDirError::InUse(_))));
        drop(first);
        open(dir.path(), "one").unwrap();
    }

    #[test]
    fn another_hosts_directory_and_a_lost_vote_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "one").unwrap();
        first.update(|kept| *kept = Some(Belonging { raft: true, ..belonging() })).unwrap();
        drop(first);
        let refused = open(dir.path(), "two").unwrap_err().to_string();
        assert!(refused.contains("belongs to host one, not two"), "{refused}");
        assert!(matches!(open(dir.path(), "one"), Err(DataDirError::Forgotten { .. })));
    }

    #[test]
    fn a_record_from_before_there_were_recoveries_is_read() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "one").unwrap().update(|kept| *kept = Some(belonging())).unwrap();
        let text = fs::read_to_string(dir.path().join(RECORD)).unwrap();
        let older: Vec<&str> =
            text.lines().filter(|line| !line.contains("recovery") && !line.contains("superseded")).collect();
        let older = older.join("\n").replace("\"raft\": false,", "\"raft\": false");
        assert!(older.len() + 40 < text.len(), "{older}");
        fs::write(dir.path().join(RECORD), older).unwrap();
        let kept = open(dir.path(), "one").unwrap().belonging().unwrap();
        assert_eq!((kept.recovery, kept.superseded), (0, false));
    }

    #[test]
    fn a_stopped_hosts_directory_is_opened_without_a_start() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::open_stopped(dir.path()), Err(DataDirError::Empty(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        let running = open(dir.path(), "one").unwrap();
        assert!(matches!(DataDir::open_stopped(dir.path()), Err(DataDirError::InUse(_))));
        let boot = running.boot();
        drop(running);
        assert_eq!(DataDir::open_stopped(dir.path()).unwrap().boot(), boot);
    }

    #[test]
    fn only_an_empty_directory_is_prepared() {
        let dir = tempfile::tempdir().unwrap();
        let prepare = |host| DataDir::prepare(dir.path(), host, "other".into(), belonging());
        drop(prepare("one").unwrap());
        let refused = prepare("two").unwrap_err().to_string();
        assert!(refused.contains("holds identity.json already"), "{refused}");
        assert_eq!(open(dir.path(), "one").unwrap().key(), "other");
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RECORD), b"{").unwrap();
        assert!(matches!(open(dir.path(), "one"), Err(DataDirError::Damaged { .. })));
    }
}
