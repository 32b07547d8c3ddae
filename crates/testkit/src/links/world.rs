//! A whole run: hosts, pipes and directory, and what happens to them when.

use super::{
    Broken, Report,
    actors::{Go, Sink, Source},
    directory::{Directory, Name, Place},
    faults::{self, FAULTS, Fault, PHASES, Phase},
    host::{Host, Worker},
    pipe::{Connection, IDLE, Item, Pipe},
    stage::{self, Stage},
};
use crate::{balance, random::Random, sleepers};
use odeon_node::simulation::{DOWN_MAX, Wanted};
use odeon_protocol::{Address, Boot, Direct, NodeId, Time, WorkerId, control::ToAgent};
use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

const HOSTS: u64 = 3;
const WORKERS: u64 = 2;
/// Receivers: those with a global name first.
const NAMED: u32 = 3;
const RECEIVERS: u32 = 5;
/// Faults come within so long.
const TROUBLE: Duration = Duration::from_secs(60);
/// Afterwards everything has to come to rest within so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages of a run, at least.
const MESSAGES: u64 = 2_200;
/// How long a fault waits for its phase.
const PHASE_COMES: Duration = Duration::from_secs(2);
/// A dead host's names are given up after so long, and the host itself.
const LEASE: Duration = Duration::from_secs(3);
const DEAD: Duration = Duration::from_secs(6);

/// What is to happen.
#[derive(Clone, Debug)]
enum Action {
    /// A fault, as soon as that is going on; at the latest then.
    Inject(Fault, Phase, Time),
    /// The controller of that start of a host looks a name up.
    Resolve(NodeId, Boot, Arc<str>, bool),
    /// A host hears that a grant is over.
    Unresolved(NodeId, Arc<str>, u64),
    /// A host hears that processes of another one are gone.
    BlocksLost(NodeId, NodeId, Boot, Vec<u64>),
    /// A host hears that a name was lost with its host.
    PlaceLost(NodeId, Arc<str>, Direct, u64),
    HostDead(NodeId, NodeId, Boot),
    /// The directory gives a grant up.
    Free(Arc<str>, u64),
    AddWorker(NodeId, Boot),
    /// A sender that was started there begins with its task.
    Begin(NodeId, WorkerId, Direct, Order),
    Return(NodeId),
    Quick(u32),
    Tick,
}

/// See the module's head.
pub(super) struct World {
    seed: u64,
    random: Random,
    now: Time,
    tokio: tokio::runtime::Runtime,
    hosts: BTreeMap<NodeId, Host>,
    pipes: BTreeMap<(NodeId, NodeId), Pipe>,
    directory: Directory,
    actions: BTreeMap<(Time, u64), Action>,
    scheduled: u64,
    boots: u64,
    /// Every sender's task, and those whose senders went down.
    orders: BTreeMap<u32, Order>,
    orphans: Vec<Order>,
    /// Processes that are over, with what they had counted.
    ended: Vec<balance::Process>,
    report: Report,
    story: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        stage::with(|stage| *stage = Stage::default());
        sleepers::clear();
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let mut world = Self {
            seed,
            random: Random::new(seed),
            now: Time::from_nanos(1_000_000_000),
            tokio,
            hosts: BTreeMap::new(),
            pipes: BTreeMap::new(),
            directory: Directory::default(),
            actions: BTreeMap::new(),
            scheduled: 0,
            boots: 0,
            orders: BTreeMap::new(),
            orphans: Vec::new(),
            ended: Vec::new(),
            report: Report::default(),
            story: Vec::new(),
        };
        sleepers::advance(world.now);
        for number in 1..=HOSTS {
            world.boots += 1;
            world.hosts.insert(NodeId(number), Host::new(NodeId(number), Boot(world.boots)));
        }
        for node in world.nodes() {
            for other in world.nodes() {
                world.introduce(node, other);
                if node < other {
                    world.pipes.insert((node, other), Pipe { dial_at: world.now, ..Pipe::default() });
                }
            }
            for _ in 0..WORKERS {
                world.add_worker(node);
            }
        }
        world.cast();
        world
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    fn introduce(&mut self, node: NodeId, other: NodeId) {
        if node != other
            && let Some(boot) = self.hosts.get(&other).map(|host| host.boot)
            && let Some(host) = self.hosts.get_mut(&node)
        {
            host.link(other, boot);
        }
    }

    fn add_worker(&mut self, node: NodeId) -> Option<WorkerId> {
        let tokio = self.tokio.handle().clone();
        self.hosts.get_mut(&node).map(|host| host.add_worker(&tokio))
    }

    fn later(&mut self, span: Duration, action: Action) {
        self.scheduled += 1;
        self.actions.insert((self.now + span, self.scheduled), action);
    }

    /// A short while.
    fn soon(&mut self) -> Duration {
        Duration::from_micros(200 + self.random.below(8_000))
    }

    fn tell_story(&mut self, what: String) {
        self.story.push(format!("{:9.3} s  {what}", self.now.as_nanos() as f64 / 1e9 - 1.0));
    }

    /// Runs to the end, and says what was found.
    pub(super) fn run(mut self) -> Result<Report, Broken> {
        let (begun, end) = (self.now, self.now + TROUBLE + PATIENCE);
        while self.now < end && !self.is_over(begun) && stage::with(|stage| stage.log.faults.is_empty()) {
            let next = self.next();
            self.now = next.max(Time::from_nanos(self.now.as_nanos() + 1));
            sleepers::advance(self.now);
            self.settle();
        }
        let at_rest = self.is_at_rest();
        let faults = stage::with(|stage| {
            if stage.log.faults.is_empty() {
                stage.log.check();
            }
            std::mem::take(&mut stage.log.faults)
        });
        let faults = if faults.is_empty() && at_rest { self.unbalanced() } else { faults };
        let mut report = std::mem::take(&mut self.report);
        report.seconds = self.now.since(begun).as_secs();
        (report.messages, report.sum) = stage::with(|stage| (stage.log.messages(), stage.log.sum()));
        report.large = stage::with(|stage| stage.log.large);
        (report.handled, report.returned, report.lost) = stage::with(|stage| stage.log.ends());
        self.end();
        if !faults.is_empty() || !at_rest {
            let mut faults = faults;
            if !at_rest && faults.is_empty() {
                faults.push(format!("something is still outstanding after {} s", report.seconds));
            }
            return Err(Broken { seed: self.seed, faults, story: std::mem::take(&mut self.story) });
        }
        Ok(report)
    }

    /// Frees what the processes hold.
    fn end(&mut self) {
        let hosts = self.hosts.values_mut();
        hosts.for_each(|host| std::mem::take(&mut host.workers).values().for_each(|worker| worker.process.end()));
    }

    /// Nothing goes on: an actor in the middle of a message sleeps, and so may the mailbox behind it be full.
    fn is_at_rest(&self) -> bool {
        let rests = |host: &Host| host.is_at_rest(self.now);
        sleepers::next().is_none() && self.hosts.values().all(rests) && stage::with(|stage| stage.log.is_finished())
    }

    fn is_over(&self, begun: Time) -> bool {
        self.now.since(begun) >= TROUBLE && self.actions.len() == 1 && self.is_at_rest()
    }

    /// When something happens next.
    fn next(&self) -> Time {
        let actions = self.actions.first_key_value().map(|((at, _), _)| *at);
        let hosts = self.hosts.values().filter_map(|host| host.next(self.now)).min();
        let pipes = self.pipes.values().filter_map(Pipe::next).min();
        let all = [actions, hosts, pipes, sleepers::next()];
        // What is due and cannot be done waits for somebody who pauses.
        let overdue = self.now + Duration::from_millis(1);
        let later = |at: Time| if at <= self.now { overdue } else { at };
        all.into_iter().flatten().map(later).min().expect("the next tick is known")
    }

    /// Does everything that is due now.
    fn settle(&mut self) {
        while let Some(entry) = self.actions.first_entry()
            && entry.key().0 <= self.now
        {
            let action = entry.remove();
            self.act(action);
        }
        let mut rounds = 0;
        let mut moved = true;
        while moved {
            moved = false;
            rounds += 1;
            assert!(rounds < 10_000, "seed {}: no rest at {:?}", self.seed, self.now);
            for node in self.nodes() {
                let now = self.now;
                moved |= self.host(node).step(now);
                self.bury(node);
                self.listen(node);
            }
            self.tend_pipes();
            moved |= self.carry();
        }
    }

    /// What the routers want.
    fn listen(&mut self, node: NodeId) {
        let host = self.host(node);
        let (boot, wanted) = (host.boot, host.agent.wants());
        for wanted in wanted {
            match wanted {
                Wanted::Name(name, starts) => {
                    let soon = self.soon();
                    self.later(soon, Action::Resolve(node, boot, name, starts));
                }
                Wanted::Said(_, ToAgent::Started { serial }) => self.started(Direct { node, boot, serial }),
                Wanted::Said(_, ToAgent::Stopping { serial }) => self.stopping(Direct { node, boot, serial }),
                Wanted::Said(_, ToAgent::Ended { serial, .. }) => self.ended(Direct { node, boot, serial }),
                Wanted::Said(..) | Wanted::Lost(_) => {}
            }
        }
    }

    fn started(&mut self, at: Direct) {
        let Some((key, mut name)) = self.directory.bearer(at) else { return };
        if let Place::Starting(node, worker, place) = name.place {
            name.place = Place::Live(node, worker, place);
            self.directory.names.insert(key, name);
        }
    }

    fn stopping(&mut self, at: Direct) {
        let Some((key, mut name)) = self.directory.bearer(at) else { return };
        let Some((node, worker, place)) = name.place.at() else { return };
        name.place = Place::Stopping(node, worker, place);
        self.host(node).agent.stopping(&key, name.epoch, place.serial);
        self.directory.names.insert(key, name);
    }

    fn ended(&mut self, at: Direct) {
        self.host(at.node).agent.stopped(at.serial);
        let Some((key, name)) = self.directory.bearer(at) else { return };
        let epoch = name.epoch;
        self.directory.names.insert(key.clone(), Name { place: Place::Dormant, ..name });
        for node in self.nodes() {
            let soon = self.soon();
            self.later(soon, Action::Unresolved(node, key.clone(), epoch));
        }
    }

    /// Workers whose end their agents notice now.
    fn bury(&mut self, node: NodeId) {
        let now = self.now;
        let host = self.host(node);
        if !host.up || host.paused_until > now {
            return;
        }
        let boot = host.boot;
        for (id, worker) in host.bury() {
            let blocks = worker.blocks;
            self.note_counts((node, boot), id, &worker);
            worker.process.end();
            self.host(node).agent.say_lost((node, boot), &blocks);
            self.free_names(node, &blocks);
            for other in self.nodes().into_iter().filter(|other| *other != node) {
                let soon = self.soon();
                self.later(soon, Action::BlocksLost(other, node, boot, blocks.to_vec()));
            }
            self.later(Duration::from_millis(40), Action::AddWorker(node, boot));
        }
    }

    /// Names that lived in a lost worker are nowhere now.
    fn free_names(&mut self, node: NodeId, blocks: &[u64]) {
        let gone = |name: &Name| {
            let at = name.place.at();
            at.is_some_and(|(at, _, place)| at == node && blocks.contains(&place.serial.block()))
        };
        let gone: Vec<_> = self
            .directory
            .names
            .iter()
            .filter(|(_, name)| gone(name))
            .map(|(key, name)| (key.clone(), name.epoch))
            .collect();
        for (key, epoch) in gone {
            self.free(&key, epoch);
            for other in self.nodes() {
                let soon = self.soon();
                self.later(soon, Action::Unresolved(other, key.clone(), epoch));
            }
        }
    }
}

mod acts;
mod carrying;
mod casting;
mod counting;

use casting::Order;
