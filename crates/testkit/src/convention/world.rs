//! The run: a convention is formed, things break, and heal.

mod breaking;
mod disks;
mod outages;
mod voters;

use super::{
    Broken, Fault, Report,
    actors::Attempt,
    checks::{Checks, Scene, may_run},
    machine::{Kept, Machine},
    paths::Paths,
    stage,
};
use crate::{Random, sleepers};
use breaking::{Away, Lasting};
use odeon_cluster::directory::{Joiner, Role};
use odeon_node::{
    StartError,
    convention::{Handle, admit_simulated},
};
use odeon_protocol::{NodeId, Time, level::FEATURE_LEVEL, simulated};
use odeon_transport::quic::simulated::Packet;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Between two looks at everything.
const STEP: Duration = Duration::from_millis(2);
/// So long things break.
const BREAKS: Duration = Duration::from_secs(60);
/// For the convention to be formed, and to agree again after the last fault.
const AGREES: Duration = Duration::from_secs(30);
const NAMES: u64 = 12;
/// Tells before each ask once nothing is broken.
const TELLS: u64 = 2;

/// See the module's head.
pub(super) struct World {
    seed: u64,
    random: Random,
    now: Time,
    /// Leaders last here, so that hosts that are away for long are given up.
    calm: bool,
    machines: Vec<Machine>,
    paths: Paths,
    lasting: Vec<Lasting>,
    /// Nobody uses names by himself any more.
    quiet: bool,
    /// By host.
    away: Vec<Away>,
    /// Hosts whose agents were asked to stop.
    stopping: BTreeSet<usize>,
    waiting: Vec<Vec<Packet>>,
    checks: Checks,
    report: Report,
    leader: Option<String>,
    /// Since when an even number of hosts votes.
    even: Option<Time>,
    story: Vec<String>,
    _data: tempfile::TempDir,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let hosts = if random.chance(50) { 3 } else { 5 };
        Self::of(seed, random, hosts)
    }

    /// With so many hosts.
    pub(super) fn of(seed: u64, mut random: Random, hosts: u64) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let machines: Vec<_> = (1..=hosts)
            .map(|number| Machine::new(number, data.path().join(number.to_string()), random.below(2001) as i64 - 1000))
            .collect();
        Self {
            seed,
            now: Time::ZERO,
            calm: random.chance(15),
            paths: Paths::new(),
            lasting: Vec::new(),
            quiet: false,
            away: vec![Away::default(); machines.len()],
            stopping: BTreeSet::new(),
            waiting: vec![Vec::new(); machines.len()],
            checks: Checks::default(),
            report: Report { hosts, ..Report::default() },
            leader: None,
            even: None,
            story: Vec::new(),
            machines,
            random,
            _data: data,
        }
    }

    pub(super) fn run(mut self, what: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<Report, Broken> {
        let mut random = Random::new(self.random.number());
        simulated::set_random(Some(Box::new(move || random.number())));
        stage::clear();
        sleepers::clear();
        let outcome = what(&mut self);
        for machine in &mut self.machines {
            machine.kill();
        }
        stage::clear();
        sleepers::clear();
        simulated::set_clocks(None);
        simulated::set_random(None);
        match outcome {
            Ok(()) => Ok(Report {
                seconds: self.now.since(Time::ZERO).as_secs(),
                grants: self.checks.granted,
                leases_lost: self.checks.leases_lost,
                boots_over: self.checks.boots_over,
                answered: self.checks.asks.answered,
                failed: self.checks.asks.failed,
                sum: self.checks.sum,
                ..self.report
            }),
            Err(what) => Err(Broken { seed: self.seed, what, story: self.story }),
        }
    }

    /// Things break, and heal.
    pub(super) fn live(&mut self) -> Result<(), String> {
        self.form()?;
        let until = self.now + if self.calm { 2 * BREAKS } else { BREAKS };
        while self.now < until {
            let next = self.now + Duration::from_millis(200 + self.random.below(6000));
            while self.now < next.min(until) {
                self.step()?;
            }
            self.inject();
        }
        while let Some(lasting) = self.lasting.pop() {
            self.heal(&lasting)?;
        }
        self.tell("all is well again".into());
        self.until_agreed(AGREES)?;
        self.all_answer(AGREES)
    }

    fn tell(&mut self, line: String) {
        self.checks.note((&line, self.now.as_nanos()));
        tracing::info!(at = self.now.since(Time::ZERO).as_secs_f64(), "{line}");
        self.story.push(format!("{:9.3} {line}", self.now.since(Time::ZERO).as_secs_f64()));
    }

    /// The first host forms a convention, the others are admitted.
    fn form(&mut self) -> Result<(), String> {
        self.start(0, true)?;
        while may_run(&self.machines[0]).is_none() {
            self.step()?;
            if self.now > Time::ZERO + AGREES {
                return Err("the first host does not form a convention".into());
            }
        }
        for index in 1..self.machines.len() {
            self.admit(index, None)?;
            self.start(index, false)?;
        }
        self.until_agreed(AGREES)
    }

    /// Who holds itself for the leader.
    fn who_leads(&self) -> Option<usize> {
        let leads = |machine: &Machine| {
            let leader = machine.within(|handle| handle.status().leader).flatten();
            machine.runs() && leader == Some(machine.name())
        };
        self.machines.iter().position(leads)
    }

    /// The leader admits a host, after it has evicted the one that was there before.
    fn admit(&mut self, index: usize, was: Option<NodeId>) -> Result<(), String> {
        let machine = &self.machines[index];
        let (key, address) = (machine.key(), machine.address.to_string());
        let joiner = Joiner {
            node: key.node(),
            key_hash: key.public().hash(),
            name: machine.name(),
            address,
            boot: odeon_protocol::Boot(1),
            role: Role::Voter,
            witness: false,
            level: FEATURE_LEVEL,
        };
        let admitted = Arc::new(Mutex::new(None));
        let outcome = admitted.clone();
        let until = self.now + AGREES;
        let leader = loop {
            match self.who_leads() {
                Some(leader) => break leader,
                None if self.now > until => return Err("nobody leads who could admit a host".into()),
                None => self.step()?,
            }
        };
        self.machines[leader].within(|handle| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let evicted = match was {
                    Some(was) => handle.evict(was).await.map_err(|error| error.to_string()),
                    None => Ok(()),
                };
                let belonging = match evicted {
                    Ok(()) => admit_simulated(&handle, key.public(), joiner).await,
                    Err(why) => Err(why),
                };
                *outcome.lock() = Some(belonging);
            });
        });
        while admitted.lock().is_none() && self.now < until {
            self.step()?;
        }
        let belonging = admitted.lock().take().ok_or("a host is not admitted in time")??;
        self.machines[index].join(belonging);
        Ok(())
    }

    fn start(&mut self, index: usize, bootstrap: bool) -> Result<(), String> {
        self.tell(format!("h{} starts", index + 1));
        // An agent does not start on a full disk: it is begun again until there is room.
        self.machines[index].disk.set_full(false);
        // Where another fault ends while it was to lose its power.
        self.machines[index].disk.restore_power(|| false);
        let started = self.machines[index].start(self.now, &self.paths.network, bootstrap);
        started.map_err(|error: StartError| format!("h{} does not start: {error}", index + 1))
    }

    /// Time goes on a little.
    fn step(&mut self) -> Result<(), String> {
        self.now = self.now + STEP;
        self.end_faults()?;
        for packet in self.paths.arriving(self.now, &mut self.random) {
            if let Some(to) = self.machines.iter().position(|machine| machine.address == packet.to) {
                self.waiting[to].push(packet);
            }
        }
        for index in 0..self.machines.len() {
            let suspended = self.lasting.iter().any(|lasting| (lasting.fault, lasting.host) == (Fault::Suspend, index));
            let machine = &mut self.machines[index];
            if !machine.runs() {
                machine.stand(STEP, suspended);
                continue;
            }
            let (waiting, network) = (std::mem::take(&mut self.waiting[index]), &self.paths.network);
            machine.within(|_| waiting.into_iter().for_each(|packet| network.deliver(packet)));
            machine.run(STEP);
            self.paths.send(self.now, &mut self.random);
        }
        self.end_powerless();
        self.break_silent();
        let (now, away) = (self.now, &self.away);
        let absence = |host: usize| away[host].lasts(now);
        self.checks.look(&Scene { now, machines: &self.machines, absence: &absence })?;
        self.use_names();
        sleepers::advance(now);
        self.machines.iter().for_each(|machine| machine.run_programs(now));
        self.look_at_actors()?;
        self.end_stopped()?;
        self.watch_leader();
        Ok(())
    }

    /// Whether something is due that is done each so many milliseconds.
    const fn is_each(&self, millis: u64) -> bool {
        self.now.as_nanos().is_multiple_of(millis * 1_000_000)
    }

    /// Connections over which nothing was heard for long break.
    fn break_silent(&mut self) {
        if !self.is_each(50) {
            return;
        }
        let running = |machine: &&Machine| machine.runs();
        let runs: BTreeSet<_> = self.machines.iter().filter(running).map(|machine| machine.address).collect();
        for machine in self.machines.iter().filter(running) {
            machine.within(|_| self.paths.break_silent(self.now, machine.address, &runs));
        }
    }

    fn kill(&mut self, host: usize) {
        self.paths.network.silence(self.machines[host].address);
        self.machines[host].kill();
        self.waiting[host].clear();
    }

    /// A machine ends as it is, and so does its disk.
    fn lose_power(&mut self, host: usize) {
        self.kill(host);
        let random = &mut self.random;
        self.machines[host].disk.restore_power(|| random.chance(50));
    }

    /// Machines without power are gone.
    fn end_powerless(&mut self) {
        for host in 0..self.machines.len() {
            if self.machines[host].process.is_some() && !self.machines[host].disk.has_power() {
                self.tell(format!("h{} is without power", host + 1));
                self.lose_power(host);
            }
        }
    }

    /// Agents that have stopped end. One whose start was given up begins the next one.
    fn end_stopped(&mut self) -> Result<(), String> {
        for index in 0..self.machines.len() {
            let machine = &self.machines[index];
            let Some(how) = machine.process.as_ref().and_then(|process| process.agent.ended()) else { continue };
            self.kill(index);
            self.tell(format!("h{} has ended: {how:?}", index + 1));
            if !self.stopping.remove(&index) {
                self.start(index, false)?;
            }
        }
        Ok(())
    }

    /// Now and then somebody uses a name.
    fn use_names(&mut self) {
        if self.quiet || !self.is_each(40) {
            return;
        }
        let machine = &self.machines[self.random.below(self.machines.len() as u64) as usize];
        let (key, user) = (self.random.below(NAMES).to_string(), self.random.number());
        let tells = self.random.below(3);
        let born_on = self.random.chance(10).then(|| 1 + self.random.below(self.machines.len() as u64));
        machine.attempt(user, Attempt { key, born_on: born_on.map(|number| format!("h{number}")), tells });
    }

    /// What actors have done since the last step.
    fn look_at_actors(&mut self) -> Result<(), String> {
        let start = |host: u64| {
            let machine = self.machines.iter().find(|machine| machine.number == host);
            let process = machine.and_then(|machine| machine.process.as_ref());
            process.map(|process| (process.handle.me(), process.handle.boot())).ok_or("an actor without an agent")
        };
        for seen in stage::take_seen() {
            self.checks.saw((&seen, self.now), start)?;
        }
        Ok(())
    }

    fn watch_leader(&mut self) {
        if !self.is_each(100) {
            return;
        }
        let mut named = BTreeMap::<String, usize>::new();
        let running = self.machines.iter().filter(|machine| machine.runs());
        let leaders = running.filter_map(|machine| machine.within(|handle| handle.status().leader).flatten());
        leaders.for_each(|leader| *named.entry(leader).or_default() += 1);
        let most = named.into_iter().find(|(_, by)| *by > self.machines.len() / 2).map(|(leader, _)| leader);
        if most.is_some() && most != self.leader {
            self.report.leaders += 1;
            self.tell(format!("{} leads", most.as_deref().unwrap_or_default()));
            self.leader = most;
        }
    }

    /// Until every host runs, holds its lease, and knows the same as all others.
    fn until_agreed(&mut self, within: Duration) -> Result<(), String> {
        let until = self.now + within;
        loop {
            let disagreement = self.disagreement();
            match disagreement {
                None => return Ok(()),
                Some(why) if self.now > until => return Err(format!("after {within:?} there is no agreement: {why}")),
                Some(_) => {}
            }
            for _ in 0..25 {
                self.step()?;
            }
        }
    }

    /// Every name is asked on every host: each answers, and then nothing is outstanding.
    fn all_answer(&mut self, within: Duration) -> Result<(), String> {
        self.quiet = true;
        self.until_nothing_is_open(within)?;
        // Until every controller has seen the last change, too.
        for _ in 0..50 {
            self.step()?;
        }
        let (failed, first) = (self.checks.asks.failed, stage::number());
        self.checks.asks.calm_from(first);
        for host in 0..self.machines.len() {
            for name in 0..NAMES {
                if !self.machines[host].attempt(name, Attempt { key: name.to_string(), born_on: None, tells: TELLS }) {
                    return Err(format!("nobody on h{} can ask for a name", host + 1));
                }
            }
        }
        self.until_nothing_is_open(within)?;
        self.checks.asks.all_told()?;
        match self.checks.asks.failed - failed {
            0 => Ok(()),
            failed => Err(format!("{failed} asks failed although all was well")),
        }
    }

    fn until_nothing_is_open(&mut self, within: Duration) -> Result<(), String> {
        let until = self.now + within;
        loop {
            for _ in 0..25 {
                self.step()?;
            }
            let pids = self.machines.iter().flat_map(Machine::pids).collect();
            let open = self.checks.asks.open(&pids);
            let flows: u64 = self.machines.iter().map(Machine::flows).sum();
            let child = self.checks.children.open(&pids);
            let kept: Vec<_> = self.machines.iter().map(Machine::kept).collect();
            if open.is_none() && child.is_none() && flows == 0 && kept.iter().all(|kept| *kept == Kept::default()) {
                return Ok(());
            }
            if self.now > until {
                return Err(format!(
                    "after {within:?} ask {open:?} has not ended, nobody was told of the end of child {child:?}, \
                     {flows} flows are known and agents keep {kept:?}; {:?}",
                    self.machines.iter().flat_map(|of| [of.open_flows(), of.full_links()].concat()).collect::<Vec<_>>()
                ));
            }
        }
    }

    fn disagreement(&self) -> Option<String> {
        let mut known = Vec::new();
        for machine in &self.machines {
            if may_run(machine).is_none() {
                return Some(format!("{} holds no lease", machine.name()));
            }
            // By then the change that its arrival brought about, of the voters, is committed.
            if machine.within(Handle::is_ready) != Some(true) {
                return Some(format!("{} is not ready", machine.name()));
            }
            if !machine.has_users() {
                return Some(format!("nobody on {} can use a name", machine.name()));
            }
            let says = machine.within(|handle| {
                let status = handle.status();
                (handle.directory(|directory| directory.version()), status.leader, status.voters.len(), status.up)
            });
            known.extend(says.map(|says| (machine.name(), says)));
        }
        let (first, (version, leader, ..)) = known.first()?;
        known.iter().find_map(|(name, says)| {
            let (hosts, up) = (self.machines.len(), says.3);
            let wanted = odeon_cluster::voters::size(hosts);
            if says.0 != *version || says.1 != *leader || leader.is_none() {
                return Some(format!("{first} knows version {version} and leader {leader:?}, {name} {says:?}"));
            }
            (says.2 != wanted || up != hosts).then(|| format!("{name} knows {} voters and {up} hosts up", says.2))
        })
    }
}
