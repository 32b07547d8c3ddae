//! Answers the requests of other agents, and this agent's own to itself.

use super::{
    admission,
    handle::Shared,
    peers::Answers,
    proposals,
    raft::Group,
    service::Answering,
    wire::{Reply, Request},
};
use odeon_cluster::directory::Command;
use odeon_protocol::{
    NodeId, Reason,
    control::Refusal,
    peer::{PeerReply, PeerRequest},
};
use openraft::Snapshot;
use std::{
    fmt::Display,
    sync::{Arc, Weak},
};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) shared: Weak<Shared>,
}

impl Answers for Server {
    fn answer(&self, from: NodeId, request: Request) -> Answering<Reply> {
        let Some(shared) = self.shared.upgrade() else {
            return Box::pin(async { Reply::Refused("the agent is stopping".into()) });
        };
        Box::pin(async move { answer(&shared, from, request).await })
    }
}

async fn answer(shared: &Arc<Shared>, from: NodeId, request: Request) -> Reply {
    match request {
        Request::Peer(request) => Reply::Peer(answer_peer(shared, from, request).await),
        Request::Join(attempt) => Reply::Joined(Box::new(admission::admit(shared, *attempt).await)),
        Request::Append(_) | Request::Vote(_) | Request::Snapshot { .. } => answer_raft(shared, request).await,
    }
}

async fn answer_raft(shared: &Shared, request: Request) -> Reply {
    let Some(group) = &shared.group else { return Reply::Refused("this agent is no voter".into()) };
    let refused = |error: &dyn Display| Reply::Refused(error.to_string());
    match request {
        Request::Append(rpc) => {
            group.raft.append_entries(rpc).await.map_or_else(|error| refused(&error), Reply::Append)
        }
        Request::Vote(rpc) => group.raft.vote(rpc).await.map_or_else(|error| refused(&error), Reply::Vote),
        Request::Snapshot { vote, meta, data } => {
            let snapshot = Snapshot { meta, snapshot: Box::new(data) };
            let installed = group.raft.install_full_snapshot(vote, snapshot).await;
            installed.map_or_else(|error| refused(&error), |response| Reply::Snapshot(response.vote))
        }
        _ => Reply::Refused("that is not for the Raft group".into()),
    }
}

async fn answer_peer(shared: &Arc<Shared>, from: NodeId, request: PeerRequest) -> PeerReply {
    match request {
        PeerRequest::Propose(commands) => propose(shared, from, commands).await,
        PeerRequest::ReadName(name) => match confirm(shared).await {
            Ok(group) => PeerReply::Name(group.machine.read().directory.name(&name).cloned().map(Box::new)),
            Err(hint) => PeerReply::NotLeader(hint),
        },
        request => match shared.peers.service() {
            Some(service) => service.call(from, request).await,
            None => refused(Reason::Unreachable, "the agent is only starting"),
        },
    }
}

/// This agent's group, once a majority has confirmed that it leads; else who might.
async fn confirm(shared: &Shared) -> Result<&Group, Option<NodeId>> {
    let (Some(group), Some(confirmations)) = (&shared.group, &shared.confirmations) else {
        return Err(shared.leader());
    };
    confirmations.confirm().await?;
    Ok(group)
}

fn refused(reason: Reason, text: &str) -> PeerReply {
    PeerReply::Refused(Refusal { reason, text: text.into() })
}

async fn propose(shared: &Shared, from: NodeId, commands: Vec<Command>) -> PeerReply {
    let Some(group) = shared.group.as_ref().filter(|_| shared.leads()) else {
        return PeerReply::NotLeader(shared.leader().filter(|leader| *leader != shared.me));
    };
    if let Some(command) = commands.iter().find(|command| from != shared.me && !may_propose(from, command)) {
        tracing::warn!(%from, ?command, "an agent proposed what is not its to propose");
        return refused(Reason::Protocol, "that command is not this agent's to propose");
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
        Command::Started { .. } | Command::StartFailed { .. } | Command::Released { .. } => true,
        Command::Evict { .. } | Command::RevokeToken { .. } | Command::CreateToken { .. } => true,
        _ => false,
    }
}
