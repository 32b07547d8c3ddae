//! Answers the requests of other agents, and this agent's own to itself.

use super::{
    admission::{self, authority, seen_address},
    clock::wall,
    doctor, follow, gossip,
    handle::Over,
    peers::Home,
    proposals, recovered,
    service::Answering,
    shared::Shared,
    wire::{Reply, Request},
};
use odeon_cluster::{
    directory::{Command, Directory, Standing},
    lease::TIMING,
};
use odeon_protocol::{
    Boot, NodeId, Reason,
    control::Refusal,
    peer::{PeerReply, PeerRequest},
};
use odeon_transport::{quic::Publisher, tls::PublicKey};
use openraft::Snapshot;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Weak},
};
use tokio::time::{Instant, sleep};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) shared: Weak<Shared>,
    /// The snapshots that are arriving.
    pub(crate) pieces: Mutex<HashMap<NodeId, Vec<u8>>>,
}

impl Home for Server {
    fn answer(&self, from: NodeId, address: SocketAddr, request: Request) -> Answering<Reply> {
        let Some(shared) = self.shared.upgrade() else {
            return Box::pin(async { Reply::Refused("the agent is stopping".into()) });
        };
        match request {
            Request::Snapshot { offset, piece, end } => {
                let Some(end) = end else { return Box::pin(std::future::ready(self.keep(from, offset, &piece))) };
                self.keep(from, offset, &piece);
                let data = self.pieces.lock().remove(&from).unwrap_or_default();
                Box::pin(async move {
                    let snapshot = Snapshot { meta: end.1, snapshot: Box::new(data) };
                    install(&shared, end.0, snapshot).await
                })
            }
            request => Box::pin(async move { answer(&shared, from, address, request).await }),
        }
    }

    fn subscribe(&self, from: NodeId, request: Request, publisher: Publisher) -> Answering<()> {
        let shared = self.shared.upgrade();
        Box::pin(async move {
            if let (Some(shared), Request::Follow { after }) = (shared, request)
                && let Err(error) = follow::lead_on(shared, after, publisher).await
            {
                tracing::debug!(%from, %error, "a follower is gone");
            }
        })
    }

    fn datagram(&self, from: NodeId, body: &[u8]) {
        if let Some(shared) = self.shared.upgrade() {
            gossip::received(&shared, from, body);
        }
    }

    fn recovered(&self, later: u64) {
        if let Some(shared) = self.shared.upgrade() {
            recovered::meet(&shared, later);
        }
    }

    fn kept_out(&self, why: &str) {
        let Some(shared) = self.shared.upgrade() else { return };
        if shared.over.borrow().is_none() {
            tracing::error!(why, "this host is kept out of the convention");
            shared.over.send_replace(Some(Over::NotMember));
        }
    }

    fn way_to(&self, node: NodeId) -> Option<(String, Boot)> {
        let shared = self.shared.upgrade()?;
        let known = shared.copies.read(|directory| {
            let member = directory.member(node).filter(|member| member.standing == Standing::In)?;
            Some((member.address.clone(), member.boot))
        });
        known.or_else(|| {
            let peers = shared.data.belonging()?.peers;
            peers.into_iter().find(|peer| peer.node == node).map(|peer| (peer.address, Boot(0)))
        })
    }
}

impl Server {
    fn keep(&self, from: NodeId, offset: u64, piece: &[u8]) -> Reply {
        let mut pieces = self.pieces.lock();
        let kept = pieces.entry(from).or_default();
        // A piece at the beginning starts anew; a repeated one replaces what it repeats.
        kept.truncate(offset as usize);
        kept.extend_from_slice(piece);
        Reply::Piece
    }

    /// Whether a member may connect. One that the copy does not know yet has just joined: its certificate says so.
    pub(crate) fn admits(&self, node: NodeId) -> Result<(), String> {
        let Some(shared) = self.shared.upgrade() else { return Err("the agent is stopping".into()) };
        shared.copies.read(|directory| match directory.member(node).map(|member| member.standing) {
            Some(Standing::Evicted) => Err("this host was evicted".into()),
            Some(Standing::Left) => Err("this host has left the convention: join it again with a token".into()),
            Some(Standing::In) | None => Ok(()),
        })
    }
}

async fn answer(shared: &Arc<Shared>, from: NodeId, address: SocketAddr, request: Request) -> Reply {
    match request {
        Request::Peer(request) => Reply::Peer(answer_peer(shared, from, address, request).await),
        Request::Join(attempt) => Reply::Joined(Box::new(admission::admit(shared, *attempt).await)),
        Request::WhoLeads => Reply::Leader(shared.leadership()),
        Request::Certify(request) => certify(shared, from, &request),
        Request::Stand => stand(shared),
        Request::About => Reply::About(doctor::about(shared)),
        Request::DialBack => doctor::dial_back(shared, from).await,
        Request::Append(_) | Request::Vote(_) => answer_raft(shared, request).await,
        Request::Snapshot { .. } | Request::Follow { .. } => Reply::Refused("that is asked in another way".into()),
    }
}

fn no_voter() -> Reply {
    Reply::Refused("this agent is no voter".into())
}

async fn answer_raft(shared: &Shared, request: Request) -> Reply {
    let Some(group) = &shared.group else { return no_voter() };
    let refused = |error: &dyn Display| Reply::Refused(error.to_string());
    match request {
        Request::Append(rpc) => {
            let answer = group.raft.append_entries(rpc).await;
            if answer.is_ok() {
                *shared.fed.lock() = Some(Instant::now());
            }
            answer.map_or_else(|error| refused(&error), Reply::Append)
        }
        Request::Vote(rpc) => group.raft.vote(rpc).await.map_or_else(|error| refused(&error), Reply::Vote),
        _ => Reply::Refused("that is not for the Raft group".into()),
    }
}

async fn install(shared: &Shared, vote: super::store::Vote, snapshot: Snapshot<super::store::TypeConfig>) -> Reply {
    let Some(group) = &shared.group else { return no_voter() };
    // Its own start is about to be refused, in words; Raft would take a snapshot that does not read for a broken disk.
    if super::store::level_of(&snapshot.snapshot).is_some_and(|level| level > shared.feature_level) {
        return Reply::Refused("the snapshot is of a later feature level".into());
    }
    match group.raft.install_full_snapshot(vote, snapshot).await {
        Ok(response) => Reply::Snapshot(response.vote),
        Err(error) => Reply::Refused(error.to_string()),
    }
}

/// Signs the asker's key again, if it belongs.
fn certify(shared: &Shared, from: NodeId, request: &[u8]) -> Reply {
    let Some(group) = &shared.group else { return no_voter() };
    let machine = group.machine.read();
    match sign(&machine.directory, from, request) {
        Some(leaf) => {
            Reply::Certified { leaf, roots: shared.identity.roots().iter().map(|root| root.to_vec()).collect() }
        }
        None => Reply::Refused("this agent cannot sign certificates now".into()),
    }
}

fn sign(directory: &Directory, node: NodeId, request: &[u8]) -> Option<Vec<u8>> {
    let member = directory.member(node).filter(|member| member.standing == Standing::In)?;
    let key = PublicKey::from_request(request).ok().filter(|key| key.hash() == member.key_hash)?;
    let leaf = authority(directory)?.issue(&key, wall()).ok()?;
    Some(leaf.to_vec())
}

/// The leader stops: this agent stands for election as soon as the others may vote for it.
fn stand(shared: &Shared) -> Reply {
    let Some(group) = shared.group.clone() else { return no_voter() };
    tokio::spawn(async move {
        sleep(TIMING.election_max + TIMING.heartbeat).await;
        drop(group.raft.trigger().elect().await);
    });
    Reply::Done
}

async fn answer_peer(shared: &Arc<Shared>, from: NodeId, address: SocketAddr, request: PeerRequest) -> PeerReply {
    match request {
        PeerRequest::Propose(commands) => propose(shared, from, address, commands).await,
        PeerRequest::ReadName(name) => match shared.confirm().await {
            Ok(()) => read_name(shared, &name),
            Err(hint) => PeerReply::NotLeader(hint),
        },
        PeerRequest::Renew(renewal) if renewal.node == from => match shared.leading.renew(shared, renewal).await {
            Some(answer) => PeerReply::Renewed(answer),
            None => PeerReply::NotLeader(shared.leader().filter(|leader| *leader != shared.me)),
        },
        PeerRequest::Renew(_) => refused(Reason::Protocol, "a host renews its own lease only"),
        PeerRequest::Facts(digest) => shared.peers.facts().answer(&digest),
        request => match shared.peers.service() {
            Some(service) => service.call(from, request).await,
            None => refused(Reason::Unreachable, "the agent is only starting"),
        },
    }
}

fn read_name(shared: &Shared, name: &str) -> PeerReply {
    let read = |directory: &Directory| directory.name(name).cloned().map(Box::new);
    PeerReply::Name(shared.group.as_ref().and_then(|group| read(&group.machine.read().directory)))
}

fn refused(reason: Reason, text: &str) -> PeerReply {
    PeerReply::Refused(Refusal { reason, text: text.into() })
}

async fn propose(shared: &Shared, from: NodeId, address: SocketAddr, mut commands: Vec<Command>) -> PeerReply {
    let Some(group) = shared.group.as_ref().filter(|_| shared.leads()) else {
        return PeerReply::NotLeader(shared.leader().filter(|leader| *leader != shared.me));
    };
    if let Some(command) = commands.iter().find(|command| from != shared.me && !may_propose(from, command)) {
        tracing::warn!(%from, ?command, "an agent proposed what is not its to propose");
        return refused(Reason::Protocol, "that command is not this agent's to propose");
    }
    for command in &mut commands {
        if let Command::BootStarted { address: says, .. } = command {
            *says = seen_address(says, address);
        }
    }
    match proposals::log_here(group, commands).await {
        Ok(answers) => PeerReply::Answers(answers),
        Err(hint) => PeerReply::NotLeader(hint),
    }
}

/// Other agents speak for themselves; what concerns everybody is the leader's.
fn may_propose(from: NodeId, command: &Command) -> bool {
    match command {
        Command::BootStarted { node, .. } | Command::Leave { node } => *node == from,
        Command::Claim(claim) => claim.holder.node == from && claim.request.node == from,
        Command::Started { .. } | Command::StartFailed { .. } => true,
        Command::Released { .. } | Command::GivenUp { .. } => true,
        Command::Evict { .. } | Command::RevokeToken { .. } | Command::CreateToken { .. } => true,
        #[cfg(feature = "next-level")]
        Command::Note { .. } => true,
        _ => false,
    }
}
