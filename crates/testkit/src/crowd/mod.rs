//! A thousand agents: the shipped gossip and anti-entropy of a whole convention on simulated time and network.
//!
//! Each agent (`agent`) is the pure core of one: [`odeon_cluster::gossip`] and [`odeon_cluster::anti_entropy`], driven as
//! `odeon-node` drives them. The world (`world`) has the directory, whose changes reach each agent at another time, and a
//! network (`network`) that delays and loses; connections are dialled by need. Everybody is busy: each host's load changes
//! every second. A run follows from its seed alone.
//!
//! [`Crowd::storm`] brings the hosts together; then [`Crowd::calm`], [`Crowd::churn`] and [`Crowd::lossy`] in any order. A
//! host is *healthy* if its agent runs and no packet of it is lost, and *evicted* if another agent that is healthy takes it
//! for down: nothing is freed because of that, but it gets no new actors.

mod agent;
mod network;
mod world;

use agent::{Agent, Sent};
use odeon_cluster::Liveness;
use odeon_protocol::{Boot, NodeId, Time};
use std::{collections::BTreeMap, mem, time::Duration};
use world::World;

/// All hosts join within this.
const STORM: Duration = Duration::from_secs(10);
/// Nobody waits longer for all to know all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what everybody thinks of everybody.
const LOOK: Duration = Duration::from_secs(2);
/// A start, a loss, a change of the directory is known to all after this; until then, all may think what they like.
const KNOWN: Duration = Duration::from_secs(15);
/// What was killed starts again after this, and at most as much later.
const AWAY: Duration = Duration::from_secs(20);

/// What was seen that should not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// An agent suspected a healthy host, on its own account.
    pub suspicions: u64,
    /// The same of lossy agents.
    pub suspicions_by_lossy: u64,
    /// A healthy host heard that it had been taken for down.
    pub evictions: u64,
    /// The same of a lossy one.
    pub evictions_of_lossy: u64,
    /// A healthy host was seen down by a healthy agent; counted for each pair, at every look.
    pub seen_down: u64,
    /// A killed host was not seen down by a healthy agent when it should have been.
    pub not_found: u64,
}

/// How long it took, after the last of the hosts had joined, until what was said of all was known to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Everybody is up.
    pub up: Duration,
    /// What everybody can do.
    pub facts: Duration,
}

/// What one agent sends in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Half of the agents send at most this.
    pub median: u64,
    /// None sends more.
    pub max: u64,
}

/// What agents send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams: who seems alive, and whose facts have changed.
    pub datagrams: Rate,
    /// Their bytes, without what QUIC adds.
    pub datagram_bytes: Rate,
    /// Bytes of digests, and of what was lacking.
    pub exchanged_bytes: Rate,
}

/// A convention.
#[derive(Debug)]
pub struct Crowd {
    world: World,
    /// What was killed, when, and when it starts again.
    away: Vec<Away>,
}

#[derive(Debug)]
struct Away {
    node: NodeId,
    boot: Boot,
    since: Time,
    until: Time,
}

impl Crowd {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { world: World::new(seed), away: Vec::new() }
    }

    /// So many hosts join within ten seconds. Nothing if they have not all heard of each other two minutes later.
    pub fn storm(&mut self, hosts: u32) -> Option<Known> {
        for _ in 0..hosts {
            self.world.join();
            self.world.run(STORM / hosts);
        }
        self.all_know()
    }

    /// Waits until all know all.
    pub fn all_know(&mut self) -> Option<Known> {
        let (since, mut up) = (self.world.now, None);
        while self.world.now.since(since) < PATIENCE {
            self.world.run(Duration::from_millis(500));
            let waited = self.world.now.since(since);
            let known = self.world.agents.values().map(|agent| agent.knows_all(&self.world.members));
            let (all_up, all_facts) = known.fold((true, true), |all, agent| (all.0 && agent.0, all.1 && agent.1));
            up = up.or(all_up.then_some(waited));
            if all_facts && let Some(up) = up {
                return Some(Known { up, facts: waited });
            }
        }
        None
    }

    /// Nothing happens for so long; what that costs.
    pub fn calm(&mut self, span: Duration) -> Traffic {
        let sent = |world: &World| world.agents.iter().map(|(node, agent)| (*node, agent.sent)).collect();
        let before: BTreeMap<NodeId, Sent> = sent(&self.world);
        self.look_for(span);
        let after: BTreeMap<NodeId, Sent> = sent(&self.world);
        let rate = |of: fn(&Sent) -> u64| {
            let of_one = |(node, sent): (&NodeId, &Sent)| of(sent) - before.get(node).map_or(0, of);
            let mut all: Vec<u64> = after.iter().map(of_one).map(|sent| sent / span.as_secs().max(1)).collect();
            all.sort_unstable();
            Rate { median: all.get(all.len() / 2).copied().unwrap_or(0), max: all.last().copied().unwrap_or(0) }
        };
        Traffic {
            datagrams: rate(|sent| sent.datagrams),
            datagram_bytes: rate(|sent| sent.datagram_bytes),
            exchanged_bytes: rate(|sent| sent.exchanged_bytes),
        }
    }

    /// For so long, `percent` of a hundred hosts a minute are killed and start again later, leave, or join; in the end all
    /// are there. How many that were.
    pub fn churn(&mut self, percent: u32, span: Duration) -> u64 {
        let hosts = u32::try_from(self.world.agents.len()).unwrap_or(u32::MAX);
        let pause = Duration::from_secs(6000) / (hosts * percent).max(1);
        let (until, mut count) = (self.world.now + span, 0);
        while self.world.now < until {
            self.change();
            count += 1;
            self.look_for(pause);
        }
        while !self.away.is_empty() {
            self.look_for(LOOK);
        }
        count
    }

    /// One host comes or goes.
    fn change(&mut self) {
        let settled = |agent: &&Agent| self.world.now.since(agent.since) > KNOWN;
        let may: Vec<(NodeId, Boot)> =
            self.world.agents.values().filter(settled).map(|agent| (agent.node, agent.boot)).collect();
        let one = self.world.random.one(&may).filter(|(node, _)| !self.world.voters.contains(node));
        match (self.world.random.below(3), one) {
            (0, Some((node, boot))) => {
                self.world.kill(node);
                let since = self.world.now;
                let later = Duration::from_millis(self.world.random.below(AWAY.as_millis() as u64));
                self.away.push(Away { node, boot, since, until: since + AWAY + later });
            }
            (1, Some((node, _))) => self.world.leave(node),
            _ => self.world.join(),
        }
    }

    /// One of `among` hosts loses `percent` of what it sends and of what it is sent, for so long. How many that were.
    pub fn lossy(&mut self, among: usize, percent: u64, span: Duration) -> usize {
        let mut nodes: Vec<NodeId> = self.world.agents.keys().copied().collect();
        nodes.retain(|node| !self.world.voters.contains(node));
        let count = nodes.len().div_ceil(among);
        let mut lossy = Vec::new();
        for _ in 0..count {
            let at = self.world.random.below(nodes.len() as u64) as usize;
            lossy.push(nodes.swap_remove(at));
        }
        self.lose(&lossy, percent);
        self.look_for(span);
        self.lose(&lossy, 0);
        count
    }

    fn lose(&mut self, of: &[NodeId], percent: u64) {
        let agents = self.world.agents.iter_mut().filter(|(node, _)| of.contains(node));
        agents.for_each(|(_, agent)| agent.loss = percent);
    }

    /// What was wrong since this was asked last.
    pub fn take_wrong(&mut self) -> Wrong {
        mem::take(&mut self.world.wrong)
    }

    /// A sum over everything that happened, in order.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.world.sum
    }

    /// Lets so much time pass, and looks at what everybody thinks of everybody.
    fn look_for(&mut self, span: Duration) {
        let end = self.world.now + span;
        while self.world.now < end {
            self.world.run(LOOK.min(end.since(self.world.now)));
            self.start_again();
            self.look();
        }
    }

    fn start_again(&mut self) {
        let now = self.world.now;
        let (due, later) = mem::take(&mut self.away).into_iter().partition(|away| away.until <= now);
        self.away = later;
        let due: Vec<Away> = due;
        for Away { node, boot, .. } in due {
            self.world.start(node, Boot(boot.0 + 1));
        }
    }

    fn look(&mut self) {
        let now = self.world.now;
        let settled = |since: Time| now.since(since) > KNOWN;
        let healthy = |agent: &&Agent| agent.loss == 0 && settled(agent.since);
        let dead: Vec<&Away> = self.away.iter().filter(|away| settled(away.since)).collect();
        let (mut seen_down, mut not_found) = (0, 0);
        for agent in self.world.agents.values().filter(healthy) {
            let states = agent.gossip.states();
            let down = states.iter().filter(|(_, state)| **state == Liveness::Down);
            let of = down.filter_map(|(node, _)| self.world.agents.get(node));
            seen_down += of.filter(healthy).count() as u64;
            let known = dead.iter().filter(|away| agent.since < away.since);
            not_found += known.filter(|away| states.get(&away.node) != Some(&Liveness::Down)).count() as u64;
        }
        self.world.wrong.seen_down += seen_down;
        self.world.wrong.not_found += not_found;
    }
}
