//! Has the right hosts vote and stand by while this agent leads: what is to be done is decided in
//! [`odeon_cluster::voters`], and done here, one step after the other.

use super::{now, raft::Group, shared::Shared};
use odeon_cluster::{
    directory::Role,
    host::HostView,
    voters::{self, Host, Progress, Step},
};
use odeon_protocol::NodeId;
use openraft::{ChangeMembers, EmptyNode};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two looks, where the directory does not change.
const EVERY: Duration = Duration::from_millis(300);
/// At least; and after a step, when the next one may be due.
const AGAIN: Duration = Duration::from_millis(50);
/// For a step.
const CHANGE: Duration = Duration::from_secs(10);
/// The capability that says what fails together.
const ZONE: &str = "zone";

/// Looks after the group while this agent leads.
pub(crate) async fn promote(shared: &Arc<Shared>, group: &Group) {
    let (mut progress, mut changes) = (Progress::default(), shared.copies.changes());
    loop {
        let step = look(shared, group, &mut progress).next();
        let is_done = match &step {
            // A leader that is cut off without knowing it begins no change.
            Some(step) if shared.confirm().await.is_ok() => take(group, step).await,
            _ => false,
        };
        if !is_done {
            // Who left or was put out answers for a moment only.
            drop(timeout(EVERY, changes.changed()).await);
        }
        sleep(AGAIN).await;
    }
}

/// The group as this leader sees it.
fn look(shared: &Shared, group: &Group, progress: &mut Progress) -> voters::Group {
    let (voters, stand_bys) = seats(group, progress);
    let belong: Vec<_> = {
        let machine = group.machine.read();
        let hosts = machine.directory.hosts().filter(|host| host.role == Role::Voter);
        hosts.map(|host| (host.node, host.boot, host.dead)).collect()
    };
    let host = |(node, boot, dead)| {
        let mut view = HostView { node, boot, ..HostView::default() };
        shared.peers.facts().fill(&mut view);
        let zone = view.capabilities.get(ZONE).map(ToString::to_string);
        let (silent, heard) = shared.leading.heard(node).unwrap_or((Duration::MAX, None));
        let (stuck, caught_up) = (progress.stuck(node, now()), progress.caught_up(node));
        (node, Host { zone, silent, heard, stuck, dead, caught_up })
    };
    voters::Group { leader: shared.me, voters, stand_bys, hosts: belong.into_iter().map(host).collect() }
}

/// Who votes, and who stands by; how far their logs are goes into `progress`.
fn seats(group: &Group, progress: &mut Progress) -> (Vec<BTreeSet<NodeId>>, BTreeSet<NodeId>) {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow();
    let logs = metrics.replication.iter().flatten();
    let logs = logs.map(|(node, has)| (NodeId(*node), has.map(|has| has.index)));
    progress.look(metrics.last_log_index.unwrap_or_default(), logs, now());
    let membership = metrics.membership_config.membership();
    let nodes = |nodes: &BTreeSet<u64>| nodes.iter().copied().map(NodeId).collect();
    (membership.get_joint_config().iter().map(nodes).collect(), membership.learner_ids().map(NodeId).collect())
}

/// Takes a step; whether it is done.
async fn take(group: &Group, step: &Step) -> bool {
    let outcome = timeout(CHANGE, async {
        match step {
            Step::Follow(node) => group.raft.add_learner(node.0, EmptyNode {}, false).await,
            Step::Forget(node) => {
                group.raft.change_membership(ChangeMembers::RemoveNodes([node.0].into()), false).await
            }
            Step::Vote(voters) => {
                group.raft.change_membership(voters.iter().map(|node| node.0).collect::<BTreeSet<_>>(), false).await
            }
        }
    });
    match (outcome.await, step) {
        (Ok(Ok(_)), Step::Follow(node)) => tracing::info!(%node, "a host stands by to vote"),
        (Ok(Ok(_)), Step::Forget(node)) => tracing::info!(%node, "a host stands by no more"),
        (Ok(Ok(_)), Step::Vote(voters)) => tracing::info!(voters = voters.len(), "the voters are others now"),
        (Ok(Err(error)), _) => {
            tracing::info!(?step, %error, "who votes cannot be changed now");
            return false;
        }
        (Err(_), _) => {
            tracing::info!(?step, "changing who votes takes long");
            return false;
        }
    }
    true
}
