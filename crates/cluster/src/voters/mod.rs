//! Who votes on the directory and who stands by to: [`Group::next`] says the next step, one at a time.
//!
//! A stand-by follows the log without a vote, so that it has what a voter needs before it is one. Only stand-bys become
//! voters: a group grows by two of them, and one takes the place of a voter that is gone or stands too near another.
//! A voter is *there* if the leader hears of it and its log goes on; one whose log stands still, as its disk is full, say,
//! is as good as silent.
//!
//! - **V-1 (odd).** One, three or five hosts vote: as many as there are hosts for, never an even number by choice.
//! - **V-2 (quorum).** A step is taken only while a majority of the voters is there, and leaves a majority there. Whom this
//!   leader has not heard of yet is not there. A voter that left or was put out answers for a moment still: that moment is
//!   for the step without it, so it counts among those that vote now, and the leader has itself confirmed before the step.
//! - **V-3 (no blip).** A voter that is silent keeps its vote, for it may be back in a moment. It is replaced when it left,
//!   was evicted, or its boot is given up; after [`OUT`] already where one more loss would stop the group. Where nobody can
//!   take its place it keeps its vote, except that two of five that are given up are dropped: the three others bear a loss.
//! - **V-4 (apart).** Voters are spread over zones, the capability `zone`. One that is well gives its vote up for that alone,
//!   or where an odd number asks for it; and only in quiet times, to a host that has been there for [`STEADY`].
//! - **V-5 (rest).** As long as nothing else changes, the steps come to an end, and what is silent for less than [`OUT`]
//!   begins none.

mod progress;

pub use progress::Progress;

use odeon_protocol::NodeId;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A host that is silent for longer becomes neither voter nor stand-by, and does not count for a majority.
pub const WELL: Duration = Duration::from_secs(2);
/// A silent voter of a group that bears no further loss is replaced after this: more than an agent's restart takes, far
/// less than the 30 s after which a boot is given up.
pub const OUT: Duration = Duration::from_secs(10);
/// For so long a host was there without a gap before one that is well makes room for it.
pub const STEADY: Duration = Duration::from_secs(10);
/// Hosts that follow the log and do not vote.
pub const STAND_BYS_MAX: usize = 2;

/// The group that votes, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Who leads. It knows itself to be well, and keeps its vote as long as it belongs.
    pub leader: NodeId,
    /// Who votes; two sets where a change was begun and not ended.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Who follows the log without a vote.
    pub stand_bys: BTreeSet<NodeId>,
    /// Every host that belongs and joined with a voter's token.
    pub hosts: BTreeMap<NodeId, Host>,
}

/// A host that may vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its capability `zone`. Hosts without one share a zone: nobody knows that they stand apart.
    pub zone: Option<String>,
    /// How long ago the leader heard of it.
    pub silent: Duration,
    /// For how long the leader has heard of it without a gap; nothing if it has not yet.
    pub heard: Option<Duration>,
    /// For how long its log stands still, though the leader's goes on.
    pub stuck: Duration,
    /// Its boot is given up.
    pub dead: bool,
    /// It lacks little of the log.
    pub caught_up: bool,
}

impl Host {
    /// How long ago it last did what a voter is for.
    fn away(&self) -> Duration {
        self.silent.max(self.stuck)
    }

    fn is_well(&self) -> bool {
        !self.dead && self.heard.is_some() && self.away() < WELL
    }

    /// A majority may count on it.
    fn is_there(&self) -> bool {
        self.is_well() && self.caught_up
    }

    fn is_out(&self) -> bool {
        self.dead || self.away() >= OUT
    }

    fn is_steady(&self) -> bool {
        self.is_there() && self.heard >= Some(STEADY)
    }
}

/// What the leader is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These vote from now on; new ones among them stand by already. Whoever loses its vote follows no more.
    Vote(BTreeSet<NodeId>),
    /// It stands by.
    Follow(NodeId),
    /// It stands by no more.
    Forget(NodeId),
}

/// How many vote where so many hosts could.
#[must_use]
pub const fn size(hosts: usize) -> usize {
    match hosts {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

impl Group {
    /// The next step; nothing if all is as it should be, or if nothing can be done now.
    #[must_use]
    pub fn next(&self) -> Option<Step> {
        let [voters] = &self.voters[..] else {
            // A leader that fell left a change half done: it is ended, or taken back where its end is out of reach.
            return self.voters.iter().rev().find(|voters| self.has_majority(voters)).cloned().map(Step::Vote);
        };
        if !self.may_decide(voters) {
            return None;
        }
        let others = self
            .without_the_lost(voters)
            .or_else(|| self.with_one_replaced(voters))
            .or_else(|| self.with_two_more(voters))
            .or_else(|| self.further_apart(voters));
        match others.filter(|others| self.has_majority(others)) {
            Some(others) => Some(Step::Vote(others)),
            None => self.stand_by(voters),
        }
    }

    /// Fewer, where there are too few hosts for so many.
    fn without_the_lost(&self, voters: &BTreeSet<NodeId>) -> Option<BTreeSet<NodeId>> {
        let stay: Vec<_> = self.hosts.iter().filter(|(node, _)| voters.contains(node)).collect();
        let lost = voters.len() - stay.len();
        let dead = stay.iter().filter(|(_, host)| host.dead).count();
        let size = size(stay.len() - dead + self.able(voters));
        let is_odd = voters.len() % 2 == 1;
        if stay.is_empty() || size >= voters.len() || is_odd && lost == 0 && dead < voters.len() - size {
            return None;
        }
        let rank =
            |node: NodeId, host: &Host, near: usize| (node != self.leader, host.is_out(), !host.is_there(), near, node);
        Some(pick(stay, size, Zones::default(), rank))
    }

    /// One that is gone makes room for one that stands by.
    fn with_one_replaced(&self, voters: &BTreeSet<NodeId>) -> Option<BTreeSet<NodeId>> {
        let bears_no_loss = self.there(voters) <= majority(voters);
        let is_gone = |node: NodeId| match self.hosts.get(&node) {
            None => true,
            Some(_) if node == self.leader => false,
            Some(host) => host.dead || bears_no_loss && host.is_out(),
        };
        let rank = |node: NodeId| {
            let host = self.hosts.get(&node);
            // A leader that gives itself up ends the step's author: it comes last.
            (node != self.leader, host.is_none(), host.is_some_and(|host| host.dead), host.map(Host::away))
        };
        let gone = voters.iter().copied().filter(|node| is_gone(*node)).max_by_key(|node| rank(*node))?;
        let stay: BTreeSet<NodeId> = voters.iter().copied().filter(|node| *node != gone).collect();
        self.joined(&stay, 1)
    }

    /// More, where there are hosts for it.
    fn with_two_more(&self, voters: &BTreeSet<NodeId>) -> Option<BTreeSet<NodeId>> {
        let alive = voters.iter().filter(|node| self.hosts.get(node).is_some_and(|host| !host.dead)).count();
        let more = 1 + voters.len() % 2;
        if size(alive + self.able(voters)) < voters.len() + more {
            return None;
        }
        self.joined(voters, more)
    }

    /// One of a crowded zone makes room for one that stands by where fewer vote.
    fn further_apart(&self, voters: &BTreeSet<NodeId>) -> Option<BTreeSet<NodeId>> {
        let is_quiet = |node: &NodeId| *node == self.leader || self.hosts.get(node).is_some_and(Host::is_steady);
        if !voters.iter().all(is_quiet) {
            return None;
        }
        let zones = self.zones(voters.iter());
        let steady = self.ready(voters).into_iter().filter(|(_, host)| host.is_steady());
        let (newcomer, fewer) =
            steady.map(|(node, host)| (*node, zones.near(host))).min_by_key(|(node, near)| (*near, *node))?;
        let seated = voters.iter().filter(|node| **node != self.leader);
        let (crowded, more) = seated
            .filter_map(|node| Some((*node, zones.near(self.hosts.get(node)?))))
            .max_by_key(|(node, near)| (*near, *node))?;
        if more < fewer + 2 {
            return None;
        }
        Some(voters.iter().copied().filter(|node| *node != crowded).chain([newcomer]).collect())
    }

    /// Who is to stand by: those that are there, in zones where few vote; the present ones where others are no better.
    fn stand_by(&self, voters: &BTreeSet<NodeId>) -> Option<Step> {
        let stands_by = |node: NodeId| self.stand_bys.contains(&node);
        let pool = self
            .hosts
            .iter()
            .filter(|(node, host)| !voters.contains(node) && (host.is_well() || stands_by(**node) && !host.dead));
        let in_zones = self.zones(voters.iter().filter(|node| self.hosts.get(node).is_some_and(|host| !host.is_out())));
        let rank = |node: NodeId, host: &Host, near: usize| {
            let is_new = !stands_by(node);
            // One whose log stands still keeps its place: once it did not follow, it would be taken for a better one again.
            let is_gone = host.dead || host.silent >= OUT;
            (is_gone, is_new && host.heard < Some(STEADY), near, is_new, node)
        };
        let wanted = pick(pool.collect(), STAND_BYS_MAX, in_zones, rank);
        let forgotten = self.stand_bys.difference(&wanted).next().copied().map(Step::Forget);
        forgotten.or_else(|| wanted.difference(&self.stand_bys).next().copied().map(Step::Follow))
    }

    /// The voters and so many of those that are ready to; nothing if there are not as many.
    fn joined(&self, voters: &BTreeSet<NodeId>, count: usize) -> Option<BTreeSet<NodeId>> {
        let ready = self.ready(voters);
        if ready.len() < count {
            return None;
        }
        let new = pick(ready, count, self.zones(voters.iter()), |node, _, near| (near, node));
        Some(voters | &new)
    }

    /// Who could vote at once.
    fn ready(&self, voters: &BTreeSet<NodeId>) -> Vec<(&NodeId, &Host)> {
        let is_ready =
            |node: &NodeId, host: &Host| !voters.contains(node) && self.stand_bys.contains(node) && host.is_there();
        self.hosts.iter().filter(|(node, host)| is_ready(node, host)).collect()
    }

    /// How many others could vote sooner or later.
    fn able(&self, voters: &BTreeSet<NodeId>) -> usize {
        self.hosts.iter().filter(|(node, host)| !voters.contains(node) && host.is_well()).count()
    }

    /// How many of them are there.
    fn there(&self, voters: &BTreeSet<NodeId>) -> usize {
        let is_there = |node: &NodeId| *node == self.leader || self.hosts.get(node).is_some_and(Host::is_there);
        voters.iter().filter(|node| is_there(node)).count()
    }

    /// Whether those that vote now may be enough for a step.
    fn may_decide(&self, voters: &BTreeSet<NodeId>) -> bool {
        let put_out = voters.iter().filter(|node| !self.hosts.contains_key(node)).count();
        self.there(voters) + put_out >= majority(voters)
    }

    fn has_majority(&self, voters: &BTreeSet<NodeId>) -> bool {
        self.there(voters) >= majority(voters)
    }

    fn zones<'a>(&'a self, nodes: impl Iterator<Item = &'a NodeId>) -> Zones<'a> {
        let mut zones = Zones::default();
        nodes.filter_map(|node| self.hosts.get(node)).for_each(|host| zones.add(host));
        zones
    }
}

fn majority(voters: &BTreeSet<NodeId>) -> usize {
    voters.len() / 2 + 1
}

/// How many of those that count are in each zone.
#[derive(Clone, Debug, Default)]
struct Zones<'a>(BTreeMap<Option<&'a str>, usize>);

impl<'a> Zones<'a> {
    fn add(&mut self, host: &'a Host) {
        *self.0.entry(host.zone.as_deref()).or_default() += 1;
    }

    /// How many are in the host's zone.
    fn near(&self, host: &Host) -> usize {
        self.0.get(&host.zone.as_deref()).copied().unwrap_or_default()
    }
}

/// Picks one after the other, whoever ranks lowest; the rank may depend on how many that count are in the host's zone.
fn pick<'a, R: Ord>(
    mut pool: Vec<(&'a NodeId, &'a Host)>,
    count: usize,
    mut zones: Zones<'a>,
    rank: impl Fn(NodeId, &Host, usize) -> R,
) -> BTreeSet<NodeId> {
    let mut picked = BTreeSet::new();
    while picked.len() < count && !pool.is_empty() {
        pool.sort_by_key(|(node, host)| Reverse(rank(**node, host, zones.near(host))));
        let Some((node, host)) = pool.pop() else { break };
        zones.add(host);
        picked.insert(*node);
    }
    picked
}

#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;
