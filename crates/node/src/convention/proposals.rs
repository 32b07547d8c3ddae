//! Proposals: gathered into batches, logged here if this agent leads, else handed to the leader.
//!
//! - **P-1.** One batch is in flight at a time, so commands of one agent are carried out in the order of their proposal.
//! - **P-2.** Every proposal is answered within [`PROPOSE_WAIT`].
//! - **P-3.** A batch is repeated unchanged while leaders change; repetitions are harmless by the commands' own numbers
//!   (claims: request id; the others: epoch, boot, generation).
//! - **P-4.** The commands of a batch are of one feature level. Above the directory's level they are logged once it is
//!   raised, which the directory decides; a leader that could not read them is not asked.

use super::{
    error::ProposeError,
    raft::Group,
    shared::Shared,
    store::{Answers, Batch},
    wire::{Reply, Request},
};
use odeon_cluster::directory::{Answer, Command, Denied, NameRecord};
use odeon_protocol::{
    NodeId,
    level::FIRST_LEVEL,
    limits::{BATCH_MAX, CONTROL_BYTES_MAX},
    peer::{PeerReply, PeerRequest},
};
use openraft::error::{ClientWriteError, RaftError};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

/// From a proposal to its answer.
pub(crate) const PROPOSE_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts while there is no leader.
const RETRY: Duration = Duration::from_millis(50);
/// For one attempt: a leader that is cut off would never answer.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Bytes of one batch, about.
const BATCH_BYTES: usize = CONTROL_BYTES_MAX / 4;
/// Proposals waiting for the next batch.
const QUEUE: usize = 4 * BATCH_MAX;

/// Where proposals are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Proposals {
    queue: mpsc::Sender<Proposal>,
}

#[derive(Debug)]
pub(crate) struct Proposal {
    command: Command,
    until: Instant,
    answer: oneshot::Sender<Result<Answer, ProposeError>>,
}

impl Proposals {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Proposal>) {
        let (queue, proposals) = mpsc::channel(QUEUE);
        (Self { queue }, proposals)
    }

    pub(crate) async fn propose(&self, command: Command) -> Result<Answer, ProposeError> {
        let until = Instant::now() + PROPOSE_WAIT;
        let (answer, wait) = oneshot::channel();
        let handed_in = timeout_at(until, self.queue.send(Proposal { command, until, answer })).await;
        handed_in.map_err(|_| ProposeError::NoQuorum)?.map_err(|_| ProposeError::Stopping)?;
        wait.await.map_err(|_| ProposeError::Stopping)?
    }
}

/// Runs until the agent stops.
pub(crate) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Proposal>) {
    let mut gathered = VecDeque::with_capacity(BATCH_MAX);
    let mut taken = Vec::with_capacity(BATCH_MAX);
    loop {
        if gathered.is_empty() {
            if queue.recv_many(&mut taken, BATCH_MAX).await == 0 {
                return;
            }
            gathered.extend(taken.drain(..));
        }
        let mut batch = next_batch(&mut gathered);
        let Some(until) = batch.iter().map(|proposal| proposal.until).max() else { continue };
        let commands = Arc::new(batch.iter().map(|proposal| proposal.command.clone()).collect());
        match decide(&shared, commands, until).await {
            Ok(answers) => {
                for (proposal, answer) in batch.drain(..).zip(answers) {
                    drop(proposal.answer.send(denied_as_error(answer)));
                }
            }
            Err(error) => batch.into_iter().for_each(|proposal| drop(proposal.answer.send(Err(error.clone())))),
        }
    }
}

/// The next proposals that somebody still waits for, as many as one message may hold.
fn next_batch(gathered: &mut VecDeque<Proposal>) -> Vec<Proposal> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(proposal) = gathered.pop_front() {
        if proposal.answer.is_closed() {
            continue;
        }
        bytes += bytes_of(&proposal.command);
        let first = batch.first().map(|first: &Proposal| first.command.level());
        if first.is_some_and(|level| bytes > BATCH_BYTES || level != proposal.command.level()) {
            gathered.push_front(proposal);
            break;
        }
        batch.push(proposal);
    }
    batch
}

/// Only claims are large.
fn bytes_of(command: &Command) -> usize {
    match command {
        Command::Claim(claim) => 1024 + claim.declaration.args.len() + claim.declaration.policy.requires.len(),
        _ => 1024,
    }
}

fn denied_as_error(answer: Answer) -> Result<Answer, ProposeError> {
    match answer {
        Answer::Denied(denied) => Err(denied.into()),
        answer => Ok(answer),
    }
}

/// A leader's own start says where it is, as nobody else sees it for it; it may have been said before this agent led.
fn with_own_address(shared: &Shared, commands: &Arc<Vec<Command>>) -> Arc<Vec<Command>> {
    let own = |command: &Command| matches!(command, Command::BootStarted { node, .. } if *node == shared.me);
    if !commands.iter().any(own) {
        return commands.clone();
    }
    let said = |command: &Command| match command {
        Command::BootStarted { node, boot, level, .. } if *node == shared.me => {
            Command::BootStarted { node: *node, boot: *boot, address: shared.own_address(), level: *level }
        }
        other => other.clone(),
    };
    Arc::new(commands.iter().map(said).collect())
}

async fn decide(shared: &Shared, commands: Arc<Vec<Command>>, until: Instant) -> Result<Vec<Answer>, ProposeError> {
    loop {
        let attempt = (Instant::now() + ATTEMPT).min(until);
        let leader = shared.leader();
        if let Err(denied) = leader_understands(shared, leader, level_of(&commands)) {
            return Ok(vec![Answer::Denied(denied); commands.len()]);
        }
        let outcome = match &shared.group {
            Some(group) if leader.is_none_or(|leader| leader == shared.me) => {
                log(group, with_own_address(shared, &commands), attempt).await
            }
            _ => forward(shared, leader, &commands, attempt).await,
        };
        match outcome {
            Ok(answers) => return Ok(answers),
            Err(hint) => shared.hint_leader(hint),
        }
        if Instant::now() + RETRY >= until {
            return Err(ProposeError::NoQuorum);
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            () = shared.stop.cancelled() => return Err(ProposeError::Stopping),
        }
    }
}

fn level_of(commands: &[Command]) -> u16 {
    commands.iter().map(Command::level).max().unwrap_or(FIRST_LEVEL)
}

/// A leader of a lower level could not even read the proposal, to say why it is refused.
fn leader_understands(shared: &Shared, leader: Option<NodeId>, level: u16) -> Result<(), Denied> {
    let Some(leader) = leader.filter(|_| level > FIRST_LEVEL) else { return Ok(()) };
    let voters = shared.voters();
    shared.copies.read(|directory| match directory.member(leader) {
        Some(member) if member.level < level => directory.all_understand(level, &voters),
        _ => Ok(()),
    })
}

/// Logs what another agent proposes, if this agent leads.
pub(crate) async fn log_here(group: &Group, commands: Vec<Command>) -> Result<Vec<Answer>, Option<NodeId>> {
    log(group, Arc::new(commands), Instant::now() + ATTEMPT).await
}

/// Logs a batch if this agent leads, and before it that it may be logged; else says who might.
async fn log(group: &Group, commands: Arc<Vec<Command>>, until: Instant) -> Result<Vec<Answer>, Option<NodeId>> {
    let level = level_of(&commands);
    let is_above = level > group.machine.read().directory.level();
    if is_above {
        let voters = group.voters().into_iter().collect();
        let answers = write(group, Arc::new(vec![Command::RaiseLevel { level, voters }]), until).await?;
        if let Some(Answer::Denied(denied)) = answers.into_iter().next() {
            return Ok(vec![Answer::Denied(denied); commands.len()]);
        }
    }
    write(group, commands, until).await
}

async fn write(group: &Group, commands: Arc<Vec<Command>>, until: Instant) -> Result<Vec<Answer>, Option<NodeId>> {
    match timeout_at(until, group.raft.client_write(Batch(commands))).await {
        Ok(Ok(written)) => {
            let Answers(answers) = written.data;
            Ok(answers)
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => Err(forward.leader_id.map(NodeId)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the directory's log takes no proposals");
            Err(None)
        }
        Err(_) => Err(None),
    }
}

async fn forward(
    shared: &Shared,
    leader: Option<NodeId>,
    commands: &Arc<Vec<Command>>,
    until: Instant,
) -> Result<Vec<Answer>, Option<NodeId>> {
    let Some(leader) = leader.filter(|leader| *leader != shared.me) else { return Err(None) };
    let request = Request::Peer(PeerRequest::Propose(commands.as_ref().clone()));
    let within = until.saturating_duration_since(Instant::now());
    match shared.peers.ask(leader, request, within).await {
        Ok(Reply::Peer(PeerReply::Answers(answers))) if answers.len() == commands.len() => Ok(answers),
        Ok(Reply::Peer(PeerReply::NotLeader(hint))) => Err(hint),
        _ => Err(None),
    }
}

/// A name as the leader knows it.
pub(crate) async fn read_name(shared: &Shared, name: &str) -> Result<Option<NameRecord>, ProposeError> {
    let until = Instant::now() + PROPOSE_WAIT;
    loop {
        if let Some(leader) = shared.leader() {
            let within = ATTEMPT.min(until.saturating_duration_since(Instant::now()));
            let request = Request::Peer(PeerRequest::ReadName(name.into()));
            match shared.peers.ask(leader, request, within).await {
                Ok(Reply::Peer(PeerReply::Name(record))) => return Ok(record.map(|record| *record)),
                Ok(Reply::Peer(PeerReply::NotLeader(hint))) => shared.hint_leader(hint),
                _ => shared.hint_leader(None),
            }
        }
        if Instant::now() + RETRY >= until {
            return Err(ProposeError::NoQuorum);
        }
        sleep(RETRY).await;
    }
}

#[cfg(all(test, feature = "next-level"))]
mod tests {
    use super::*;

    /// So that a command which has to wait for hosts takes no other with it.
    #[tokio::test]
    async fn a_batch_is_of_one_feature_level() {
        let (mut gathered, mut waits) = (VecDeque::new(), Vec::new());
        let (old, new) = (Command::Leave { node: NodeId(1) }, Command::Note { text: "n".to_owned() });
        for command in [&old, &old, &new, &old] {
            let (answer, wait) = oneshot::channel();
            gathered.push_back(Proposal { command: command.clone(), until: Instant::now(), answer });
            waits.push(wait);
        }
        let batches = std::iter::from_fn(|| Some(next_batch(&mut gathered).len()).filter(|length| *length > 0));
        assert_eq!(batches.collect::<Vec<_>>(), [2, 1, 1]);
    }
}
