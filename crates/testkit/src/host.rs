//! One simulated host: its lease, its named actors, its copy of the directory, its facts.
//!
//! It does what an agent does, with the same state machines: claims names, starts and stops their actors, renews its
//! lease, puts its actors to rest when the lease is lost, takes names over, and claims again what the directory says it
//! holds but nobody runs.

use crate::{
    leader::Lead,
    message::{Letter, Message},
};
use odeon_cluster::{
    Directory, Load,
    anti_entropy::Facts,
    capability,
    directory::{Answer, Claim, Command, Declaration, Denied, RequestId},
    lease::{Answered, Holder, Phase, Timing},
};
use odeon_protocol::{
    Boot, Direct, NodeId, Serial, Time,
    control::{OnStop, Policy, WireCodec},
    level::FEATURE_LEVEL,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const PROPOSE_FOR: Duration = Duration::from_secs(5);
const REPEAT_AFTER: Duration = Duration::from_millis(400);
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
const RECONCILE_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) timing: Timing,
    /// Its clock is ahead of the simulation's by this.
    pub(crate) ahead: Duration,
    /// Frozen until then, as by SIGSTOP.
    pub(crate) frozen: Option<Time>,
    pub(crate) copy: Directory,
    pub(crate) facts: Facts,
    pub(crate) holder: Option<Holder>,
    /// The named actors that it runs, with their epochs.
    pub(crate) actors: BTreeMap<Arc<str>, u64>,
    pub(crate) lead: Option<Lead>,
    /// When actors of a lost generation will be at rest.
    pub(crate) rests_at: Option<Time>,
    /// Who leads, as far as it knows.
    pub(crate) leader: NodeId,
    pub(crate) out: Vec<Letter>,
    proposals: BTreeMap<u64, Proposal>,
    next_number: u64,
    follow_at: Time,
    reconcile_at: Time,
}

#[derive(Debug)]
struct Proposal {
    command: Command,
    first: Time,
    last: Option<Time>,
}

/// What a simulated named actor is.
fn declaration(name: &str) -> Declaration {
    Declaration {
        type_name: "sim.actor".into(),
        args: name.as_bytes().to_vec(),
        codec: WireCodec::Key,
        policy: Policy { on_stop: OnStop::Dormant, ..Policy::default() },
        on: None,
        parent: Direct::NONE,
    }
}

impl Host {
    pub(crate) fn new(node: NodeId, timing: Timing, ahead: Duration) -> Self {
        let boot = Boot(1);
        let mut host = Self {
            node,
            boot,
            timing,
            ahead,
            frozen: None,
            copy: Directory::default(),
            facts: Facts::new(node, boot),
            holder: None,
            actors: BTreeMap::new(),
            lead: None,
            rests_at: None,
            leader: NodeId(1),
            out: Vec::new(),
            proposals: BTreeMap::new(),
            next_number: 1,
            follow_at: Time::ZERO,
            reconcile_at: Time::ZERO,
        };
        host.describe();
        host
    }

    /// Its boot is over: it stops its actors and begins anew. Whether it leads does not depend on that.
    fn begin_boot(&mut self) {
        let (lead, copy) = (self.lead.take(), std::mem::take(&mut self.copy));
        self.restart();
        (self.lead, self.copy) = (lead, copy);
        self.know_members();
    }

    /// The process ends and starts anew: nothing but its identity is left.
    pub(crate) fn restart(&mut self) {
        let (boot, leader) = (Boot(self.boot.0 + 1), self.leader);
        *self =
            Self { boot, leader, facts: Facts::new(self.node, boot), ..Self::new(self.node, self.timing, self.ahead) };
        self.describe();
    }

    fn describe(&mut self) {
        let number = format!("number={}", self.node.0);
        let capabilities = capability::collect(capability::parse(&number)).unwrap_or_default();
        self.facts.set_capabilities(&capabilities);
        self.facts.set_types(["sim.actor".into()]);
    }

    pub(crate) fn clock(&self, now: Time) -> Time {
        now + self.ahead
    }

    /// Whether a handler of a named actor may start now.
    pub(crate) fn gate_is_open(&self, now: Time) -> bool {
        let phase = self.holder.as_ref().map(|holder| holder.phase(self.clock(now)));
        self.frozen.is_none() && phase == Some(Phase::Running)
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Letter { from: self.node, to, message });
    }

    pub(crate) fn propose(&mut self, command: Command, now: Time) {
        let number = self.next_number;
        self.next_number += 1;
        self.proposals.insert(number, Proposal { command, first: self.clock(now), last: None });
    }

    /// Asks for a name, unless it is being asked for already.
    pub(crate) fn claim(&mut self, name: Arc<str>, epoch_seen: u64, now: Time) {
        let Some(generation) = self.holder.as_ref().map(Holder::generation) else { return };
        if self.claims(&name) || self.actors.contains_key(&name) {
            return;
        }
        let number = self.next_number;
        let declaration = declaration(&name);
        let holder = Direct { node: self.node, boot: self.boot, serial: Serial(number) };
        let request = RequestId { node: self.node, boot: self.boot, number };
        self.propose(Command::Claim(Claim { request, name, declaration, holder, generation, epoch_seen }), now);
    }

    fn claims(&self, name: &str) -> bool {
        self.proposals
            .values()
            .any(|proposal| matches!(&proposal.command, Command::Claim(claim) if &*claim.name == name))
    }

    /// An actor stops of its own will.
    pub(crate) fn stop(&mut self, name: &Arc<str>, dormant: bool, now: Time) {
        if let Some(epoch) = self.actors.remove(name) {
            self.propose(Command::Released { name: name.clone(), epoch, dormant }, now);
        }
    }

    /// Does what time demands.
    pub(crate) fn tick(&mut self, now: Time) {
        let clock = self.clock(now);
        if self.holder.is_none() && self.proposals.is_empty() {
            let (node, boot, address) = (self.node, self.boot, "sim".to_owned());
            let command = Command::BootStarted { node, boot, address, level: FEATURE_LEVEL };
            self.propose(command, now);
        }
        self.renew(clock);
        self.repeat_proposals(clock);
        if clock >= self.follow_at {
            self.follow_at = clock + FOLLOW_EVERY;
            self.send(self.leader, Message::Follow { version: self.copy.version() });
        }
        if clock >= self.reconcile_at && self.gate_is_open(now) {
            self.reconcile_at = clock + RECONCILE_EVERY;
            self.reconcile(now);
        }
    }

    fn renew(&mut self, clock: Time) {
        let Some(holder) = &mut self.holder else { return };
        if holder.phase(clock) == Phase::Over {
            self.actors.clear();
        }
        if self.rests_at.is_some_and(|at| clock >= at) {
            self.rests_at = None;
            self.actors.clear();
            holder.rested();
        }
        if holder.renew_at().is_some_and(|at| clock >= at) {
            let renewal = holder.renew(clock);
            self.send(self.leader, Message::Renew(renewal));
        }
    }

    fn repeat_proposals(&mut self, clock: Time) {
        self.proposals.retain(|_, proposal| clock < proposal.first + PROPOSE_FOR);
        let mut letters = Vec::new();
        for (number, proposal) in &mut self.proposals {
            if proposal.last.is_none_or(|last| clock >= last + REPEAT_AFTER) {
                proposal.last = Some(clock);
                letters.push(Message::Propose { number: *number, command: proposal.command.clone() });
            }
        }
        for message in letters {
            self.send(self.leader, message);
        }
    }

    /// Claims again what the directory says is here but does not run: its worker was lost, or an answer was.
    fn reconcile(&mut self, now: Time) {
        let lost: Vec<(Arc<str>, u64)> = self
            .copy
            .names_of(self.node)
            .filter(|record| record.holder.is_some_and(|holder| holder.boot == self.boot))
            .filter(|record| !self.actors.contains_key(&record.name))
            .map(|record| (record.name.clone(), record.epoch))
            .collect();
        for (name, epoch) in lost {
            self.claim(name, epoch, now);
        }
        let load = Load { actors: self.actors.len() as u64, ..Load::default() };
        self.facts.set_load(load);
    }

    /// Takes a message that is not for a leader. `rest_for` is how long its actors take to come to rest.
    pub(crate) fn receive(&mut self, letter: Letter, now: Time, rest_for: Duration) {
        match letter.message {
            Message::Answer { number, answer } => self.answered(number, answer, now),
            Message::NotLeader if letter.from == self.leader => self.leader = NodeId(self.leader.0 % 3 + 1),
            Message::Renewed(renewed) => {
                let clock = self.clock(now);
                let Some(holder) = &mut self.holder else { return };
                match holder.answered(renewed, clock) {
                    Answered::Lost => self.rests_at = Some(clock + rest_for),
                    Answered::BootOver => self.begin_boot(),
                    _ => {}
                }
            }
            Message::Steps(steps) => {
                for step in steps {
                    // A gap is filled by the next request.
                    let _ = self.copy.follow(&step);
                }
                self.know_members();
            }
            Message::Snapshot(directory) if directory.version() > self.copy.version() => {
                self.copy = *directory;
                self.know_members();
            }
            Message::Digest(digest) => {
                let delta = self.facts.answer(&digest);
                self.send(letter.from, Message::Facts(delta));
            }
            Message::Facts(delta) => {
                self.facts.take(delta);
            }
            Message::Adopt { name, epoch } => self.claim(name, epoch, now),
            _ => {}
        }
    }

    pub(crate) fn know_members(&mut self) {
        self.facts.set_members(self.copy.hosts().map(|member| member.node));
    }

    fn answered(&mut self, number: u64, answer: Answer, now: Time) {
        let Some(proposal) = self.proposals.remove(&number) else { return };
        match (proposal.command, answer) {
            (Command::BootStarted { .. }, Answer::Booted { generation }) if self.holder.is_none() => {
                self.holder = Some(Holder::new(self.timing, self.node, self.boot, generation));
            }
            (Command::BootStarted { .. }, Answer::Denied(Denied::BootOver { .. })) => self.begin_boot(),
            (Command::Claim(claim), Answer::Granted { epoch }) => {
                // A grant under a lost generation is void: the name is unplaced, or another's by now.
                let holds = self.holder.as_ref().is_some_and(|holder| holder.generation() == claim.generation);
                if holds && self.rests_at.is_none() {
                    self.actors.insert(claim.name.clone(), epoch);
                    self.propose(Command::Started { name: claim.name, epoch }, now);
                }
            }
            _ => {}
        }
    }
}
