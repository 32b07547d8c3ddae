//! What the convention's tasks and its handles have in common.

use super::{
    confirm::Confirmations, copies::Copies, follow, gossip::Seen, handle::Over, leader::Leading, lease::Lease,
    peers::Peers, proposals::Proposals, raft::Group, wire::Leadership,
};
use crate::identity::DataDir;
use odeon_cluster::directory::Role;
use odeon_protocol::{Boot, ConventionId, NodeId};
use odeon_transport::tls::Identity;
use openraft::{EmptyNode, RaftMetrics};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) boot: Boot,
    pub(crate) convention: ConventionId,
    pub(crate) data: DataDir,
    pub(crate) identity: Arc<Identity>,
    pub(crate) copies: Arc<Copies>,
    /// This agent's part in the Raft group, if it joined with a voter's token.
    pub(crate) group: Option<Group>,
    pub(crate) confirmations: Option<Confirmations>,
    pub(crate) leader_hint: AtomicU64,
    /// Who leads and votes, as other agents say.
    pub(crate) heard: Mutex<(Option<Instant>, Leadership)>,
    /// When the log was last fed by a leader.
    pub(crate) fed: Mutex<Option<Instant>>,
    /// What is told to others as the address to dial.
    pub(crate) advertise: Option<String>,
    pub(crate) witness: bool,
    /// What this agent understands.
    pub(crate) feature_level: u16,
    pub(crate) proposals: Proposals,
    pub(crate) peers: Arc<Peers>,
    pub(crate) seen: Seen,
    pub(crate) leading: Leading,
    pub(crate) lease: watch::Sender<Lease>,
    pub(crate) over: watch::Sender<Option<Over>>,
    pub(crate) ready: watch::Sender<bool>,
    /// The leader is to be looked for.
    pub(crate) seek: Notify,
    /// The named actors of a lost lease are at rest.
    pub(crate) rested: Notify,
    pub(crate) stop: CancellationToken,
    /// Cancelled when every task of the convention has ended.
    pub(crate) stopped: CancellationToken,
    pub(crate) requests: AtomicU64,
    /// Who may be dialled back at a time, for the asker to learn whether it is reached.
    pub(crate) dial_backs: Arc<Semaphore>,
}

impl Shared {
    /// Who leads, as far as this agent knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let by_log = if self.heard_lately() { None } else { self.log_says().leader };
        let hint = Some(self.leader_hint.load(Ordering::Relaxed)).filter(|hint| *hint != 0);
        by_log.or(hint.map(NodeId))
    }

    /// Whether what others say of the leader counts more than the own log: it is not fed, they spoke just now.
    fn heard_lately(&self) -> bool {
        !self.is_fed() && self.heard.lock().0.is_some_and(|when| when.elapsed() < follow::SILENT_MAX)
    }

    /// What the own log says; nothing on an agent without one.
    fn log_says(&self) -> Leadership {
        let Some(group) = &self.group else { return Leadership::default() };
        let metrics = group.raft.metrics();
        let now = metrics.borrow();
        let membership = now.membership_config.membership();
        let voters = membership.voter_ids().map(NodeId).collect();
        let stand_bys = membership.learner_ids().map(NodeId).collect();
        Leadership { term: now.current_term, leader: now.current_leader.map(NodeId), voters, stand_bys }
    }

    /// Another agent said who leads; nothing if it did not know, or the leader known did not answer.
    pub(crate) fn hint_leader(&self, leader: Option<NodeId>) {
        self.leader_hint.store(leader.map_or(0, |leader| leader.0), Ordering::Relaxed);
        if leader.is_none() {
            self.seek.notify_one();
        }
    }

    /// Another agent said who leads and votes.
    pub(crate) fn hear_leadership(&self, says: &Leadership) {
        let mut heard = self.heard.lock();
        let (when, known) = &mut *heard;
        if counts_over(says, known) {
            (*when, *known) = (Some(Instant::now()), says.clone());
            if says.leader.is_some() {
                self.hint_leader(says.leader);
            }
        }
    }

    /// What this agent can say of it.
    pub(crate) fn leadership(&self) -> Leadership {
        let log = self.log_says();
        if log.voters.is_empty() || self.heard_lately() { self.heard.lock().1.clone() } else { log }
    }

    /// Returns when who leads has changed; for ever on an agent without a log.
    pub(crate) async fn leader_changes(&self) {
        let Some(group) = &self.group else { return std::future::pending().await };
        let mut metrics = group.raft.metrics();
        let of = |now: &RaftMetrics<u64, EmptyNode>| (now.current_term, now.current_leader);
        let before = of(&metrics.borrow());
        if metrics.wait_for(|now| of(now) != before).await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether a majority has confirmed just now that this agent leads; else who might.
    pub(crate) async fn confirm(&self) -> Result<(), Option<NodeId>> {
        match &self.confirmations {
            Some(confirmations) => confirmations.confirm().await,
            None => Err(self.leader()),
        }
    }

    /// Whether that boot of a host may live, for all that is known here.
    pub(crate) fn may_live(&self, node: NodeId, boot: Boot) -> bool {
        self.copies.read(|directory| directory.member(node).is_none() || directory.boot_lives(node, boot))
    }

    /// Whether the Raft log feeds this agent: it leads, or a leader appended lately.
    pub(crate) fn is_fed(&self) -> bool {
        self.leads() || self.fed.lock().is_some_and(|when| when.elapsed() < follow::SILENT_MAX)
    }

    /// Whom to follow or to ask, the best first.
    pub(crate) fn sources(&self) -> Vec<NodeId> {
        let (leader, voters) = (self.leader(), self.voters());
        let mut known: BTreeSet<NodeId> = voters.clone();
        self.copies.read(|directory| {
            let hosts = directory.hosts().filter(|host| host.role == Role::Voter && !host.dead);
            known.extend(hosts.map(|host| host.node));
        });
        known.extend(self.data.belonging().into_iter().flat_map(|belonging| belonging.peers).map(|peer| peer.node));
        if self.peers.recovery.load(Ordering::Acquire) != 0 {
            // A restored directory begins on a host that nobody knew.
            known.extend(self.peers.connected().into_iter().map(|(node, _)| node));
        }
        known.remove(&self.me);
        let mut sources: Vec<NodeId> = known.into_iter().collect();
        sources.sort_by_key(|node| {
            let connected = self.peers.connected_to(*node).is_some();
            (Some(*node) != leader, !voters.contains(node), !connected)
        });
        sources
    }

    /// Who votes, as far as this agent knows.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.leadership().voters.into_iter().collect()
    }

    /// Whether the last change of the voters that the own log has is ended and committed; a majority counts by it then.
    pub(crate) fn voters_are_settled(&self) -> bool {
        let Some(group) = &self.group else { return true };
        let metrics = group.raft.metrics();
        let now = metrics.borrow();
        let known = &now.membership_config;
        known.membership().get_joint_config().len() <= 1 && *known.log_id() <= now.last_applied
    }

    /// Whether the others say that this agent, which the log does not feed any more, has no vote.
    pub(crate) fn is_dropped(&self) -> bool {
        self.heard_lately() && !self.heard.lock().1.voters.contains(&self.me)
    }

    /// The address that this agent tells others; unspecified where only they can see it.
    pub(crate) fn says_address(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.peers.listens_on().to_string())
    }

    /// The same where nobody else sees this agent: a founder's, and the leader's at its start. Of one that listens on every
    /// interface it is the address by which it reaches others.
    pub(crate) fn own_address(&self) -> String {
        let listens = self.peers.listens_on();
        match &self.advertise {
            Some(address) => address.clone(),
            None if listens.ip().is_unspecified() => SocketAddr::new(own_ip(listens), listens.port()).to_string(),
            None => listens.to_string(),
        }
    }

    /// Whether this agent leads.
    pub(crate) fn leads(&self) -> bool {
        let Some(group) = &self.group else { return false };
        // Raft rests while its disk is full, and knows nothing of those that lead meanwhile.
        group.raft.metrics().borrow().state == openraft::ServerState::Leader && !group.log.is_full()
    }
}

/// Whether what is said of the leader counts more than what was said before. Who knows a leader is believed, and of two the one
/// with the newer term: a voter that was dropped while it was away raises its own term for ever, and knows none.
fn counts_over(says: &Leadership, known: &Leadership) -> bool {
    let order = |of: &Leadership| (of.leader.is_some(), of.term);
    order(says) > order(known) || order(says) == order(known) && says.leader.is_some()
}

/// The address by which this host reaches others, as its routes say. Nothing is sent.
fn own_ip(listens: SocketAddr) -> IpAddr {
    let (any, far): (IpAddr, IpAddr) = match listens {
        // Addresses for documentation: no host has them, the default route leads there.
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let route = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((far, 9))?;
        socket.local_addr()
    };
    route().map_or_else(|_: std::io::Error| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_a_leader_is_believed_though_a_dropped_voter_has_the_higher_term() {
        let of = |term, leader: Option<u64>| Leadership { term, leader: leader.map(NodeId), ..Leadership::default() };
        assert!(counts_over(&of(17, Some(1)), &of(35, None)) && !counts_over(&of(36, None), &of(17, Some(1))));
        assert!(counts_over(&of(18, Some(2)), &of(17, Some(1))) && !counts_over(&of(16, Some(3)), &of(17, Some(1))));
        assert!(counts_over(&of(17, Some(1)), &of(17, Some(1))), "said again, it is known lately");
        assert!(counts_over(&of(2, None), &of(1, None)) && !counts_over(&of(2, None), &of(2, None)));
    }
}
