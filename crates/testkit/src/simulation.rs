//! The simulated world: hosts, network, faults, checks.

use crate::{
    Random,
    host::Host,
    leader::Lead,
    message::{Letter, Message},
};
use odeon_cluster::{
    Directory,
    directory::{Answer, Command, Convention, Feed, Joiner, Role, Secret, Token, TokenId},
    host::HostView,
    lease::{Arrived, Leases, Timing},
};
use odeon_protocol::{Boot, ConventionId, NodeId, Time, level::FEATURE_LEVEL, peer::Renewed};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

const VOTERS: u64 = 3;
const STEP: Duration = Duration::from_millis(5);
const NAMES: u64 = 12;

/// How bad the world is.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Messages lost, of a hundred.
    pub loss: u64,
    /// The longest time that a message takes.
    pub delay: Duration,
    /// The mean time between two larger faults: a cut, a freeze, a restart, an election.
    pub every: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self { loss: 5, delay: Duration::from_millis(60), every: Duration::from_millis(900) }
    }
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Names granted.
    pub grants: u64,
    /// Leases lost with names.
    pub leases_lost: u64,
    /// Boots given up.
    pub boots_dead: u64,
    /// Leaders elected.
    pub elections: u64,
}

/// A guarantee that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// What.
    pub what: String,
}

/// A convention of simulated hosts.
#[derive(Debug)]
pub struct Simulation {
    now: Time,
    random: Random,
    faults: Option<Faults>,
    hosts: BTreeMap<NodeId, Host>,
    /// The voters' log, as far as it is committed.
    truth: Directory,
    feed: Feed,
    leader: Option<NodeId>,
    term: u64,
    /// When there is a leader again.
    elect_at: Option<Time>,
    /// Hosts that reach nobody, until then.
    cut: BTreeMap<NodeId, Time>,
    flying: BTreeMap<(Time, u64), Letter>,
    rounds: BTreeMap<(Time, u64), (NodeId, u64)>,
    count: u64,
    report: Report,
}

impl Simulation {
    /// A convention of `hosts` hosts, the first three of them voters.
    #[must_use]
    pub fn new(hosts: u64, timing: Timing, faults: Faults, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut simulation = Self {
            now: Time::ZERO,
            faults: Some(faults),
            hosts: BTreeMap::new(),
            truth: Directory::default(),
            feed: Feed::default(),
            leader: None,
            term: 0,
            elect_at: Some(Time::ZERO),
            cut: BTreeMap::new(),
            flying: BTreeMap::new(),
            rounds: BTreeMap::new(),
            count: 0,
            report: Report::default(),
            random: Random::new(random.number()),
        };
        let convention = Convention { id: ConventionId(seed | 1), ca_cert: Vec::new() };
        simulation.apply(&Command::Found { convention, ca_key: Secret(vec![1]), founder: joiner(1) });
        let token = Token { id: TokenId(1), role: Role::Voter, admin: false, expires: 1, uses: None };
        simulation.apply(&Command::CreateToken { token, secret: Secret(vec![1]), now: 0 });
        for number in 1..=hosts {
            simulation.apply(&Command::Admit { token: TokenId(1), joiner: joiner(number), now: 0 });
            let ahead = Duration::from_nanos(random.below(1 << 50));
            simulation.hosts.insert(NodeId(number), Host::new(NodeId(number), timing, ahead));
        }
        simulation
    }

    /// Runs for a while, with users and faults.
    ///
    /// # Errors
    /// A guarantee did not hold.
    pub fn run(&mut self, span: Duration) -> Result<(), Violation> {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + STEP;
            self.step()?;
        }
        Ok(())
    }

    /// Ends all faults, lets the convention come to rest, and checks that it has.
    ///
    /// # Errors
    /// Something did not come to rest, or a guarantee did not hold meanwhile.
    pub fn settle(&mut self) -> Result<Report, Violation> {
        self.faults = None;
        self.cut.clear();
        self.run(Duration::from_secs(60))?;
        if self.truth.unplaced().len() > 0 {
            return Err(self.violation("names are unplaced although every host is well".to_owned()));
        }
        for record in self.truth.names() {
            let Some(holder) = record.holder else { continue };
            if self.hosts[&holder.node].actors.get(&record.name) != Some(&record.epoch) {
                return Err(self.violation(format!("{record:?} does not run where the directory says")));
            }
        }
        let public = self.truth.without_secrets();
        for host in self.hosts.values() {
            if host.copy.without_secrets() != public {
                return Err(self.violation(format!(
                    "the copy of {:?} is behind for good: it has version {}, there is {} by leader {:?}, it asks {:?}",
                    host.node,
                    host.copy.version(),
                    public.version(),
                    self.leader,
                    host.leader
                )));
            }
            for other in self.hosts.values() {
                let mut view = HostView { node: other.node, boot: other.boot, ..HostView::default() };
                if !host.facts.fill(&mut view) || !view.types.contains("sim.actor") {
                    return Err(self.violation(format!("{:?} knows no facts of {:?}", host.node, other.node)));
                }
            }
        }
        Ok(self.report)
    }

    /// What happened so far.
    #[must_use]
    pub const fn report(&self) -> Report {
        self.report
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.make_faults();
        self.use_it();
        self.deliver();
        self.end_rounds();
        for node in self.hosts.keys().copied().collect::<Vec<_>>() {
            if self.thawed(node) {
                self.tick(node);
            }
            self.post(node);
            self.check()?;
        }
        Ok(())
    }

    /// One instance a name: whoever passes the gate is the one that the directory names.
    fn check(&self) -> Result<(), Violation> {
        for host in self.hosts.values().filter(|host| host.gate_is_open(self.now)) {
            for (name, epoch) in &host.actors {
                let record = self.truth.name(name);
                let right = record.is_some_and(|record| {
                    let here = |holder: odeon_protocol::Direct| (holder.node, holder.boot) == (host.node, host.boot);
                    record.epoch == *epoch && record.holder.is_some_and(here)
                });
                if !right {
                    let what = format!("{name} passes the gate on {:?} with epoch {epoch}, but: {record:?}", host.node);
                    return Err(self.violation(what));
                }
            }
        }
        Ok(())
    }

    fn violation(&self, what: String) -> Violation {
        Violation { at: self.now, what }
    }

    fn tick(&mut self, node: NodeId) {
        let now = self.now;
        let peers: Vec<NodeId> = self.hosts.keys().copied().filter(|peer| *peer != node).collect();
        let hears = self.leader.is_some_and(|leader| leader != node) && !self.cut.contains_key(&node);
        let steps_down = hears && self.random.chance(3);
        let asks = self.random.chance(1).then(|| self.random.one(&peers)).flatten();
        let Some(host) = self.hosts.get_mut(&node) else { return };
        host.tick(now);
        if let Some(peer) = asks {
            let digest = host.facts.digest();
            host.send(peer, Message::Digest(digest));
        }
        if steps_down {
            // Its successor's heartbeat has reached it.
            host.lead = None;
        }
        if host.lead.is_some() {
            self.lead(node);
        }
    }

    /// A believed leader's work.
    fn lead(&mut self, node: NodeId) {
        let random = self.random.number();
        let round_ends = self.now + Duration::from_millis(1 + self.random.below(80));
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let clock = host.clock(self.now);
        let Host { lead: Some(lead), copy, facts, .. } = host else { return };
        if lead.leases.begin_round() {
            self.count += 1;
            self.rounds.insert((round_ends, self.count), (node, lead.term));
        }
        let commands = lead.expired(copy, clock);
        let takeovers = lead.take_over(copy, clock, random, |view| {
            facts.fill(view);
        });
        for takeover in takeovers {
            host.send(takeover.host, Message::Adopt { name: takeover.name, epoch: takeover.epoch });
        }
        for command in commands {
            self.commit(node, &command);
        }
    }

    fn end_rounds(&mut self) {
        while let Some(entry) = self.rounds.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (node, term) = entry.remove();
            let confirmed = self.leader == Some(node) && self.term == term && self.reaches_majority(node);
            let Some(host) = self.hosts.get_mut(&node) else { continue };
            let Some(lead) = host.lead.as_mut().filter(|lead| lead.term == term) else { continue };
            for renewal in lead.leases.end_round(confirmed) {
                host.send(renewal.node, Message::Renewed(Renewed::Held { number: renewal.number }));
            }
        }
    }

    /// Commits a command, if `node` truly leads.
    fn commit(&mut self, node: NodeId, command: &Command) -> Option<Answer> {
        (self.leader == Some(node) && self.reaches_majority(node)).then(|| self.apply(command))
    }

    fn apply(&mut self, command: &Command) -> Answer {
        let held = match command {
            Command::LeaseLost { node, .. } => self.truth.names_held(*node),
            _ => 0,
        };
        let epoch = self.truth.epoch();
        let applied = self.truth.apply(command);
        self.report.grants += self.truth.epoch() - epoch;
        if let Some(delta) = applied.delta {
            self.report.leases_lost += u64::from(held > 0);
            self.report.boots_dead += u64::from(matches!(command, Command::HostDead { .. }));
            let delta = Arc::new(delta);
            self.feed.push(delta.clone());
            if let Some(leader) = self.leader.and_then(|leader| self.hosts.get_mut(&leader)) {
                let followed = leader.copy.follow(&delta);
                debug_assert_eq!(followed, Ok(()), "a leader has all that is committed");
            }
        }
        applied.answer
    }

    fn reaches_majority(&self, node: NodeId) -> bool {
        let well = |voter: NodeId| !self.cut.contains_key(&voter) && self.hosts[&voter].frozen.is_none();
        well(node) && (1..=VOTERS).filter(|voter| well(NodeId(*voter))).count() as u64 * 2 > VOTERS
    }

    /// Whether a host runs; one whose freeze has ended runs on.
    fn thawed(&mut self, node: NodeId) -> bool {
        let Some(host) = self.hosts.get_mut(&node) else { return false };
        if host.frozen.is_some_and(|until| self.now >= until) {
            host.frozen = None;
        }
        host.frozen.is_none()
    }

    fn post(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        for letter in std::mem::take(&mut host.out) {
            let (loss, delay) = self.faults.map_or((0, Duration::from_millis(2)), |faults| (faults.loss, faults.delay));
            let own = letter.to == node;
            if own || !self.random.chance(loss) {
                let delay = if own { 0 } else { self.random.below(delay.as_nanos() as u64) };
                self.count += 1;
                self.flying.insert((self.now + Duration::from_nanos(delay), self.count), letter);
            }
        }
    }

    fn deliver(&mut self) {
        let later = self.flying.split_off(&(self.now, u64::MAX));
        for (key, letter) in std::mem::replace(&mut self.flying, later) {
            let cut_until = [letter.from, letter.to].iter().filter_map(|node| self.cut.get(node)).max().copied();
            if !self.thawed(letter.to) {
                // It waits in the frozen host's sockets.
                self.flying.insert((self.now + STEP, key.1), letter);
            } else if let Some(until) = cut_until.filter(|_| letter.from != letter.to) {
                if self.random.chance(50) {
                    // It is sent again some time after the cut has ended.
                    let later = until + Duration::from_millis(self.random.below(1500));
                    self.flying.insert((later, key.1), letter);
                }
            } else {
                self.receive(letter);
            }
        }
    }

    fn receive(&mut self, letter: Letter) {
        let now = self.now;
        let rest_for = Duration::from_millis(self.random.below(390));
        let (from, to) = (letter.from, letter.to);
        let Some(host) = self.hosts.get_mut(&to) else { return };
        let clock = host.clock(now);
        let reply = match (&letter.message, &mut host.lead) {
            (Message::Propose { .. } | Message::Renew(_) | Message::Follow { .. }, None) => Some(Message::NotLeader),
            (Message::Renew(renewal), Some(lead)) => match lead.leases.arrived(*renewal, &host.copy, clock) {
                Arrived::Answer(renewed) => Some(Message::Renewed(renewed)),
                Arrived::Waits | Arrived::Dropped => None,
            },
            (Message::Follow { version }, Some(_)) => match self.feed.since(*version, host.copy.version(), 500) {
                Some(steps) => Some(Message::Steps(steps)),
                None => Some(Message::Snapshot(Box::new(host.copy.without_secrets()))),
            },
            (Message::Propose { number, command }, Some(_)) => {
                let (number, command) = (*number, command.clone());
                self.commit(to, &command).map(|answer| Message::Answer { number, answer })
            }
            _ => return host.receive(letter, now, rest_for),
        };
        if let (Some(reply), Some(host)) = (reply, self.hosts.get_mut(&to)) {
            host.send(from, reply);
        }
    }

    /// Users claim, stop and lose actors.
    fn use_it(&mut self) {
        if self.faults.is_none() || !self.random.chance(20) {
            return;
        }
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        let Some(node) = self.random.one(&nodes) else { return };
        let (what, dormant) = (self.random.below(10), self.random.chance(50));
        let name: Arc<str> = format!("sim.actor/{}", self.random.below(NAMES)).into();
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.gate_is_open(now)) else { return };
        match what {
            0 | 1 => host.stop(&name, dormant, now),
            2 => drop(host.actors.remove(&name)),
            _ => host.claim(name, 0, now),
        }
    }

    fn make_faults(&mut self) {
        self.cut.retain(|_, until| *until > self.now);
        if self.elect_at.is_some_and(|at| self.now >= at) {
            self.elect();
        }
        if self.elect_at.is_none() && self.leader.is_none_or(|leader| !self.reaches_majority(leader)) {
            self.depose();
        }
        let Some(faults) = self.faults else { return };
        let steps = (faults.every.as_nanos() / STEP.as_nanos()).max(1) as u64;
        if self.random.below(steps) != 0 {
            return;
        }
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        let Some(node) = self.random.one(&nodes) else { return };
        let short = self.now + Duration::from_millis(100 + self.random.below(5_000));
        let long = self.now + Duration::from_secs(30 + self.random.below(60));
        match self.random.below(8) {
            0..=2 => drop(self.cut.insert(node, short)),
            3 => drop(self.cut.insert(node, long)),
            4 | 5 => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.frozen = Some(short);
                }
            }
            6 => self.restart(node),
            _ => self.depose(),
        }
    }

    fn restart(&mut self, node: NodeId) {
        if self.leader == Some(node) {
            self.depose();
        }
        if let Some(host) = self.hosts.get_mut(&node) {
            host.restart();
        }
    }

    fn depose(&mut self) {
        self.leader = None;
        self.elect_at = Some(self.now + Duration::from_millis(400 + self.random.below(800)));
    }

    fn elect(&mut self) {
        self.elect_at = None;
        let fit: Vec<NodeId> = (1..=VOTERS).map(NodeId).filter(|voter| self.reaches_majority(*voter)).collect();
        let Some(node) = self.random.one(&fit) else { return self.depose() };
        self.term += 1;
        self.report.elections += 1;
        self.leader = Some(node);
        let believers = self.random.chance(50);
        let (now, term, truth) = (self.now, self.term, self.truth.without_secrets());
        for host in self.hosts.values_mut() {
            if host.node == node {
                host.copy = truth.clone();
                host.know_members();
                host.lead = Some(Lead::new(term, Leases::new(host.timing, host.clock(now))));
            } else if !believers || self.cut.is_empty() {
                host.lead = None;
            }
        }
        let heard: BTreeSet<NodeId> = self.hosts.keys().copied().filter(|_| self.random.chance(50)).collect();
        for host in self.hosts.values_mut().filter(|host| heard.contains(&host.node)) {
            host.leader = node;
        }
    }
}

fn joiner(number: u64) -> Joiner {
    Joiner {
        node: NodeId(number),
        key_hash: [number as u8; 32],
        name: format!("host-{number}"),
        address: String::new(),
        boot: Boot(1),
        role: Role::Voter,
        witness: false,
        level: FEATURE_LEVEL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_cluster::lease::TIMING;

    fn run(timing: Timing, faults: Faults, seed: u64) -> Result<Report, Violation> {
        let mut simulation = Simulation::new(5, timing, faults, seed);
        simulation.run(Duration::from_secs(120))?;
        simulation.settle()
    }

    fn run_all(faults: Faults, seeds: std::ops::Range<u64>) -> Report {
        let mut total = Report::default();
        for seed in seeds {
            let report = run(TIMING, faults, seed).unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
            total.grants += report.grants;
            total.leases_lost += report.leases_lost;
            total.boots_dead += report.boots_dead;
            total.elections += report.elections;
        }
        total
    }

    #[test]
    fn one_instance_a_name_whatever_happens() {
        let total = run_all(Faults::default(), 0..20);
        assert!(total.grants > 1000 && total.leases_lost > 100 && total.elections > 100, "{total:?}");
    }

    #[test]
    fn one_instance_a_name_where_hosts_are_given_up() {
        // Leaders last long enough to give up hosts that are cut off.
        let total = run_all(Faults { every: Duration::from_secs(8), ..Faults::default() }, 100..115);
        assert!(total.grants > 1000 && total.leases_lost > 10 && total.boots_dead > 3, "{total:?}");
    }

    #[test]
    fn a_grant_before_the_pause_is_found_out() {
        let hasty = Timing { regrant: Duration::from_millis(1200), ..TIMING };
        let found = (0..20).filter_map(|seed| run(hasty, Faults::default(), seed).err());
        assert!({ found }.any(|found| found.what.contains("passes the gate")), "two instances were not noticed");
    }

    #[test]
    fn a_run_is_repeated_from_its_seed() {
        let run = || run(TIMING, Faults::default(), 5);
        assert_eq!(run(), run());
    }
}
