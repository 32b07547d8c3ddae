//! A file of the whole directory, from which a convention can be restored.
//!
//! ```text
//! "odeon-backup 1\n"     what it is, and the version of its format
//! 8 bytes                length of what follows the checksum, little endian
//! 32 bytes               blake3 of it
//! …                      a Backup in postcard; fields are added at the end, with a new version
//! ```
//!
//! It holds the authority's private key and the tokens' secrets: 0600, and to be kept as one keeps those.

use crate::identity::replace;
use odeon_cluster::directory::Directory;
use odeon_protocol::{ConventionId, NodeId, limits::BACKUP_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

const HEAD: &[u8] = b"odeon-backup 1\n";
/// The head without its version.
const MARK: &[u8] = b"odeon-backup ";
/// Length and checksum.
const SEAL: usize = 8 + 32;

/// Why a backup is not written, or does not read: what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file is there.
    #[error("backup {}: there is such a file already: give another name, or --force to replace it", .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("backup {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Larger than a backup may be.
    #[error("backup {}: it has {bytes} bytes, more than {BACKUP_BYTES_MAX}", path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no backup, or one of another version.
    #[error("backup {}: {why}: give a file that `odeon backup` of this Odeon version has written", path.display())]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// It is one, and not whole.
    #[error("backup {}: {why}: use another copy of it, or an older one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// See the module's head.
#[derive(Clone, Serialize, Deserialize)]
pub struct Backup {
    pub(crate) convention: ConventionId,
    /// Seconds since 1970.
    pub(crate) taken: u64,
    /// The host that wrote it.
    pub(crate) host: String,
    pub(crate) recovery: u64,
    pub(crate) term: u64,
    pub(crate) index: u64,
    /// Who votes or learns to, thus has a log.
    pub(crate) nodes: Vec<NodeId>,
    /// The roots that are trusted, DER.
    pub(crate) roots: Vec<Vec<u8>>,
    /// With its secrets.
    pub(crate) directory: Directory,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup")
            .field("convention", &self.convention)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Backup {
    /// Global names in it.
    #[must_use]
    pub fn names(&self) -> usize {
        self.directory.names().len()
    }

    /// Hosts in it that belong.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.directory.hosts().count()
    }

    /// Writes it aside, syncs and renames it; 0600. A file that is there is replaced only with `force`.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn write(&self, path: &Path, force: bool) -> Result<u64, BackupError> {
        if !force && path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(path.to_owned()));
        }
        let io = |source| BackupError::Io { path: path.to_owned(), source };
        let body = postcard::to_stdvec(self).map_err(|error| io(io::Error::other(error)))?;
        let bytes = sealed(&body);
        check_size(path, bytes.len() as u64)?;
        replace(path, &bytes).map_err(io)?;
        Ok(bytes.len() as u64)
    }

    /// Reads one back.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn read(path: &Path) -> Result<Self, BackupError> {
        let io = |source| BackupError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        check_size(path, file.metadata().map_err(io)?.len())?;
        let mut bytes = Vec::new();
        file.take(BACKUP_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
        Self::decode(&bytes).map_err(|fault| match fault {
            Fault::NotOne(why) => BackupError::NotOne { path: path.to_owned(), why },
            Fault::Damaged(why) => BackupError::Damaged { path: path.to_owned(), why },
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let Some(rest) = bytes.strip_prefix(HEAD) else {
            return Err(Fault::NotOne(match bytes.strip_prefix(MARK) {
                Some(_) => "it has another version of the format".to_owned(),
                None => "it is no backup".to_owned(),
            }));
        };
        let short = || Fault::Damaged(format!("it is cut off: {} bytes are left of it", bytes.len()));
        let (seal, body) = rest.split_at_checked(SEAL).ok_or_else(short)?;
        let (length, hash) = seal.split_at(8);
        let length = length.try_into().map(u64::from_le_bytes).map_err(|_| short())?;
        if (body.len() as u64) < length {
            return Err(short());
        }
        if body.len() as u64 > length || blake3::hash(body).as_bytes() != hash {
            return Err(Fault::Damaged("its checksum is wrong".to_owned()));
        }
        postcard::from_bytes(body)
            .map_err(|error| Fault::Damaged(format!("it does not decode ({error}), or a later Odeon has written it")))
    }
}

/// What is wrong with some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NotOne(String),
    Damaged(String),
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD.len() + SEAL + body.len());
    bytes.extend_from_slice(HEAD);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(blake3::hash(body).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// See [`crate::fuzz`].
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = Backup::decode(bytes);
    if let Ok(backup) = Backup::decode(&sealed(bytes)) {
        let written = postcard::to_stdvec(&backup).unwrap_or_default();
        assert!(written.len() <= bytes.len(), "the shortest form is written");
    }
}

fn check_size(path: &Path, bytes: u64) -> Result<(), BackupError> {
    match bytes {
        bytes if bytes > BACKUP_BYTES_MAX => Err(BackupError::TooBig { path: path.to_owned(), bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::restore::tests::backup;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn it_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let backup = backup();
        backup.write(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Backup::read(&path).unwrap();
        assert_eq!(
            (read.convention, &read.roots, read.nodes),
            (backup.convention, &backup.roots, backup.nodes.clone())
        );
        assert_eq!(read.directory, backup.directory);
        assert!(read.directory.ca_key().is_some());
    }

    #[test]
    fn it_overwrites_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        fs::write(&path, b"mine").unwrap();
        assert!(matches!(backup().write(&path, false), Err(BackupError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        backup().write(&path, true).unwrap();
        Backup::read(&path).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["backup"], "nothing is left beside it");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let bytes = sealed(&postcard::to_stdvec(&backup()).unwrap());
        Backup::decode(&bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(Backup::decode(&bytes[..length]).is_err(), "cut to {length}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Backup::decode(&flipped).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Backup::read(&path).unwrap_err().to_string()
        };
        assert!(said(b"hello").contains("it is no backup"));
        assert!(said(b"odeon-backup 2\n").contains("another version"));
        assert!(said(HEAD).contains("cut off"));
        let missing = Backup::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
    }
}
