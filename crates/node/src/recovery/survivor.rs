//! A voter's data directory, whose agent is stopped, made that of a new group's only voter.
//!
//! - **SV-1.** The old file stays beside the new one, which takes its place in one step; before that step nothing has
//!   changed, after it everything has.
//! - **SV-2.** No lease of the old group is good any more when the new file takes its place: the voter whose file it is
//!   confirmed none since its agent stopped, and a lease ends by itself.

use super::later_than;
use crate::{
    convention::{now, store},
    identity::{Belonging, DataDir, DataDirError, aside, put},
};
use odeon_cluster::{
    directory::{Denied, Joiner, Recovery, Standing},
    lease::TIMING,
};
use odeon_protocol::{NodeId, Time, level::FEATURE_LEVEL};
use odeon_transport::tls::NodeKey;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::time::sleep;

/// Why a data directory cannot be the beginning of a new group: what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The data directory: empty, in use, damaged.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The host has no directory, or had no vote when its log ended.
    #[error(
        "data directory {}: host {host} is no voter, so that it has no directory of its own to recover: use the data directory of a voter (one that bears the role `voter` or `leader` in `odeon hosts`), or `odeon restore` a backup",
        path.display()
    )]
    NoVoter {
        /// The directory.
        path: PathBuf,
        /// Whose.
        host: String,
    },
    /// The log is from before an earlier recovery.
    #[error("data directory {}: {}", .0.display(), crate::convention::SUPERSEDED)]
    Superseded(PathBuf),
    /// The file is damaged, or of another version.
    #[error("{0}")]
    Log(String),
    /// What it holds is no beginning for this host.
    #[error("data directory {}: what its log holds does not do: {why}", path.display())]
    Denied {
        /// The directory.
        path: PathBuf,
        /// Why.
        why: Denied,
    },
    /// The file system refused.
    #[error("data directory {}: {doing}: {source}: nothing has changed", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// See the module's head.
#[derive(Debug)]
pub struct Survivor {
    data: DataDir,
    kept: store::Kept,
    belonging: Belonging,
    me: NodeId,
    opened: Time,
}

/// What a surviving data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The host's name.
    pub host: String,
    /// The convention, in hexadecimal.
    pub convention: String,
    /// Global names.
    pub names: usize,
    /// Hosts and outside clients that belong, this one among them.
    pub members: usize,
    /// Join tokens.
    pub tokens: usize,
    /// The last grant's epoch.
    pub epoch: u64,
    /// The newest entry of the log.
    pub last: u64,
    /// The newest one that a majority is known to have had; the later ones are taken too.
    pub committed: u64,
    /// When the file was last written, if the file system says so.
    pub written: Option<SystemTime>,
    /// Who may hold an older or newer log, and is evicted: by name, or node id where the name is not known.
    pub lost: Vec<String>,
}

/// What was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The new group's number.
    pub recovery: u64,
    /// Epochs are larger than this from now on.
    pub epoch: u64,
    /// The old file.
    pub before: PathBuf,
}

impl Survivor {
    /// Opens the data directory of a voter. Nothing changes yet; its agent cannot start while this value lives.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub fn open(path: &Path) -> Result<Self, RecoverError> {
        let data = DataDir::open_stopped(path)?;
        let opened = now();
        let no_voter = || RecoverError::NoVoter { path: path.to_owned(), host: data.host().to_owned() };
        let belonging = data.belonging().filter(|belonging| belonging.voter).ok_or_else(no_voter)?;
        if belonging.superseded {
            return Err(RecoverError::Superseded(path.to_owned()));
        }
        if !data.directory_file().exists() {
            return Err(match belonging.raft {
                true => DataDirError::Forgotten { path: path.to_owned() }.into(),
                false => no_voter(),
            });
        }
        let damaged = |why: String| DataDirError::Damaged { path: path.to_owned(), why };
        let me = NodeKey::from_pem(&data.key()).map_err(|error| damaged(error.to_string()))?.node();
        let kept = store::Kept::read(&data.directory_file()).map_err(|error| RecoverError::Log(error.to_string()))?;
        if !kept.voters.contains(&me) || kept.directory.convention().is_none() {
            return Err(no_voter());
        }
        Ok(Self { data, kept, belonging, me, opened })
    }

    /// What the data directory holds; whatever only the lost voters knew is not among it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let directory = &self.kept.directory;
        let name = |node: &NodeId| {
            directory.member(*node).map_or_else(|| format!("node {node}"), |member| member.name.clone())
        };
        let mut lost: Vec<String> = self.lost().iter().map(name).collect();
        lost.sort_unstable();
        let written = fs::metadata(self.data.directory_file()).and_then(|file| file.modified());
        Kept {
            host: self.data.host().to_owned(),
            convention: self.belonging.convention.to_string(),
            names: directory.names().len(),
            members: directory.members().filter(|member| member.standing == Standing::In).count(),
            tokens: directory.tokens().count(),
            epoch: directory.epoch(),
            last: self.kept.last.unwrap_or(0),
            committed: self.kept.committed.unwrap_or(0),
            written: written.ok(),
            lost,
        }
    }

    /// Everybody else who ever voted or stood by, as far as the log goes back: a stand-by may vote by an entry that is not in it.
    fn lost(&self) -> Vec<NodeId> {
        self.kept.nodes.iter().copied().filter(|node| *node != self.me).collect()
    }

    /// Makes the new group; takes at most the time of a lease, counted from [`Survivor::open`], and what the disk takes.
    ///
    /// # Errors
    /// See [`RecoverError`]; nothing has changed then.
    pub async fn recover(self) -> Result<Recovered, RecoverError> {
        self.await_leases().await;
        self.replace()
    }

    fn replace(self) -> Result<Recovered, RecoverError> {
        let path = self.data.path().to_owned();
        let io = |doing: &'static str| {
            let path = path.clone();
            move |source| RecoverError::Io { path, doing, source }
        };
        let beginning = self.beginning()?;
        let file = self.data.directory_file();
        let new = aside(&file).map_err(io("a file of an earlier attempt cannot be removed"))?;
        beginning.write(&new).map_err(|error| RecoverError::Log(error.to_string()))?;
        let before = path.join(format!("directory.redb.before-{}", beginning.recovery));
        fs::hard_link(&file, &before).map_err(io("the old directory.redb cannot be kept beside the new one"))?;
        put(&new, &file).map_err(io("the new directory.redb cannot take its place"))?;
        let recovery = beginning.recovery;
        // The file alone says it all; this spares the agent a search for hosts that are gone.
        self.data.update(|belonging| {
            if let Some(belonging) = belonging {
                (belonging.recovery, belonging.raft, belonging.peers) = (recovery, true, Vec::new());
            }
        })?;
        Ok(Recovered { recovery, epoch: beginning.directory.epoch(), before })
    }

    async fn await_leases(&self) {
        let over = self.opened + TIMING.regrant;
        let left = over.since(now());
        if left > Duration::ZERO {
            sleep(left).await;
        }
    }

    fn beginning(&self) -> Result<store::Beginning, RecoverError> {
        let denied = |why| RecoverError::Denied { path: self.data.path().to_owned(), why };
        let member = self.kept.directory.member(self.me).ok_or_else(|| denied(Denied::NotMember(self.me)))?;
        let keeper = Joiner {
            node: member.node,
            key_hash: member.key_hash,
            name: member.name.clone(),
            address: member.address.clone(),
            boot: member.boot,
            role: member.role,
            witness: member.witness,
            level: FEATURE_LEVEL,
        };
        let recovery = Recovery { keeper, lost: self.lost().into_iter().collect(), steps: 1 };
        let directory = self.kept.directory.recovered(&recovery).map_err(denied)?;
        Ok(store::Beginning {
            directory,
            voter: self.me,
            term: self.kept.term.saturating_add(recovery.raises()),
            index: self.kept.last.unwrap_or(0).saturating_add(1),
            recovery: later_than(self.kept.recovery.max(self.belonging.recovery)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_cluster::directory::{Command, Convention, Directory, RECOVERY_RAISES, Role, Secret};
    use odeon_protocol::{Boot, ConventionId};
    use tempfile::TempDir;

    fn belonging(voter: bool) -> Belonging {
        Belonging {
            convention: ConventionId(7),
            voter,
            roots: Vec::new(),
            certificate: Vec::new(),
            authority: None,
            formed: true,
            peers: vec![crate::identity::Peer { node: NodeId(9), address: "lost:7400".into() }],
            raft: voter,
            recovery: 0,
            superseded: false,
        }
    }

    /// The data directory of the only voter of a convention.
    fn voter() -> TempDir {
        let (dir, key) = (tempfile::tempdir().unwrap(), NodeKey::create().unwrap());
        let founder = Joiner {
            node: key.node(),
            key_hash: key.public().hash(),
            name: "one".into(),
            address: "one:7400".into(),
            boot: Boot(1),
            role: Role::Voter,
            witness: false,
            level: FEATURE_LEVEL,
        };
        let convention = Convention { id: ConventionId(7), ca_cert: vec![1] };
        let mut directory = Directory::default();
        directory.apply(&Command::Found { convention, ca_key: Secret(vec![1]), founder });
        drop(DataDir::prepare(dir.path(), "one", key.to_pem(), belonging(true)).unwrap());
        let beginning = store::Beginning { directory, voter: key.node(), term: 3, index: 9, recovery: 0 };
        beginning.write(&dir.path().join("directory.redb")).unwrap();
        dir
    }

    fn refused(dir: &TempDir) -> String {
        Survivor::open(dir.path()).unwrap_err().to_string()
    }

    #[test]
    fn a_voter_becomes_a_group_of_its_own_again_and_again() {
        let dir = voter();
        let mut last = 0;
        for times in 1..=2 {
            let survivor = Survivor::open(dir.path()).unwrap();
            assert!(refused(&dir).contains("another agent uses it"), "it is held meanwhile");
            assert_eq!((survivor.kept().members, survivor.kept().host.as_str()), (1, "one"));
            let done = survivor.replace().unwrap();
            assert!(done.recovery > last && done.before.exists());
            last = done.recovery;
            let kept = store::Kept::read(&dir.path().join("directory.redb")).unwrap();
            assert_eq!((kept.recovery, kept.term), (last, 3 + times * RECOVERY_RAISES));
            assert_eq!((kept.directory.epoch(), done.epoch), (times * RECOVERY_RAISES, times * RECOVERY_RAISES));
        }
        let belonging = DataDir::open_stopped(dir.path()).unwrap().belonging().unwrap();
        assert_eq!((belonging.recovery, belonging.peers), (last, Vec::new()));
    }

    #[test]
    fn who_is_no_voter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refused(&dir).contains("there is no identity.json"));
        drop(DataDir::prepare(dir.path(), "two", NodeKey::create().unwrap().to_pem(), belonging(false)).unwrap());
        assert!(refused(&dir).contains("host two is no voter"));
        let dir = voter();
        // A log that says that others vote, and not this host.
        let other = tempfile::tempdir().unwrap();
        let prepared = DataDir::prepare(other.path(), "two", NodeKey::create().unwrap().to_pem(), belonging(true));
        drop(prepared.unwrap());
        fs::copy(dir.path().join("directory.redb"), other.path().join("directory.redb")).unwrap();
        assert!(refused(&other).contains("host two is no voter"));
    }

    #[test]
    fn what_is_damaged_or_gone_is_named() {
        let dir = voter();
        let file = dir.path().join("directory.redb");
        fs::write(&file, b"this is no database").unwrap();
        let said = refused(&dir);
        assert!(said.contains("directory.redb") && said.contains("restore it"), "{said}");
        fs::remove_file(&file).unwrap();
        assert!(refused(&dir).contains("its directory.redb is missing"));
        fs::write(dir.path().join("identity.json"), b"{").unwrap();
        assert!(refused(&dir).contains("identity.json does not read"));
    }

    #[test]
    fn a_log_from_before_a_recovery_elsewhere_is_refused() {
        let dir = voter();
        let data = DataDir::open_stopped(dir.path()).unwrap();
        data.update(|kept| *kept = Some(Belonging { superseded: true, ..self::belonging(true) })).unwrap();
        drop(data);
        assert!(refused(&dir).contains("recovered without this host"));
    }
}
