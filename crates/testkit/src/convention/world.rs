//! The run: a convention is formed, things break, and heal.

use super::{
    Broken, Fault, Report,
    checks::{Checks, Grant, Scene, may_run},
    faults::{FAULTS, LIGHT},
    machine::Machine,
    paths::Paths,
};
use crate::Random;
use odeon_cluster::directory::{Answer, Claim, Command, Declaration, Joiner, NameState, Role};
use odeon_node::convention::{Handle, Lease, StartError, admit_simulated};
use odeon_protocol::{
    Direct, Serial, Time,
    control::{OnStop, Policy, WireCodec},
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

/// Nobody hears of another sooner.
const STEP: Duration = Duration::from_millis(2);
/// So long things break.
const BREAKS: Duration = Duration::from_secs(60);
/// For the convention to be formed, and to agree again after the last fault.
const AGREES: Duration = Duration::from_secs(30);
const NAMES: u64 = 12;
/// For a host that is back to be heard.
const SHORT: Duration = Duration::from_secs(3);

/// Out of the others' reach, or not running.
#[derive(Clone, Copy, Debug, Default)]
struct Away {
    /// From when, if it is away.
    since: Option<Time>,
    /// From when until when it was the last time.
    last: Option<(Time, Time)>,
}

impl Away {
    /// How long it is, or was the last time.
    fn lasts(&self, now: Time) -> Duration {
        let last = self.last.map(|(from, until)| until.since(from));
        self.since.map(|since| now.since(since)).or(last).unwrap_or_default()
    }
}

/// A fault that lasts.
struct Lasting {
    fault: Fault,
    host: usize,
    other: usize,
    until: Time,
}

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
    story: Vec<String>,
    _data: tempfile::TempDir,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let data = tempfile::tempdir().expect("a directory");
        let hosts = if random.chance(50) { 3 } else { 5 };
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
            let says = machine.within(|handle| {
                let status = handle.status();
                (handle.directory(|directory| directory.version()), status.leader, status.voters.len(), status.up)
            });
            known.extend(says.map(|says| (machine.name(), says)));
        }
        let (first, (version, leader, ..)) = known.first()?;
        known.iter().find_map(|(name, says)| {
            let (wanted, up) = (self.machines.len(), says.3);
            if says.0 != *version || says.1 != *leader || leader.is_none() {
                return Some(format!("{first} knows version {version} and leader {leader:?}, {name} {says:?}"));
            }
            (says.2 != wanted || up != wanted).then(|| format!("{name} knows {} voters and {up} hosts up", says.2))
        })
    }

    fn end_faults(&mut self) -> Result<(), String> {
        while let Some(over) = self.lasting.iter().position(|lasting| lasting.until <= self.now) {
            let lasting = self.lasting.swap_remove(over);
            self.heal(&lasting)?;
        }
        Ok(())
    }

    fn choose(&mut self) -> (Fault, usize) {
        let leader = self.machines.iter().position(|machine| Some(machine.name()) == self.leader);
        let any = self.random.below(self.machines.len() as u64) as usize;
        if self.calm {
            let away = self.lasting.iter().any(|lasting| lasting.fault.is_outage());
            let faults = if Some(any) == leader || away { &LIGHT[..] } else { &FAULTS[..] };
            return (self.random.one(faults).unwrap_or(Fault::Lossy), any);
        }
        let host = leader.filter(|_| self.random.chance(40)).unwrap_or(any);
        (self.random.one(&FAULTS).unwrap_or(Fault::Lossy), host)
    }

    /// Breaks something.
    fn inject(&mut self) {
        let (fault, host) = self.choose();
        let other = (host + 1 + self.random.below(self.machines.len() as u64 - 1) as usize) % self.machines.len();
        let busy = |lasting: &Lasting| {
            (lasting.host, lasting.fault) == (host, fault) || lasting.host == host && !self.machines[host].runs()
        };
        if self.lasting.iter().any(busy) {
            return;
        }
        let lasts = if self.calm { fault.lasts_long(&mut self.random) } else { fault.lasts(&mut self.random) };
        self.tell(format!("{fault:?} h{} (h{}) for {lasts:?}", host + 1, other + 1));
        *self.report.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::Freeze | Fault::Suspend => self.machines[host].stands = true,
            Fault::Kill => self.kill(host),
            Fault::Stop => {
                let stopped = Arc::<AtomicBool>::default();
                self.machines[host].stop(stopped.clone());
                self.stopping.push((host, stopped));
            }
            Fault::SlowDisk => {
                let takes = Duration::from_millis(50 + self.random.below(500));
                self.machines[host].disk.set_sync(takes);
            }
            _ => {}
        }
        self.lasting.push(Lasting { fault, host, other, until: self.now + lasts });
        self.set_ways();
    }

    fn heal(&mut self, over: &Lasting) -> Result<(), String> {
        self.tell(format!("{:?} of h{} is over", over.fault, over.host + 1));
        match over.fault {
            Fault::Freeze | Fault::Suspend => self.machines[over.host].stands = false,
            Fault::Kill | Fault::Stop => {
                // It may be stopping still, or have been started by the end of the other fault.
                self.stopping.retain(|(host, _)| *host != over.host);
                self.kill(over.host);
                self.start(over.host, false)?;
            }
            Fault::SlowDisk => self.machines[over.host].disk.set_sync(Duration::from_millis(1)),
            _ => {}
        }
        self.set_ways();
        Ok(())
    }

    /// What the faults that last now mean for the ways between hosts, and for who is away.
    fn set_ways(&mut self) {
        self.paths.cut.clear();
        self.paths.loss.clear();
        let addresses: Vec<_> = self.machines.iter().map(|machine| machine.address).collect();
        for Lasting { fault, host, other, .. } in &self.lasting {
            let (me, others) = (addresses[*host], addresses.iter().filter(|address| **address != addresses[*host]));
            match fault {
                Fault::Cut => self.paths.cut.extend(others.flat_map(|other| [(me, *other), (*other, me)])),
                Fault::Deaf => self.paths.cut.extend(others.map(|other| (*other, me))),
                Fault::Mute => self.paths.cut.extend(others.map(|other| (me, *other))),
                Fault::Split => self.paths.cut.extend([(me, addresses[*other]), (addresses[*other], me)]),
                Fault::Lossy => {
                    self.paths.loss.extend(others.flat_map(|other| [((me, *other), 25), ((*other, me), 25)]))
                }
                Fault::Freeze | Fault::Suspend | Fault::Kill | Fault::Stop | Fault::SlowDisk => {}
            }
        }
        for (host, Away { since, last }) in self.away.iter_mut().enumerate() {
            let away = self.lasting.iter().any(|lasting| match lasting.fault {
                Fault::Split => lasting.host == host || lasting.other == host,
                fault => lasting.host == host && fault.is_outage(),
            });
            match (*since, away) {
                (None, true) => {
                    // Who was back for a moment only has perhaps not been heard.
                    let goes_on = last.filter(|(_, until)| self.now.since(*until) < SHORT);
                    *since = Some(goes_on.map_or(self.now, |(from, _)| from));
                }
                (Some(from), false) => (*since, *last) = (None, Some((from, self.now))),
                _ => {}
            }
        }
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
