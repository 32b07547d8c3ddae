//! What goes from agent to agent: datagrams, requests and their answers, and who is told of facts, and asked.

use super::world::{Event, World};
use odeon_cluster::gossip::Datagram;
use odeon_protocol::{NodeId, Time};
use std::time::Duration;

/// How long a packet takes at most, in microseconds.
const DELAY: u64 = 10_000;
/// What is lost of a request is sent again after this.
const AGAIN: Duration = Duration::from_millis(200);
/// Nobody waits longer for an answer.
const EXCHANGE: Duration = Duration::from_secs(2);
/// Between two exchanges of facts of one agent.
const SECOND: Duration = Duration::from_secs(1);
/// From a change of the own facts until it is announced.
const GATHER: Duration = Duration::from_millis(20);
/// So many does a newcomer ask first.
const CATCH_UP_PEERS: usize = 8;

impl World {
    /// Sends a datagram; where there is no connection it is dialled.
    pub(super) fn datagram(&mut self, from: NodeId, to: NodeId, body: Vec<u8>) {
        let Some(agent) = self.agents.get_mut(&from) else { return };
        agent.sent.datagrams += 1;
        agent.sent.datagram_bytes += body.len() as u64;
        let open = agent.links.get(&to).copied();
        // While one is being dialled, the others are dropped.
        let passes = open.is_none_or(|open| open <= self.now) && !self.is_lost(from, to);
        let open = open.unwrap_or_else(|| self.dial(from, to));
        if passes {
            let at = open.max(self.now) + self.delay();
            self.at(at, to, Event::Datagram(body));
        }
    }

    fn dial(&mut self, from: NodeId, to: NodeId) -> Time {
        let open = self.now + self.delay() * 3;
        self.connect(from, to, open);
        open
    }

    pub(super) fn connect(&mut self, one: NodeId, other: NodeId, open: Time) {
        if one == other || !self.agents.contains_key(&one) || !self.agents.contains_key(&other) {
            return;
        }
        for (from, to) in [(one, other), (other, one)] {
            if let Some(agent) = self.agents.get_mut(&from) {
                agent.links.insert(to, open);
            }
        }
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(200 + self.random.below(DELAY))
    }

    fn is_lost(&mut self, from: NodeId, to: NodeId) -> bool {
        let loss = |node| self.agents.get(&node).map_or(0, |agent| agent.loss);
        let (one, other) = (loss(from), loss(to));
        self.random.chance(one) || self.random.chance(other)
    }

    /// A request or its answer: what is lost is sent again.
    pub(super) fn reliably(&mut self, from: NodeId, to: NodeId, event: Event) {
        let mut after = self.delay();
        while self.is_lost(from, to) && after < EXCHANGE {
            after += AGAIN;
        }
        self.at(self.now + after, to, event);
    }

    /// What an agent does for its facts each second.
    pub(super) fn second(&mut self, node: NodeId) {
        let Some(agent) = self.agents.get_mut(&node) else { return };
        let (announced, boot, peers) = (agent.work(), agent.boot, agent.connected(self.now));
        if announced {
            self.at(self.now + GATHER, node, Event::Announce);
        }
        self.at(self.now + SECOND, node, Event::Second(boot));
        if let Some(peer) = self.random.one(&peers) {
            self.ask(node, peer);
        }
    }

    pub(super) fn catch_up(&mut self, node: NodeId) {
        let Some(agent) = self.agents.get(&node) else { return };
        let mut peers = agent.connected(self.now);
        while peers.len() > CATCH_UP_PEERS {
            let one = self.random.below(peers.len() as u64) as usize;
            peers.swap_remove(one);
        }
        peers.into_iter().for_each(|peer| self.ask(node, peer));
        self.announce(node);
    }

    pub(super) fn announce(&mut self, node: NodeId) {
        let Some(agent) = self.agents.get(&node) else { return };
        let body = Datagram::Hint(agent.facts.hint()).encode();
        for peer in agent.connected(self.now) {
            self.datagram(node, peer, body.clone());
        }
    }

    pub(super) fn ask(&mut self, node: NodeId, peer: NodeId) {
        let Some(agent) = self.agents.get_mut(&node) else { return };
        let digest = agent.digest();
        self.reliably(node, peer, Event::Ask(node, digest));
    }
}
