//! The agents, the directory whose changes are on their way to them, and what happens when.

use super::{Wrong, agent::Agent};
use crate::Random;
use odeon_cluster::{Liveness, gossip::Datagram};
use odeon_protocol::{Boot, NodeId, Time};
use std::{collections::BTreeMap, time::Duration};

/// The first hosts, which every agent has a connection to; they stay.
const VOTERS: usize = 3;
/// How long a change of the directory is on its way to an agent at most, in milliseconds.
const LEARN: u64 = 500;
/// From an agent's start until it asks the others for their facts.
const CATCH_UP: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) enum Event {
    Tick,
    Learn,
    Second(Boot),
    CatchUp,
    Announce,
    Datagram(Vec<u8>),
    Ask(NodeId, Vec<u8>),
    Answer(Vec<u8>),
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) agents: BTreeMap<NodeId, Agent>,
    /// The directory: who belongs.
    pub(super) members: BTreeMap<NodeId, Boot>,
    pub(super) voters: Vec<NodeId>,
    pub(super) wrong: Wrong,
    /// A sum over everything that happened, in order.
    pub(super) sum: u64,
    due: BTreeMap<(Time, u64), (NodeId, Event)>,
    number: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Time::from_nanos(1),
            random: Random::new(seed),
            agents: BTreeMap::new(),
            members: BTreeMap::new(),
            voters: Vec::new(),
            wrong: Wrong::default(),
            sum: 0,
            due: BTreeMap::new(),
            number: 0,
        }
    }

    /// A new host joins.
    pub(super) fn join(&mut self) {
        let node = NodeId(self.random.number());
        if self.voters.len() < VOTERS {
            self.voters.push(node);
        }
        self.start(node, Boot(1));
    }

    /// An agent starts: the directory says so, and it follows the directory.
    pub(super) fn start(&mut self, node: NodeId, boot: Boot) {
        self.agents.insert(node, Agent::new(node, boot, self.now, self.random.number()));
        for voter in self.voters.clone() {
            self.connect(node, voter, self.now);
        }
        self.members.insert(node, boot);
        self.directory_changed();
        let phase = Duration::from_micros(self.random.below(1_000_000));
        self.at(self.now + phase, node, Event::Second(boot));
        self.at(self.now + CATCH_UP, node, Event::CatchUp);
    }

    /// An agent is gone without a word.
    pub(super) fn kill(&mut self, node: NodeId) {
        self.agents.remove(&node);
        for agent in self.agents.values_mut() {
            agent.links.remove(&node);
        }
    }

    /// A host leaves.
    pub(super) fn leave(&mut self, node: NodeId) {
        if let Some(agent) = self.agents.get_mut(&node) {
            agent.gossip.leave(self.now);
        }
        self.post(node);
        self.kill(node);
        self.members.remove(&node);
        self.directory_changed();
    }

    fn directory_changed(&mut self) {
        let learn = |agent: &mut Agent| (!std::mem::replace(&mut agent.learns, true)).then_some(agent.node);
        let learners: Vec<NodeId> = self.agents.values_mut().filter_map(learn).collect();
        for node in learners {
            let after = Duration::from_millis(5 + self.random.below(LEARN));
            self.at(self.now + after, node, Event::Learn);
        }
    }

    pub(super) fn at(&mut self, at: Time, node: NodeId, event: Event) {
        self.number += 1;
        self.due.insert((at, self.number), (node, event));
    }

    /// Lets so much time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, number), (node, event)) = entry.remove_entry();
            self.now = at;
            self.sum = self.sum.rotate_left(5) ^ number ^ node.0 ^ at.since(Time::ZERO).as_nanos() as u64;
            self.happen(node, event);
            self.post(node);
        }
        self.now = end;
    }

    fn happen(&mut self, node: NodeId, event: Event) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&node) else { return };
        match event {
            Event::Tick => {
                agent.tick_at = None;
                agent.gossip.tick(now);
                self.judge(node);
            }
            Event::Learn => agent.learn(&self.members, now),
            Event::Second(boot) if boot == agent.boot => self.second(node),
            Event::Second(_) => {}
            Event::CatchUp => self.catch_up(node),
            Event::Announce => self.announce(node),
            Event::Datagram(body) => {
                let of = agent.receive(&body, now);
                self.judge(node);
                of.into_iter().for_each(|of| self.ask(node, of));
            }
            Event::Ask(from, digest) => {
                let delta = agent.answer(&digest);
                self.reliably(node, from, Event::Answer(delta));
            }
            Event::Answer(delta) => agent.take(&delta),
        }
    }

    /// Counts what an agent newly thinks of others, and newly heard that others thought of it, and should not.
    fn judge(&mut self, node: NodeId) {
        let Some(agent) = self.agents.get_mut(&node) else { return };
        let (suspicions, found_down) = agent.news();
        let lossy = agent.loss > 0;
        let evictions = if lossy { &mut self.wrong.evictions_of_lossy } else { &mut self.wrong.evictions };
        *evictions += found_down;
        if suspicions == 0 {
            return;
        }
        let suspects = agent.gossip.states().into_iter().filter(|(_, state)| *state == Liveness::Suspect);
        let healthy = suspects.filter(|(of, _)| self.is_healthy(*of)).count() as u64;
        let count = if lossy { &mut self.wrong.suspicions_by_lossy } else { &mut self.wrong.suspicions };
        // Whom of its suspects it suspects itself is not told: at most so many.
        *count += suspicions.min(healthy);
    }

    /// Running, and not lossy.
    pub(super) fn is_healthy(&self, node: NodeId) -> bool {
        self.agents.get(&node).is_some_and(|agent| agent.loss == 0)
    }

    /// What one agent has to say goes out, and its next tick is planned.
    fn post(&mut self, node: NodeId) {
        let Some(agent) = self.agents.get_mut(&node) else { return };
        let due = agent.gossip.due().map(|due| due.max(self.now));
        let earlier = due.filter(|due| agent.tick_at.is_none_or(|planned| *due < planned));
        agent.tick_at = earlier.or(agent.tick_at);
        let datagrams = agent.gossip.take_datagrams();
        if let Some(at) = earlier {
            self.at(at, node, Event::Tick);
        }
        for (to, body) in datagrams {
            self.datagram(node, to, Datagram::Swim(body).encode());
        }
    }
}
