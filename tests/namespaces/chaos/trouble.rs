//! Brings faults upon hosts and takes them away again. Only processes of the scenario's own agents are meant, by their ids.

use super::{
    RECOVERY,
    checker::Pause,
    command,
    faults::{Dice, Fault, HOSTS, Kind, Step, Who},
    history::{Failover, Time},
};
use crate::{
    harness::{Agent, wait_within},
    network,
    world::{World, pass},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    time::{ClockId, clock_gettime},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

/// When the leader grants the names of a host that says nothing to others, at the earliest.
const LEASE: Time = 2_750_000_000;

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// How many faults of each kind.
    pub(crate) faults: BTreeMap<String, u64>,
    /// When each step began.
    pub(crate) steps: Vec<Time>,
    /// Each process that was stopped, and was there until it went on.
    pub(crate) pauses: Vec<Pause>,
    /// How often some process of a host was found stopped for longer than a lease.
    pub(crate) long_pauses: u64,
    /// Steps after which another host led than before.
    pub(crate) leader_losses: u64,
}

impl Trouble {
    /// Makes trouble for so long.
    pub(crate) fn make(world: &mut World, dice: &mut Dice, lasts: Duration) -> Self {
        let (mut trouble, end) = (Self::default(), Instant::now() + lasts);
        let mut leader = leader(world);
        while Instant::now() < end {
            trouble.suffer(world, &dice.step(leader));
            let next = self::leader(world);
            trouble.leader_losses += u64::from(next != leader);
            leader = next;
        }
        trouble
    }

    /// How many steps these failovers followed.
    pub(crate) fn causes<'a>(&self, failovers: impl IntoIterator<Item = &'a Failover>) -> usize {
        let after = |failover: &Failover| self.steps.partition_point(|began| *began < failover.at);
        failovers.into_iter().map(after).collect::<BTreeSet<usize>>().len()
    }

    fn suffer(&mut self, world: &mut World, step: &Step) {
        self.steps.push(now());
        let frozen: Vec<Frozen> = step.faults.iter().filter_map(|fault| self.begin(world, fault)).collect();
        pass(step.lasts);
        let thawed: Vec<Vec<Pause>> = frozen.into_iter().map(Frozen::thaw).collect();
        let is_long = |pauses: &&Vec<Pause>| pauses.iter().any(|pause| pause.until - pause.from > LEASE);
        self.long_pauses += thawed.iter().filter(is_long).count() as u64;
        self.pauses.extend(thawed.into_iter().flatten());
        world.network.mend();
        step.faults.iter().filter(|fault| fault.kind == Kind::KillAgent).for_each(|fault| world.restart(fault.host));
        pass(step.calm);
    }

    fn begin(&mut self, world: &mut World, fault: &Fault) -> Option<Frozen> {
        *self.faults.entry(fault.kind.to_string()).or_default() += 1;
        fault.blocked().into_iter().for_each(|(to, from)| world.network.block(to, from));
        let agent = &mut world.agents[fault.host];
        match fault.kind {
            Kind::KillWorkers => workers(agent).into_iter().for_each(|worker| signal(worker, Signal::KILL)),
            Kind::KillAgent => agent.kill(),
            Kind::Stop(who) => return Some(Frozen::new(processes(agent, who))),
            Kind::CutHost(_) | Kind::CutPair(_) => {}
        }
        None
    }
}

/// Processes that are stopped, and go on at the latest when this is dropped.
#[derive(Debug)]
struct Frozen {
    processes: Vec<u64>,
    since: Time,
}

impl Frozen {
    fn new(processes: Vec<u64>) -> Self {
        let since = now();
        processes.iter().for_each(|process| signal(*process, Signal::STOP));
        Self { processes, since }
    }

    /// They go on, the workers before their agent. What has ended meanwhile, as workers do whose agent found them silent,
    /// was not paused.
    fn thaw(mut self) -> Vec<Pause> {
        let stopped = std::mem::take(&mut self.processes).into_iter().rev().filter(|pid| is_stopped(*pid));
        stopped.map(|pid| Pause { pid, from: self.since, until: go_on(pid) }).collect()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.processes.iter().for_each(|process| signal(*process, Signal::CONT));
    }
}

/// Lets a process go on; when that was.
fn go_on(process: u64) -> Time {
    let at = now();
    signal(process, Signal::CONT);
    at
}

/// Sends a signal to one of the scenario's processes, which may have ended by now.
fn signal(process: u64, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn processes(agent: &Agent, who: Who) -> Vec<u64> {
    match who {
        Who::Agent => vec![agent.pid()],
        Who::Workers => workers(agent),
        Who::Both => [agent.pid()].into_iter().chain(workers(agent)).collect(),
    }
}

/// The processes that an agent has started.
fn workers(agent: &Agent) -> Vec<u64> {
    let all = fs::read_dir("/proc").expect("the processes are there").filter_map(Result::ok);
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent(*id) == Some(agent.pid())).collect()
}

fn parent(process: u64) -> Option<u64> {
    stat(process, 1)?.parse().ok()
}

fn is_stopped(process: u64) -> bool {
    stat(process, 0).as_deref() == Some("T")
}

/// The state of a process (0), or its parent (1).
fn stat(process: u64, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Before them the program's name stands in brackets, and may have some of its own.
    stat.rsplit(')').next()?.split_whitespace().nth(field).map(str::to_owned)
}

/// Waits until a majority of the hosts agree who leads.
fn leader(world: &World) -> usize {
    wait_within(RECOVERY, "a leader that a majority knows", || {
        let mut votes = [0; HOSTS];
        for agent in &world.agents {
            let status = command(&agent.data, &["--json", "status"]);
            let name = status.as_ref().and_then(|status| status["leader"].as_str());
            let host = name.and_then(|name| network::HOSTS.iter().position(|host| *host == name));
            host.into_iter().for_each(|host| votes[host] += 1);
        }
        votes.iter().position(|votes| *votes > HOSTS / 2)
    })
}

/// The time by which witnesses and claimants write.
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
