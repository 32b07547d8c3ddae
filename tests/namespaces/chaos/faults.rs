//! Which faults come when: a seed says it, but for who leads by then.

use odeon_testkit::Random;
use std::{fmt, time::Duration};

/// How many hosts there are.
pub(crate) const HOSTS: usize = 5;

/// What happens to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its workers are killed.
    KillWorkers,
    /// Its agent is killed, and its workers with it; started again when the fault is over.
    KillAgent,
    /// Processes are stopped, and go on when the fault is over.
    Stop(Who),
    /// It is cut off from all others.
    CutHost(Way),
    /// It is cut off from one other.
    CutPair(Way),
}

/// Whose processes are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Agent,
    Workers,
    Both,
}

/// What does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Both,
    In,
    Out,
}

/// Every kind that there is. Each round brings each of them once, so that a short run sees all of them.
const KINDS: [Kind; 11] = [
    Kind::KillWorkers,
    Kind::KillAgent,
    Kind::Stop(Who::Agent),
    Kind::Stop(Who::Workers),
    Kind::Stop(Who::Both),
    Kind::Stop(Who::Both),
    Kind::CutHost(Way::Both),
    Kind::CutHost(Way::In),
    Kind::CutHost(Way::Out),
    Kind::CutPair(Way::Both),
    Kind::CutPair(Way::In),
];

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) host: usize,
    /// The other host of a pair.
    pub(crate) other: usize,
}

/// Faults that begin and end together, of at most two hosts that suffer more than the loss of one neighbour: a majority
/// is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) faults: Vec<Fault>,
    pub(crate) lasts: Duration,
    /// How long it is quiet afterwards.
    pub(crate) calm: Duration,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Dice {
    random: Random,
    /// What is left of a round.
    round: Vec<Kind>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), round: Vec::new() }
    }

    /// The next faults. The leader's host is meant more often than others.
    pub(crate) fn step(&mut self, leader: usize) -> Step {
        let host = if self.random.chance(40) { leader } else { self.below(HOSTS) };
        let mut faults = vec![self.fault(host)];
        if self.random.chance(25) {
            let host = (host + 1 + self.below(HOSTS - 1)) % HOSTS;
            faults.push(self.fault(host));
        }
        Step { faults, lasts: self.lasts(), calm: self.between(1000, 2500) }
    }

    fn fault(&mut self, host: usize) -> Fault {
        let other = (host + 1 + self.below(HOSTS - 1)) % HOSTS;
        if self.round.is_empty() {
            self.round = KINDS.to_vec();
        }
        let at = self.below(self.round.len());
        Fault { kind: self.round.swap_remove(at), host, other }
    }

    /// Four of five last longer than a lease.
    fn lasts(&mut self) -> Duration {
        if self.random.chance(80) { self.between(3200, 5000) } else { self.between(200, 2700) }
    }

    fn between(&mut self, from_ms: usize, to_ms: usize) -> Duration {
        Duration::from_millis((from_ms + self.below(to_ms - from_ms)) as u64)
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.below(end as u64) as usize
    }
}

impl Fault {
    /// Which ways are blocked: (to, from).
    pub(crate) fn blocked(&self) -> Vec<(usize, usize)> {
        let (others, way): (Vec<usize>, Way) = match self.kind {
            Kind::CutHost(way) => ((0..HOSTS).filter(|other| *other != self.host).collect(), way),
            Kind::CutPair(way) => (vec![self.other], way),
            Kind::KillWorkers | Kind::KillAgent | Kind::Stop(_) => return Vec::new(),
        };
        let inwards = others.iter().map(|other| (self.host, *other)).filter(|_| way != Way::Out);
        let outwards = others.iter().map(|other| (*other, self.host)).filter(|_| way != Way::In);
        inwards.chain(outwards).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillWorkers => "workers killed",
            Self::KillAgent => "agent killed",
            Self::Stop(Who::Agent) => "agent stopped",
            Self::Stop(Who::Workers) => "workers stopped",
            Self::Stop(Who::Both) => "agent and workers stopped",
            Self::CutHost(Way::Both) => "host cut off",
            Self::CutHost(_) => "host cut off one way",
            Self::CutPair(Way::Both) => "pair cut",
            Self::CutPair(_) => "pair cut one way",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn steps(seed: u64) -> Vec<Step> {
        let mut dice = Dice::new(seed);
        (0..200).map(|number| dice.step(number % HOSTS)).collect()
    }

    #[test]
    fn a_seed_says_what_comes() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_kind_comes_and_two_hosts_at_most_suffer() {
        for step in (0..20).flat_map(steps) {
            let hosts: BTreeSet<usize> = step.faults.iter().map(|fault| fault.host).collect();
            assert!(hosts.len() == step.faults.len() && hosts.len() <= 2, "{step:?}");
            assert!(step.faults.iter().all(|fault| fault.other != fault.host), "{step:?}");
        }
        let names = |kinds: &[Kind]| kinds.iter().map(Kind::to_string).collect::<BTreeSet<String>>();
        let come: Vec<Kind> =
            steps(1).iter().take(KINDS.len()).flat_map(|step| &step.faults).map(|fault| fault.kind).collect();
        assert_eq!(names(&come), names(&KINDS));
    }

    #[test]
    fn a_cut_blocks_what_it_says() {
        let blocked = |kind| Fault { kind, host: 1, other: 3 }.blocked();
        assert_eq!(blocked(Kind::CutPair(Way::Both)), [(1, 3), (3, 1)]);
        assert_eq!(blocked(Kind::CutHost(Way::In)), [(1, 0), (1, 2), (1, 3), (1, 4)]);
        assert_eq!(blocked(Kind::CutHost(Way::Out)), [(0, 1), (2, 1), (3, 1), (4, 1)]);
        assert_eq!(blocked(Kind::KillAgent), []);
    }
}
