//! The convention as the rest of the agent sees it.

use super::{
    confirm::Confirmations,
    copies::Copies,
    error::{CallError, ProposeError},
    follow,
    gossip::Seen,
    leader::Leading,
    lease::Lease,
    links::Unsent,
    peers::Peers,
    proposals::{self, Proposals},
    raft::Group,
    service::Service,
    status::{HostStatus, Status},
    tokens,
    wire::Leadership,
};
use crate::identity::DataDir;
use bytes::Bytes;
use odeon_cluster::directory::{Answer, Command, Directory, NameRecord, RequestId, Role, Token, TokenId};
use odeon_cluster::{
    capability,
    host::{HostView, Load},
};
use odeon_protocol::{
    Boot, ConventionId, NodeId,
    peer::{PeerReply, PeerRequest},
};
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
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The way into the convention for everything else on this host. Clones are the same.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

/// What the convention's tasks and its handles have in common.
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
        let voters = now.membership_config.voter_ids().map(NodeId).collect();
        Leadership { term: now.current_term, leader: now.current_leader.map(NodeId), voters }
    }

    /// Another agent said who leads; nothing if it did not know, or the leader known did not answer.
    pub(crate) fn hint_leader(&self, leader: Option<NodeId>) {
        self.leader_hint.store(leader.map_or(0, |leader| leader.0), Ordering::Relaxed);
        if leader.is_none() {
            self.seek.notify_one();
        }
    }

    /// Another agent said who leads and votes; the newer term is believed.
    pub(crate) fn hear_leadership(&self, says: &Leadership) {
        let mut heard = self.heard.lock();
        let (when, known) = &mut *heard;
        if says.term > known.term || (says.term == known.term && says.leader.is_some()) {
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

    /// Whether the others say that this agent, which the log does not feed any more, has no vote.
    pub(crate) fn is_dropped(&self) -> bool {
        self.heard_lately() && !self.heard.lock().1.voters.contains(&self.me)
    }

    /// The address that this agent tells others; unspecified where only they can see it.
    pub(crate) fn says_address(&self) -> String {
        let listens = self.peers.listens_on();
        match &self.advertise {
            Some(address) => address.clone(),
            None if listens.ip().is_unspecified() && self.leads() => {
                SocketAddr::new(own_ip(listens), listens.port()).to_string()
            }
            None => listens.to_string(),
        }
    }

    /// Whether this agent leads.
    pub(crate) fn leads(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.raft.metrics().borrow().state == openraft::ServerState::Leader)
    }
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

/// Why this agent's boot has ended, as the convention sees it: it has to stop its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Over {
    /// It was silent for too long. A new boot may begin.
    BootOver,
    /// It was evicted, or has left.
    NotMember,
    /// A part of it that it cannot do without has failed: the log says which.
    Failed,
}

impl Handle {
    /// This agent.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.shared.me
    }

    /// This start of it.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.shared.boot
    }

    /// The convention.
    #[must_use]
    pub fn id(&self) -> ConventionId {
        self.shared.convention
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.data.host()
    }

    /// The UDP address that this agent listens on.
    #[must_use]
    pub fn listens_on(&self) -> SocketAddr {
        self.shared.peers.listens_on()
    }

    /// A number for [`RequestId`], never used twice in this boot.
    #[must_use]
    pub fn next_request(&self) -> RequestId {
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        RequestId { node: self.shared.me, boot: self.shared.boot, number }
    }

    /// From now on requests and frames of other agents go to `service`.
    pub fn serve(&self, service: Arc<dyn Service>) {
        self.shared.peers.serve(service);
    }

    /// Has the command logged by the voters and carried out; for at most 5 s.
    ///
    /// It is repeated with the same content while the leader changes: claims carry a request id for that.
    ///
    /// # Errors
    /// No majority answers in time (the command may still be carried out later), or the directory denies it.
    pub async fn propose(&self, command: Command) -> Result<Answer, ProposeError> {
        self.shared.proposals.propose(command).await
    }

    /// Reads this agent's copy of the directory, which may be a little behind. Keep it short: writers wait.
    pub fn directory<T>(&self, read: impl FnOnce(&Directory) -> T) -> T {
        self.shared.copies.read(read)
    }

    /// A name as the leader knows it, confirmed by a majority.
    ///
    /// # Errors
    /// No majority answers in time.
    pub async fn linear_read_name(&self, name: &str) -> Result<Option<NameRecord>, ProposeError> {
        proposals::read_name(&self.shared, name).await
    }

    /// The directory's version, as this agent's copy moves on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.copies.changes()
    }

    /// This agent's lease: until when its named actors may run.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.shared.lease.subscribe()
    }

    /// The named actors of the lost lease are at rest: goes on under the new generation.
    pub fn rested(&self) {
        self.shared.rested.notify_one();
    }

    /// Set when the convention has given this boot up.
    #[must_use]
    pub fn over(&self) -> watch::Receiver<Option<Over>> {
        self.shared.over.subscribe()
    }

    /// Returns once this agent has its place: it is a member, its copy of the directory is fresh, it holds a lease,
    /// and if its arrival completes three or five voters, that change is made.
    pub async fn ready(&self) {
        let mut ready = self.shared.ready.subscribe();
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    /// The hosts that belong, with what is known of them: liveness, capabilities, types, load. For placement.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostView> {
        super::status::hosts(&self.shared)
    }

    /// Every member that is remembered, for lists.
    #[must_use]
    pub fn members(&self) -> Vec<HostStatus> {
        super::status::members(&self.shared)
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> Status {
        super::status::status(&self.shared)
    }

    /// What this host can do, replacing what was said before; spreads to every agent.
    pub fn set_capabilities(&self, capabilities: capability::Map) {
        self.shared.peers.facts().set(|mine| mine.set_capabilities(&capabilities));
    }

    /// The actor types that this host's workers run; spreads to every agent.
    pub fn set_types(&self, types: BTreeSet<Arc<str>>) {
        self.shared.peers.facts().set(|mine| mine.set_types(types));
    }

    /// Whether this host takes no new actors; spreads to every agent.
    pub fn set_draining(&self, draining: bool) {
        self.shared.peers.facts().set(|mine| mine.set_draining(draining));
    }

    /// How busy this host is; spreads to every agent.
    pub fn set_load(&self, load: Load) {
        self.shared.peers.facts().set(|mine| mine.set_load(load));
    }

    /// Asks another agent; answered by its [`Service`]. Asking oneself works, too.
    ///
    /// # Errors
    /// It is not reached, does not answer within `within`, or refuses.
    pub async fn call(&self, node: NodeId, request: PeerRequest, within: Duration) -> Result<PeerReply, CallError> {
        self.shared.peers.call(node, request, within).await
    }

    /// Queues a data frame towards another agent, on the lane of its sender and receiver.
    ///
    /// Frames wait for a broken link for 10 s; then they come back by [`Service::undelivered`].
    ///
    /// # Errors
    /// Too much is queued (frames of class urgent are taken nevertheless), or there is no such host; the frame is in
    /// the error.
    pub fn send(&self, node: NodeId, frame: Bytes) -> Result<(), Unsent> {
        self.shared.peers.links.send(node, frame)
    }

    /// Waits until a frame like this one may be taken. Others may be quicker: send again in a loop.
    pub async fn room(&self, node: NodeId, like: &[u8]) {
        self.shared.peers.links.room(node, like).await;
    }

    /// Makes a join token; answers its text.
    ///
    /// # Errors
    /// No majority answers in time, or the directory denies it.
    pub async fn create_token(&self, role: Role, life: Duration, uses: Option<u32>) -> Result<String, ProposeError> {
        tokens::create(&self.shared, role, life, uses).await
    }

    /// Every token that is not yet revoked or forgotten.
    #[must_use]
    pub fn tokens(&self) -> Vec<Token> {
        self.directory(|directory| directory.tokens().cloned().collect())
    }

    /// Makes a token useless.
    ///
    /// # Errors
    /// As [`Handle::propose`]; an unknown token is denied.
    pub async fn revoke_token(&self, token: TokenId) -> Result<(), ProposeError> {
        self.propose(Command::RevokeToken { token }).await.map(drop)
    }

    /// Keeps a host out from now on.
    ///
    /// # Errors
    /// As [`Handle::propose`]; an unknown host is denied.
    pub async fn evict(&self, node: NodeId) -> Result<(), ProposeError> {
        self.propose(Command::Evict { node }).await.map(drop)
    }

    /// Leaves the convention for good. The agent has stopped its actors and released their names before.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn leave(&self) -> Result<(), ProposeError> {
        self.propose(Command::Leave { node: self.shared.me }).await?;
        // From here on a start needs a token again; the log stays, for the votes that were given.
        if let Err(error) = self.shared.data.update(|belonging| *belonging = None) {
            tracing::error!(%error, "the convention was left, but the data directory still names it");
        }
        Ok(())
    }

    /// Hands a leadership over, closes every connection and ends; the data directory is free afterwards.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.stopped.cancelled().await;
    }
}
