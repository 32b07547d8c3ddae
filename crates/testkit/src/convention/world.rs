//! The run: a convention is formed, things break, and heal.

mod breaking;
mod voters;

use super::{
    Broken, Fault, Report,
    checks::{Checks, Grant, Scene, may_run},
    machine::Machine,
    paths::Paths,
};
use crate::Random;
use breaking::{Away, Lasting};
use odeon_cluster::directory::{Answer, Claim, Command, Declaration, Joiner, NameState, Role};
use odeon_node::convention::{Handle, Lease, StartError, admit_simulated};
use odeon_protocol::{
    Direct, Serial, Time,
    control::{OnStop, Policy, WireCodec},
    level::FEATURE_LEVEL,
    simulated,
};
use odeon_transport::quic::simulated::Packet;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Between two looks at everything.
const STEP: Duration = Duration::from_millis(2);
/// So long things break.
const BREAKS: Duration = Duration::from_secs(60);
/// For the convention to be formed, and to agree again after the last fault.
const AGREES: Duration = Duration::from_secs(30);
const NAMES: u64 = 12;

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
    /// By host.
    away: Vec<Away>,
    /// Agents that were asked to stop, and whether they have.
    stopping: Vec<(usize, Arc<AtomicBool>)>,
    waiting: Vec<Vec<Packet>>,
    outcomes: Arc<Mutex<Vec<Grant>>>,
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
            away: vec![Away::default(); machines.len()],
            stopping: Vec::new(),
            waiting: vec![Vec::new(); machines.len()],
            outcomes: Arc::default(),
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
        let outcome = what(&mut self);
        for machine in &mut self.machines {
            machine.kill();
        }
        simulated::set_clocks(None);
        simulated::set_random(None);
        match outcome {
            Ok(()) => Ok(Report {
                seconds: self.now.since(Time::ZERO).as_secs(),
                grants: self.checks.granted,
                leases_lost: self.checks.leases_lost,
                boots_over: self.checks.boots_over,
                sum: self.checks.sum,
                ..self.report
            }),
            Err(what) => Err(Broken { seed: self.seed, what, story: self.story }),
        }
    }

    /// Nobody reaches anybody for a while.
    pub(super) fn outage(&mut self, lasts: Duration) -> Result<(), String> {
        self.form()?;
        let until = self.now + lasts;
        let cut = |host| Lasting { fault: Fault::Cut, host, other: host, until };
        self.lasting.extend((0..self.machines.len()).map(cut));
        self.set_ways();
        while self.now <= until {
            self.step()?;
        }
        self.until_agreed(AGREES)
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
        self.until_agreed(AGREES)
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
            self.admit(index)?;
            self.start(index, false)?;
        }
        self.until_agreed(AGREES)
    }

    fn admit(&mut self, index: usize) -> Result<(), String> {
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
        self.machines[0].within(|handle| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let belonging = admit_simulated(&handle, key.public(), joiner).await;
                *outcome.lock() = Some(belonging);
            });
        });
        let until = self.now + AGREES;
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
        self.break_silent();
        self.end_stopped();
        self.begin_anew()?;
        self.rest();
        self.claim();
        for grant in std::mem::take(&mut *self.outcomes.lock()) {
            self.checks.granted(grant);
        }
        self.watch_leader();
        let (now, away) = (self.now, &self.away);
        let absence = |host: usize| away[host].lasts(now);
        self.checks.look(&Scene { now, machines: &self.machines, absence: &absence })
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
        self.machines[host].kill();
        self.waiting[host].clear();
    }

    /// Processes of agents that have stopped end.
    fn end_stopped(&mut self) {
        let stopped: Vec<_> = self.stopping.extract_if(.., |(_, stopped)| stopped.load(Ordering::Relaxed)).collect();
        for (host, _) in stopped {
            self.tell(format!("h{} has stopped", host + 1));
            self.kill(host);
        }
    }

    /// An agent whose start was given up begins the next one, as its process does.
    fn begin_anew(&mut self) -> Result<(), String> {
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            let over = machine.process.as_ref().filter(|_| !machine.stands).and_then(|process| *process.over.borrow());
            if let Some(over) = over {
                self.kill(index);
                self.tell(format!("h{} was told {over:?}", index + 1));
                self.start(index, false)?;
            }
        }
        Ok(())
    }

    /// Named actors of a lost lease come to rest after a while.
    fn rest(&mut self) {
        if !self.is_each(50) {
            return;
        }
        for machine in self.machines.iter().filter(|machine| machine.runs()) {
            let lost = machine.process.as_ref().is_some_and(|process| process.lease.borrow().lost);
            if lost && self.random.chance(30) {
                machine.within(Handle::rested);
            }
        }
    }

    /// Now and then some host claims a name that nobody bears.
    fn claim(&mut self) {
        if !self.is_each(100) {
            return;
        }
        let (index, number) = (self.random.below(self.machines.len() as u64) as usize, self.random.below(NAMES));
        let machine = &self.machines[index];
        let lease = machine.process.as_ref().map(|process| *process.lease.borrow());
        let (Some(lease), true) = (lease, may_run(machine).is_some()) else { return };
        let outcomes = self.outcomes.clone();
        machine.within(|handle| claim(handle, index, number, lease, outcomes));
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

/// Claims a name, as an agent does for a new actor or one that is to be found a new host.
fn claim(handle: &Handle, machine: usize, number: u64, lease: Lease, outcomes: Arc<Mutex<Vec<Grant>>>) {
    let name: Arc<str> = format!("sim.actor/{number}").into();
    let record = handle.directory(|directory| directory.name(&name).cloned());
    let epoch_seen = match record {
        None => 0,
        Some(record) if record.state == NameState::Unplaced => record.epoch,
        Some(_) => return,
    };
    let declaration = Declaration {
        type_name: "sim.actor".into(),
        args: Vec::new(),
        codec: WireCodec::Key,
        policy: Policy { on_stop: OnStop::Dormant, ..Policy::default() },
        on: None,
        parent: Direct::NONE,
    };
    let (boot, generation) = (handle.boot(), lease.generation);
    let holder = Direct { node: handle.me(), boot, serial: Serial(1000 + number) };
    let request = handle.next_request();
    let claim = Claim { request, name: name.clone(), declaration, holder, generation, epoch_seen };
    let handle = handle.clone();
    tokio::spawn(async move {
        if let Ok(Answer::Granted { epoch }) = handle.propose(Command::Claim(claim)).await {
            outcomes.lock().push(Grant { name, machine, boot, generation, epoch });
        }
    });
}
