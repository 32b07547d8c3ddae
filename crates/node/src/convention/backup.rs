//! Taking a backup of the directory while the agent runs.

use super::{clock::unix_now, shared::Shared};
use crate::recovery::Backup;
use odeon_protocol::NodeId;

/// Why no backup can be taken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host is no voter now, so that it has no directory of its own: ask a voter's agent, see `odeon hosts`")]
pub struct NoBackup;

/// A consistent copy of this voter's directory, and whether it is known to be no more than 2 s old.
pub(super) async fn take(shared: &Shared) -> Result<(Backup, bool), NoBackup> {
    let votes = shared.voters().contains(&shared.me);
    let group = shared.group.as_ref().filter(|_| votes).ok_or(NoBackup)?;
    let fresh = if shared.leads() { shared.confirm().await.is_ok() } else { shared.is_fed() };
    let (term, nodes) = {
        let metrics = group.raft.metrics();
        let now = metrics.borrow();
        let nodes = now.membership_config.nodes().map(|(node, _)| NodeId(*node)).collect();
        (now.current_term, nodes)
    };
    let (directory, index) = {
        let machine = group.machine.read();
        (machine.directory.clone(), machine.applied().map_or(0, |applied| applied.index))
    };
    // It was made a voter just now, and has not got the directory yet.
    directory.ca_key().ok_or(NoBackup)?;
    let backup = Backup {
        convention: shared.convention,
        taken: unix_now(),
        host: shared.data.host().to_owned(),
        recovery: shared.peers.recovery.load(std::sync::atomic::Ordering::Acquire),
        term,
        index,
        nodes,
        roots: shared.identity.roots().iter().map(|root| root.to_vec()).collect(),
        directory,
    };
    Ok((backup, fresh))
}
