//! A voter's file while no agent runs: what it still holds, and the one that a new group of one voter begins with.
//!
//! - **AN-1.** Every entry of the log is carried out, whether or not a majority had it: what the survivor was told of is
//!   never less than what anybody was promised, and a command that was not committed harms nobody when it is now.
//! - **AN-2.** The new group's terms begin beyond all of the old one's, so that who has heard of its leader never believes
//!   an old one again.

use super::{
    LogId, Membership, OpenError, SnapshotMeta, Vote,
    machine::Machine,
    writer::{Found, read_file, write_file},
};
use odeon_cluster::directory::Directory;
use odeon_protocol::NodeId;
use openraft::{EntryPayload, LeaderId};
use std::{
    collections::BTreeSet,
    fs::{File, Permissions, set_permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

/// What a voter's file holds.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) directory: Directory,
    /// The newest entry; nothing if the log was never written.
    pub(crate) last: Option<u64>,
    /// The newest entry that a majority is known to have had. There may be later ones.
    pub(crate) committed: Option<u64>,
    /// The highest term that the file knows of.
    pub(crate) term: u64,
    /// Who votes, by the newest entry that says so.
    pub(crate) voters: BTreeSet<NodeId>,
    /// Everybody who ever voted or learned, as far as the file goes back.
    pub(crate) nodes: BTreeSet<NodeId>,
    pub(crate) recovery: u64,
}

impl Kept {
    /// Reads the file, which no agent has open.
    pub(crate) fn read(path: &Path) -> Result<Self, OpenError> {
        let found = read_file(path)?;
        let mut machine = Machine::new(found.snapshot, path)?;
        let mut nodes = nodes_of(machine.membership());
        let mut term = found.vote.map_or(0, |vote| vote.leader_id.term);
        for entry in found.entries {
            let next = machine.applied().map_or(0, |applied| applied.index + 1);
            if entry.log_id.index < next {
                continue;
            }
            if entry.log_id.index > next {
                return Err(OpenError::Gap { path: path.to_owned(), before: entry.log_id.index });
            }
            let names_members = matches!(entry.payload, EntryPayload::Membership(_));
            machine.apply(entry);
            if names_members {
                nodes.extend(nodes_of(machine.membership()));
            }
        }
        let last = machine.applied();
        term = term.max(last.map_or(0, |last| last.leader_id.term));
        Ok(Self {
            last: last.map(|last| last.index),
            committed: found.committed.map(|committed| committed.index),
            term,
            voters: machine.membership().voter_ids().map(NodeId).collect(),
            nodes,
            recovery: found.recovery,
            directory: machine.directory,
        })
    }
}

fn nodes_of(membership: &Membership) -> BTreeSet<NodeId> {
    membership.nodes().map(|(node, _)| NodeId(*node)).collect()
}

/// What a new group begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) directory: Directory,
    /// The only voter.
    pub(crate) voter: NodeId,
    pub(crate) term: u64,
    /// The place in the log that the directory stands for.
    pub(crate) index: u64,
    pub(crate) recovery: u64,
}

impl Beginning {
    /// Makes the file, which must not be there, readable for its owner alone; it is on disk when this returns.
    pub(crate) fn write(&self, path: &Path) -> Result<(), OpenError> {
        let file = |source: io::Error| OpenError::File { path: path.to_owned(), source: redb::Error::Io(source) };
        let log_id = LogId::new(LeaderId::new(self.term, self.voter.0), self.index);
        let voters = openraft::Membership::new(vec![BTreeSet::from([self.voter.0])], ());
        let meta = SnapshotMeta {
            last_log_id: Some(log_id),
            last_membership: Membership::new(Some(log_id), voters),
            snapshot_id: format!("recovery-{}", self.recovery),
        };
        let data = postcard::to_stdvec(&self.directory).map_err(|error| file(io::Error::other(error)))?;
        // Made beforehand, that it is never readable for others.
        let private = File::options().write(true).create_new(true).open(path).map_err(file)?;
        set_permissions(path, Permissions::from_mode(0o600)).map_err(file)?;
        write_file(
            path,
            &Found {
                vote: Some(Vote::new(self.term, self.voter.0)),
                committed: Some(log_id),
                purged: Some(log_id),
                entries: Vec::new(),
                snapshot: Some((meta, Arc::new(data))),
                recovery: self.recovery,
            },
        )?;
        private.sync_all().map_err(file)
    }
}
