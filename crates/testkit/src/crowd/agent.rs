//! One agent of the crowd: its gossip and its facts, driven as `odeon-node` drives them.

use odeon_cluster::{
    HostView, Liveness, Load,
    anti_entropy::{Delta, Facts},
    capability,
    gossip::{Datagram, Gossip},
};
use odeon_protocol::{
    Boot, NodeId, Time,
    control::{decode, encode},
};
use std::collections::BTreeMap;

/// What an agent sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) datagram_bytes: u64,
    /// Digests and what was lacking.
    pub(super) exchanged_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) node: NodeId,
    pub(super) boot: Boot,
    pub(super) since: Time,
    pub(super) gossip: Gossip,
    pub(super) facts: Facts,
    /// Packets lost on their way from and to it, of a hundred.
    pub(super) loss: u64,
    /// Its control connections, and when the dial is through.
    pub(super) links: BTreeMap<NodeId, Time>,
    /// When its next tick is planned.
    pub(super) tick_at: Option<Time>,
    /// A change of the directory is on its way to it.
    pub(super) learns: bool,
    pub(super) sent: Sent,
    suspicions: u64,
    found_down: u64,
    actors: u64,
}

impl Agent {
    pub(super) fn new(node: NodeId, boot: Boot, since: Time, seed: u64) -> Self {
        let mut facts = Facts::new(node, boot);
        let text = format!("zone=eu-{}", node.0 % 3);
        facts.set_capabilities(&capability::collect(capability::parse(&text)).unwrap_or_default());
        facts.set_types(["sim.one".into(), "sim.other".into()]);
        Self {
            node,
            boot,
            since,
            gossip: Gossip::new(node, boot, seed),
            facts,
            loss: 0,
            links: BTreeMap::new(),
            tick_at: None,
            learns: false,
            sent: Sent::default(),
            suspicions: 0,
            found_down: 0,
            actors: 0,
        }
    }

    /// Its copy of the directory is as the directory now.
    pub(super) fn learn(&mut self, members: &BTreeMap<NodeId, Boot>, now: Time) {
        self.learns = false;
        self.facts.set_members(members.keys().copied());
        self.gossip.set_members(members.iter().map(|(node, boot)| (*node, *boot)), now);
    }

    /// Its load changes, as it does on a busy host; whether that is announced.
    pub(super) fn work(&mut self) -> bool {
        self.actors += 1;
        self.facts.set_load(Load { actors: self.actors, waiting: 7 * self.actors, workers: 1, cores: 4 })
    }

    /// Takes a datagram; who is to be asked for facts.
    pub(super) fn receive(&mut self, body: &[u8], now: Time) -> Option<NodeId> {
        match Datagram::decode(body)? {
            // One that is not taken is counted.
            Datagram::Swim(body) => drop(self.gossip.received(&body, now)),
            Datagram::Hint(hint) => return self.facts.wants(&hint, now).then_some(hint.node),
        }
        None
    }

    /// How often it has suspected somebody, and heard that it had been found down, since this was asked last.
    pub(super) fn news(&mut self) -> (u64, u64) {
        let (suspicions, found_down) = (self.gossip.suspicions(), self.gossip.found_down());
        let news = (suspicions - self.suspicions, found_down - self.found_down);
        (self.suspicions, self.found_down) = (suspicions, found_down);
        news
    }

    /// What it has, as it travels.
    pub(super) fn digest(&mut self) -> Vec<u8> {
        let digest = encode(&self.facts.digest());
        self.sent.exchanged_bytes += digest.len() as u64;
        digest
    }

    /// What the sender of a digest lacks, as it travels.
    pub(super) fn answer(&mut self, digest: &[u8]) -> Vec<u8> {
        let delta = decode(digest).map(|digest| encode(&self.facts.answer(&digest))).unwrap_or_default();
        self.sent.exchanged_bytes += delta.len() as u64;
        delta
    }

    pub(super) fn take(&mut self, delta: &[u8]) {
        if let Ok(delta) = decode::<Delta>(delta) {
            self.facts.take(delta);
        }
    }

    /// Whether it sees each of the members up, and knows what it can do.
    pub(super) fn knows_all(&self, members: &BTreeMap<NodeId, Boot>) -> (bool, bool) {
        let states = self.gossip.states();
        let up = members.keys().all(|node| states.get(node) == Some(&Liveness::Up));
        let facts = members.iter().all(|(&node, &boot)| {
            let mut view = HostView { node, boot, ..HostView::default() };
            self.facts.fill(&mut view) && !view.types.is_empty()
        });
        (up && states.len() == members.len(), facts)
    }

    /// Those that a control connection is open to.
    pub(super) fn connected(&self, now: Time) -> Vec<NodeId> {
        self.links.iter().filter(|(_, open)| **open <= now).map(|(node, _)| *node).collect()
    }
}
