//! A data directory made of a backup: a new host, with a key of its own, is the only voter of a new group.

use super::{Backup, BackupError, later_than};
use crate::{
    convention::{
        clock::{unix_now, wall},
        store,
    },
    identity::{Belonging, DataDir, DataDirError, aside, put},
};
use odeon_cluster::directory::{Denied, Joiner, Recovery, Role};
use odeon_protocol::{Boot, level::FEATURE_LEVEL};
use odeon_transport::tls::{Authority, NodeKey, TlsError};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Other hosts learn the address when the agent starts.
const NOWHERE: &str = "0.0.0.0:0";
/// No more than one recovery in this time, on the average, lies between a backup and its restoration.
const SECONDS_OF_A_RECOVERY: u64 = 60;

/// Why a backup is not restored: what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The directory in the backup does not take this host.
    #[error("restore: {0}")]
    Denied(#[from] Denied),
    /// Its authority's key does not work.
    #[error("restore: the backup's certificate authority: {0}: use another backup")]
    Authority(String),
    /// The new log cannot be written.
    #[error("restore: {why}: remove what is in {} and try again", path.display())]
    Log {
        /// The data directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The convention, in hexadecimal.
    pub convention: String,
    /// The new group's number.
    pub recovery: u64,
    /// Global names.
    pub names: usize,
    /// Epochs are larger than this from now on.
    pub epoch: u64,
    /// Seconds since 1970 at which the backup was taken.
    pub taken: u64,
    /// The host that wrote it.
    pub by: String,
}

/// Makes the data directory, which must be empty, that of the host `name`, the only voter of the backup's convention.
///
/// # Errors
/// See [`RestoreError`]. Where the backup is what is wrong, nothing was written.
pub fn restore(file: &Path, data: &Path, name: &str) -> Result<Restored, RestoreError> {
    let backup = Backup::read(file)?;
    let (key, belonging) = belong(&backup)?;
    let beginning = beginning(&backup, &key, name)?;
    let belonging = Belonging { recovery: beginning.recovery, ..belonging };
    let made = DataDir::prepare(data, name, key.to_pem(), belonging)?;
    write(&beginning, &made).map_err(|why| RestoreError::Log { path: data.to_owned(), why })?;
    Ok(Restored {
        convention: backup.convention.to_string(),
        recovery: beginning.recovery,
        names: beginning.directory.names().len(),
        epoch: beginning.directory.epoch(),
        taken: backup.taken,
        by: backup.host,
    })
}

/// Its record says that there is a log before there is one: what is left of a failure between is refused by every agent.
fn write(beginning: &store::Beginning, data: &DataDir) -> Result<(), String> {
    let file = data.directory_file();
    let new = aside(&file).map_err(|error| error.to_string())?;
    beginning.write(&new).map_err(|error| error.to_string())?;
    put(&new, &file).map_err(|error: io::Error| error.to_string())
}

fn belong(backup: &Backup) -> Result<(NodeKey, Belonging), RestoreError> {
    let unusable = |error: TlsError| RestoreError::Authority(error.to_string());
    let key = backup.directory.ca_key().ok_or_else(|| RestoreError::Authority("it has no key".to_owned()))?;
    let pem = std::str::from_utf8(&key.0).map_err(|error| RestoreError::Authority(error.to_string()))?;
    let authority = Authority::from_pem(pem).map_err(unusable)?;
    if authority.convention() != backup.convention {
        let other = format!("it is that of convention {}, not of {}", authority.convention(), backup.convention);
        return Err(RestoreError::Authority(other));
    }
    let key = NodeKey::create().map_err(unusable)?;
    let certificate = authority.issue(key.public(), wall()).map_err(unusable)?;
    let belonging = Belonging {
        convention: backup.convention,
        voter: true,
        roots: backup.roots.clone(),
        certificate: certificate.to_vec(),
        authority: None,
        // An agent that was started with --bootstrap before may be again.
        formed: true,
        peers: Vec::new(),
        raft: true,
        recovery: 0,
        superseded: false,
    };
    Ok((key, belonging))
}

fn beginning(backup: &Backup, key: &NodeKey, name: &str) -> Result<store::Beginning, Denied> {
    let keeper = Joiner {
        node: key.node(),
        key_hash: key.public().hash(),
        name: name.to_owned(),
        address: NOWHERE.to_owned(),
        boot: Boot(0),
        role: Role::Voter,
        witness: false,
        level: FEATURE_LEVEL,
    };
    // Whatever was recovered since the backup was taken has raised the numbers as well, and given out higher ones.
    let steps = 1 + unix_now().saturating_sub(backup.taken).div_ceil(SECONDS_OF_A_RECOVERY);
    let recovery = Recovery { keeper, lost: backup.nodes.iter().copied().collect(), steps };
    Ok(store::Beginning {
        directory: backup.directory.recovered(&recovery)?,
        voter: key.node(),
        term: backup.term.saturating_add(recovery.raises()),
        index: backup.index.saturating_add(1),
        recovery: later_than(backup.recovery),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use odeon_cluster::directory::{Command, Convention, Directory, RECOVERY_RAISES, Secret};
    use odeon_protocol::{ConventionId, NodeId};
    use std::fs;

    /// Of a convention that the host `one` formed.
    pub(in crate::recovery) fn backup() -> Backup {
        let convention = ConventionId(7);
        let authority = Authority::create(convention, wall()).unwrap();
        let founder = Joiner {
            node: NodeId(1),
            key_hash: [1; 32],
            name: "one".into(),
            address: "one:7400".into(),
            boot: Boot(1),
            role: Role::Voter,
            witness: false,
            level: FEATURE_LEVEL,
        };
        let roots = vec![authority.certificate().to_vec()];
        let mut directory = Directory::default();
        directory.apply(&Command::Found {
            convention: Convention { id: convention, ca_cert: roots[0].clone() },
            ca_key: Secret(authority.to_pem().into_bytes()),
            founder,
        });
        let (taken, host, nodes) = (unix_now(), "one".to_owned(), vec![NodeId(1)]);
        Backup { convention, taken, host, recovery: 3, term: 5, index: 40, nodes, roots, directory }
    }

    fn written(backup: &Backup) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        backup.write(&file, false).unwrap();
        (dir, file)
    }

    #[test]
    fn a_backup_becomes_a_group_of_one_new_voter() {
        let (dir, file) = written(&backup());
        let data = dir.path().join("data");
        // The lost host's name is free again.
        let restored = restore(&file, &data, "one").unwrap();
        let kept = store::Kept::read(&data.join("directory.redb")).unwrap();
        assert_eq!((kept.voters.len(), kept.recovery, kept.term), (1, restored.recovery, 5 + RECOVERY_RAISES));
        assert!(restored.recovery > 3);
        let belonging = DataDir::open_stopped(&data).unwrap().belonging().unwrap();
        assert!(belonging.raft && belonging.voter && belonging.authority.is_none());
        assert_eq!(belonging.recovery, restored.recovery);
        let refused = restore(&file, &data, "one").unwrap_err().to_string();
        assert!(refused.contains("holds identity.json already"), "{refused}");
    }

    #[test]
    fn an_old_backup_raises_beyond_every_recovery_since() {
        let old = Backup { taken: unix_now() - 3600, ..backup() };
        let (dir, file) = written(&old);
        let restored = restore(&file, &dir.path().join("data"), "one").unwrap();
        assert!(restored.epoch >= 61 * RECOVERY_RAISES);
    }

    #[test]
    fn nothing_is_written_of_what_is_damaged() {
        let (dir, file) = written(&backup());
        let data = dir.path().join("data");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let refused = restore(&file, &data, "one").unwrap_err().to_string();
        assert!(refused.contains("cut off"), "{refused}");
        assert!(!data.exists());
        let (_other, file) = written(&Backup { convention: ConventionId(8), ..backup() });
        assert!(matches!(restore(&file, &data, "one"), Err(RestoreError::Authority(_))));
        assert!(!data.exists());
    }
}
