//! What runs on the convention's thread from its start to its end.

use super::{
    ProposeError, certificates, facts, follow, gossip,
    handle::Over,
    leader, lease,
    proposals::{self, Proposal},
    seek,
    shared::Shared,
    token_out,
    wire::{Reply, Request},
};
use crate::{
    config::Config,
    identity::{Belonging, Peer},
};
use odeon_cluster::{
    directory::{Answer, Command, Convention, Denied, Directory, Joiner, Role, Secret, Standing},
    voters::size,
};
use odeon_protocol::NodeId;
use odeon_transport::quic::Kind;
use openraft::{EmptyNode, RaftMetrics};
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Between two attempts to be known by the directory.
const RETRY: Duration = Duration::from_millis(200);
/// For the data links to deliver what was sent, at the agent's end.
const DRAIN: Duration = Duration::from_secs(1);
/// For another voter to be elected while the leader stops: an election's times, twice.
const HAND_OVER: Duration = Duration::from_secs(2);
/// Between two looks at who belongs.
const LOOK: Duration = Duration::from_secs(1);
/// How long an agent whose vote is wanted waits for it before it calls itself ready.
const VOTE: Duration = Duration::from_secs(15);

/// Runs everything until the agent stops, then ends it in order.
pub(crate) async fn run(shared: Arc<Shared>, config: Config, queue: mpsc::Receiver<Proposal>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(proposals::run(shared.clone(), queue));
    tasks.spawn(follow::follow(shared.clone()));
    tasks.spawn(seek::seek(shared.clone(), config.join.clone()));
    tasks.spawn(gossip::run(shared.clone()));
    tasks.spawn(facts::spread(shared.clone()));
    tasks.spawn(certificates::keep(shared.clone(), config.join.clone()));
    tasks.spawn(look_after(shared.clone()));
    if let Some(group) = shared.group.clone() {
        tasks.spawn(leader::run(shared.clone(), group));
    }
    for (role, file) in &config.token_out {
        match role.parse::<Role>() {
            Ok(role) => drop(tasks.spawn(token_out::keep(shared.clone(), role, file.clone()))),
            Err(error) => tracing::error!(error, "a token file"),
        }
    }
    tasks.spawn(arrive(shared.clone()));
    let tended = shared.clone();
    let links = shared.peers.runtime_of(Kind::Data).spawn(async move {
        tended.peers.links.tend(|node, boot| tended.may_live(node, boot)).await;
    });
    until_stopped(&shared, &mut tasks).await;
    links.abort();
    gossip::leave(&shared);
    hand_over(&shared).await;
    shared.peers.links.drain(DRAIN).await;
    tasks.shutdown().await;
    if let Some(group) = &shared.group {
        group.log.await_no_room();
        drop(group.raft.shutdown().await);
        group.log.close().await;
    }
    shared.data.close();
    shared.peers.forget_service();
    shared.peers.endpoint.close("the agent stops").await;
}

/// Returns when the agent is to stop. A task that fails before, or a log that cannot be written, is its end, too.
async fn until_stopped(shared: &Shared, tasks: &mut JoinSet<()>) {
    let log_fails = async {
        let Some(group) = &shared.group else { return std::future::pending().await };
        let mut metrics = group.raft.metrics();
        drop(metrics.wait_for(|now| now.running_state.is_err()).await);
    };
    let task_fails = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                return tracing::error!(%error, "a task of the convention has failed");
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = shared.stop.cancelled() => return,
        () = log_fails => tracing::error!("the directory's log has failed"),
        () = task_fails => {}
    }
    shared.over.send_replace(Some(Over::Failed));
    shared.stop.cancelled().await;
}

/// A leader that stops has another voter elected first, so that names are granted on without a pause.
async fn hand_over(shared: &Shared) {
    let Some(group) = shared.group.as_ref().filter(|_| shared.leads()) else { return };
    group.raft.runtime_config().elect(false);
    let mut metrics = group.raft.metrics();
    let voters = candidates(shared, &metrics.borrow());
    for voter in voters {
        if !matches!(shared.peers.ask_connected(voter, &Request::Stand, RETRY).await, Ok(Reply::Done)) {
            continue;
        }
        // It is elected once the others have missed this leader; until then they are fed no more.
        group.raft.runtime_config().heartbeat(false);
        let another = metrics.wait_for(|now| now.current_leader.is_some_and(|leader| leader != shared.me.0));
        match timeout(HAND_OVER, another).await {
            Ok(_) => tracing::info!("another host leads now"),
            Err(_) => tracing::info!("this agent stops before another leads"),
        }
        return;
    }
}

/// The other voters, whoever has most of the log first: it is elected before those that lack some of it.
fn candidates(shared: &Shared, metrics: &RaftMetrics<u64, EmptyNode>) -> Vec<NodeId> {
    let has = |node: NodeId| metrics.replication.as_ref().and_then(|all| all.get(&node.0).copied().flatten());
    let mut voters: Vec<NodeId> = shared.voters().into_iter().filter(|voter| *voter != shared.me).collect();
    voters.sort_by_key(|voter| Reverse(has(*voter)));
    voters
}

/// Has this boot known to the directory, then holds its lease.
async fn arrive(shared: Arc<Shared>) {
    if let Err(error) = found(&shared).await {
        tracing::error!(%error, "the convention's directory cannot be founded");
        return;
    }
    tracing::debug!("the directory is founded");
    let Some(generation) = be_known(&shared).await else { return };
    tracing::debug!(generation, "this boot is known");
    tokio::spawn(follow_lease(shared.clone(), generation));
    let mut lease = shared.lease.subscribe();
    drop(lease.wait_for(|lease| lease.pause_at > super::now()).await);
    tracing::debug!("this boot holds a lease");
    let mut changes = shared.copies.changes();
    while shared.copies.read(|directory| directory.member(shared.me).is_none_or(|me| me.boot != shared.boot)) {
        if changes.changed().await.is_err() {
            return;
        }
    }
    drop(timeout(VOTE, vote_counts(&shared)).await);
    tracing::info!("this agent has its place in the convention");
    super::facts::catch_up(&shared).await;
    shared.ready.send_replace(true);
}

async fn follow_lease(shared: Arc<Shared>, generation: u64) {
    let stop = shared.stop.clone();
    tokio::select! {
        () = lease::hold(shared, generation) => {}
        () = stop.cancelled() => {}
    }
}

/// Tells a new group of this boot, in case that it was begun without knowing it.
pub(crate) async fn be_known_again(shared: Arc<Shared>) {
    tokio::select! {
        generation = be_known(&shared) => tracing::debug!(?generation, "this boot is known again"),
        () = shared.stop.cancelled() => {}
    }
}

/// The generation to renew under; nothing if the convention does not know this agent.
async fn be_known(shared: &Shared) -> Option<u64> {
    loop {
        let address = shared.says_address();
        let (node, boot, level) = (shared.me, shared.boot, shared.feature_level);
        let command = Command::BootStarted { node, boot, address, level };
        match shared.proposals.propose(command).await {
            Ok(Answer::Booted { generation }) => return Some(generation),
            Ok(answer) => tracing::warn!(?answer, "an unexpected answer to this agent's start"),
            Err(ProposeError::Denied(denied)) => {
                tracing::error!(%denied, "the convention does not let this agent in");
                shared.over.send_replace(Some(match denied {
                    Denied::BootOver { .. } => Over::BootOver,
                    Denied::Outdated { has, needs, .. } => Over::Outdated { has, needs },
                    _ => Over::NotMember,
                }));
                return None;
            }
            Err(error) => tracing::info!(why = %error, "waiting for the convention's leader"),
        }
        sleep(RETRY).await;
    }
}

/// Waits while this agent's arrival makes three or five voters of fewer.
async fn vote_counts(shared: &Shared) {
    if shared.group.is_none() {
        return;
    }
    loop {
        let candidates = shared
            .copies
            .read(|directory| directory.hosts().filter(|host| host.role == Role::Voter && !host.dead).count());
        let voters = shared.voters();
        let votes = voters.contains(&shared.me) && shared.copies.is_by_log() && voters.len() > 1;
        if (votes || voters.len() >= size(candidates)) && shared.voters_are_settled() {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Makes the first entry of a convention that this agent has just formed.
async fn found(shared: &Shared) -> Result<(), String> {
    let Some((group, belonging)) = shared.group.as_ref().zip(shared.data.belonging()) else { return Ok(()) };
    let Some(authority) = belonging.authority.clone().filter(|_| belonging.formed) else { return Ok(()) };
    if group.log.is_pristine() {
        group.raft.initialize(BTreeSet::from([shared.me.0])).await.map_err(|error| error.to_string())?;
    }
    let command = Command::Found {
        convention: Convention { id: shared.convention, ca_cert: belonging.roots.first().cloned().unwrap_or_default() },
        ca_key: Secret(authority.into_bytes()),
        founder: founder(shared),
    };
    loop {
        match proposals::log_here(group, vec![command.clone()]).await {
            Ok(answers) => match answers.into_iter().next() {
                Some(Answer::Admitted(_)) => break,
                other => return Err(format!("{other:?}")),
            },
            // Several voters by now: it was founded long ago.
            Err(Some(leader)) if leader != shared.me => break,
            Err(_) => sleep(RETRY).await,
        }
    }
    // The directory has the authority's key from now on.
    let change = |kept: &mut Option<Belonging>| {
        if let Some(kept) = kept {
            (kept.authority, kept.raft) = (None, true);
        }
    };
    shared.data.update(change).map_err(|error| error.to_string())
}

fn founder(shared: &Shared) -> Joiner {
    Joiner {
        node: shared.me,
        key_hash: shared.identity.key().public().hash(),
        name: shared.data.host().to_owned(),
        address: shared.own_address(),
        boot: shared.boot,
        role: Role::Voter,
        witness: shared.witness,
        level: shared.feature_level,
    }
}

/// Closes connections of those who do not belong any more, and remembers where the others are.
async fn look_after(shared: Arc<Shared>) {
    let mut changes = shared.copies.changes();
    loop {
        drop(timeout(LOOK, changes.changed()).await);
        // Who was evicted hears of it before its connections are closed.
        sleep(LOOK / 2).await;
        shared.peers.weed(|node| {
            shared.copies.read(|directory| directory.member(node).is_none_or(|member| member.standing == Standing::In))
        });
        let left = shared.copies.read(|directory| directory.member(shared.me).map(|me| me.standing));
        if left.is_some_and(|standing| standing != Standing::In) && shared.over.borrow().is_none() {
            shared.over.send_replace(Some(Over::NotMember));
        }
        remember(&shared);
    }
}

/// Writes the ways to the voters down, if they are others than before, and that the log was begun.
fn remember(shared: &Shared) {
    let Some(belonging) = shared.data.belonging() else { return };
    let of = |directory: &Directory| -> Vec<Peer> {
        let hosts = directory.hosts().filter(|host| host.role == Role::Voter && host.node != shared.me && !host.dead);
        hosts.map(|host| Peer { node: host.node, address: host.address.clone() }).collect()
    };
    let peers = shared.copies.read(of);
    let raft = belonging.raft || shared.group.as_ref().is_some_and(|group| !group.log.is_pristine());
    let peers = if peers.is_empty() { belonging.peers.clone() } else { peers };
    if peers == belonging.peers && raft == belonging.raft {
        return;
    }
    let change = |kept: &mut Option<Belonging>| {
        if let Some(kept) = kept {
            (kept.peers, kept.raft) = (peers, raft);
        }
    };
    if let Err(error) = shared.data.update(change) {
        tracing::warn!(%error, "the other members' addresses cannot be kept");
    }
}
