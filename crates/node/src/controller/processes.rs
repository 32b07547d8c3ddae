//! Workers and clients: admitted, listed, lost.

use super::{CALL_WAIT, Controller};
use crate::{
    config::WorkerCommand,
    event::{Admission, Greeting},
    workers::{self, End, Order},
};
use odeon_cluster::capability;
use odeon_protocol::{
    ExitCause, Serial, WorkerId,
    control::{ActorInfo, FromAgent, Hello, Role, TypeInfo, Value, Welcome},
    limits::{CLIENTS_MAX, STOP_GRACE, WORKERS_MAX},
    peer::WorkerInfo,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::{info, warn};

/// Workers that do not answer a question for their actors are left out of lists after so long.
const LIST_WAIT: Duration = Duration::from_secs(2);
/// The unit of workers that live in the agent's own process.
const EMBEDDED: u32 = 0;
/// An ended process's link is read to its end within this time.
const LINK_WAIT: Duration = Duration::from_secs(2);

/// A worker executable that is kept running.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) command: WorkerCommand,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) worker: Option<WorkerId>,
    pub(super) pid: u32,
    pub(super) starts: u32,
    pub(super) state: UnitState,
    /// Why its last process was not admitted or ended.
    pub(super) why: Option<String>,
    /// The types of its last worker.
    pub(super) types: Vec<String>,
    /// It runs one actor in a process of its own.
    pub(super) dedicated: bool,
}

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitState {
    Starting,
    Running,
    Waiting,
    Stopping,
}

impl UnitState {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
        }
    }
}

impl Unit {
    /// Whether a worker that runs the type will be registered again without anybody's doing.
    pub(super) fn brings(&self, type_name: &str) -> bool {
        !self.dedicated && self.state != UnitState::Stopping && self.types.iter().any(|known| known == type_name)
    }
}

/// An admitted worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) unit: u32,
    pub(super) pid: u32,
    pub(super) types: Vec<TypeInfo>,
    pub(super) capabilities: Vec<(String, Value)>,
    pub(super) actors: u64,
    pub(super) waiting: u64,
    /// The actors that it said last it had.
    reported: u64,
    /// The next serial for actors placed here.
    next: Serial,
    /// The last serial of the block that these come from.
    last: Serial,
    admitted: bool,
    pub(super) dedicated: bool,
    /// Its link has ended.
    closed: bool,
    /// Its process has ended, so.
    ended: Option<ExitCause>,
    pub(super) stopping: bool,
}

/// A list of actors in the making.
#[derive(Debug)]
pub(super) struct Listing {
    missing: Vec<WorkerId>,
    found: Vec<(WorkerId, ActorInfo)>,
    reply: oneshot::Sender<Vec<(WorkerId, ActorInfo)>>,
}

/// Units.
impl Controller {
    /// Starts a worker executable; `dedicated` to one actor, or for every actor of its types.
    pub(super) fn start_unit(&mut self, command: WorkerCommand, dedicated: bool) -> u32 {
        let unit = self.next_unit;
        self.next_unit += 1;
        let orders = workers::start(&self.parts.kit, unit, command.clone());
        self.units.insert(
            unit,
            Unit {
                command,
                orders,
                worker: None,
                pid: 0,
                starts: 0,
                state: UnitState::Starting,
                why: None,
                types: Vec::new(),
                dedicated,
            },
        );
        unit
    }

    pub(super) fn on_unit_started(&mut self, unit: u32, worker: WorkerId, pid: u32) {
        if let Some(unit) = self.units.get_mut(&unit) {
            (unit.worker, unit.pid, unit.state) = (Some(worker), pid, UnitState::Starting);
            unit.starts += 1;
            self.parts.metrics.workers_started.add(1);
        }
    }

    pub(super) fn on_unit_waits(&mut self, unit: u32, why: Option<String>) {
        let Some(state) = self.units.get_mut(&unit) else { return };
        (state.state, state.worker, state.why) = (UnitState::Waiting, None, why);
        let failed = state.dedicated.then(|| state.why.clone().unwrap_or_else(|| "it ended".to_owned()));
        if let Some(why) = failed {
            // A process for one actor is not started for nobody.
            self.order(unit, Order::Stop);
            self.dedicated_failed(unit, &why);
        }
        self.report_registered();
    }

    pub(super) fn on_unit_ended(&mut self, unit: u32) {
        self.listeners.release(unit);
        self.units.remove(&unit);
        self.dedicated_failed(unit, "it was stopped");
        self.report_registered();
        self.names_without_worker();
    }

    /// Tells a unit; false if there is none.
    pub(super) fn order(&mut self, unit: u32, order: Order) -> bool {
        let Some(state) = self.units.get_mut(&unit) else { return false };
        match order {
            Order::Stop => state.state = UnitState::Stopping,
            Order::Restart => state.state = UnitState::Waiting,
            Order::Kill => {}
        }
        if let Some(worker) = state.worker.and_then(|worker| self.workers.get_mut(&worker)) {
            worker.stopping |= matches!(order, Order::Stop | Order::Restart);
        }
        // A full queue holds orders enough.
        let _ = state.orders.try_send(order);
        true
    }

    /// The unit whose process that is.
    pub(super) fn unit_of(&self, worker: WorkerId) -> Option<u32> {
        self.units.iter().find(|(_, unit)| unit.worker == Some(worker)).map(|(unit, _)| *unit)
    }

    /// Says whether every configured worker runs, or what is waited for.
    pub(super) fn report_registered(&self) {
        let missing = self.units.values().find(|unit| !unit.dedicated && unit.state != UnitState::Running);
        let waiting = missing.map(|unit| match &unit.why {
            Some(why) => format!("worker {}: {why}", unit.command.path.display()),
            None => format!("worker {}: it starts", unit.command.path.display()),
        });
        self.parts.registered.send_if_modified(|state| {
            let changed = *state != waiting;
            state.clone_from(&waiting);
            changed
        });
    }
}

/// Admission.
impl Controller {
    pub(super) fn on_hello(&mut self, id: WorkerId, greeting: Greeting, hello: Hello) -> Result<Admission, String> {
        if self.stopping {
            return Err("the agent is stopping".to_owned());
        }
        let (block, placed_block) = (self.new_block(), self.new_block());
        let (mut listeners, mut descriptors) = (Vec::new(), Vec::new());
        match (hello.role, greeting) {
            (Role::Worker, Greeting::Worker { unit, .. }) => {
                if self.workers.len() >= WORKERS_MAX {
                    return Err(format!("this agent has {WORKERS_MAX} workers, the limit"));
                }
                self.types.check(&hello.types)?;
                let dedicated = self.units.get(&unit).is_some_and(|unit| unit.dedicated);
                if !dedicated {
                    descriptors = self.listeners.take(unit, &hello.listeners)?;
                    listeners = hello.listeners.iter().map(|(name, _)| name.clone()).collect();
                }
                let pid = if let Greeting::Worker { pid, .. } = greeting { pid } else { hello.pid };
                let worker = Worker::new(&hello, (unit, pid, dedicated), placed_block);
                self.workers.insert(id, worker);
            }
            (Role::Worker, Greeting::Embedded) => {
                self.types.check(&hello.types)?;
                let worker = Worker::new(&hello, (EMBEDDED, hello.pid, false), placed_block);
                self.workers.insert(id, worker);
            }
            (Role::Worker, _) => {
                return Err("workers are started by their agent: use `odeon run PATH` or --worker".to_owned());
            }
            _ => {
                if self.clients.len() >= CLIENTS_MAX {
                    return Err(format!("this agent has {CLIENTS_MAX} clients, the limit: close some"));
                }
                self.clients.insert(id, hello.name.clone());
            }
        }
        let welcome = Welcome {
            convention: self.parts.convention.id(),
            host: self.parts.config.name.clone(),
            node: self.me(),
            boot: self.parts.convention.boot(),
            worker: id,
            block,
            placed_block,
            listeners,
            capabilities: self.capabilities().into_iter().collect(),
        };
        Ok(Admission { welcome: Box::new(welcome), name: hello.name, descriptors })
    }

    pub(super) fn on_admitted(&mut self, id: WorkerId) {
        self.count_processes();
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.admitted = true;
        info!(worker = worker.name, %id, pid = worker.pid, types = worker.types.len(), "worker registered");
        let (types, unit, dedicated) = (worker.types.clone(), worker.unit, worker.dedicated);
        self.tell_lease(id, *self.parts.convention.lease().borrow());
        if let Some(unit) = self.units.get_mut(&unit) {
            (unit.state, unit.why) = (UnitState::Running, None);
            unit.types = types.iter().map(|info| info.name.clone()).collect();
        }
        if dedicated {
            return self.dedicated_ready(unit, id);
        }
        self.types.add(id, &types);
        self.publish_facts();
        self.report_registered();
        self.names_with_worker();
        self.names_without_worker();
    }

    pub(super) fn on_listening(&self, process: WorkerId) {
        if let Some(worker) = self.workers.get(&process) {
            let listeners = self.listeners.of(worker.unit);
            info!(worker = worker.name, ?listeners, "worker serves");
        }
    }

    pub(super) fn on_lease(&mut self, process: WorkerId, request: u64) {
        let block = self.new_block();
        self.parts.router.lease(block, process);
        self.parts.router.control(process, &FromAgent::Leased { request, block });
    }

    pub(super) fn on_capabilities(&mut self, process: WorkerId, capabilities: Vec<(String, Value)>) {
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.capabilities = capabilities;
            self.publish_facts();
        }
    }

    pub(super) fn on_load(&mut self, process: WorkerId, actors: u64, waiting: u64) {
        if let Some(worker) = self.workers.get_mut(&process) {
            (worker.reported, worker.waiting) = (actors, waiting);
        }
    }

    /// What this host can do: configured, and said by its workers.
    pub(super) fn capabilities(&self) -> BTreeMap<String, Value> {
        let said =
            self.workers.values().filter(|worker| worker.admitted).flat_map(|worker| worker.capabilities.clone());
        let configured = self.parts.config.capabilities.clone();
        match capability::collect(said.chain(configured.clone())) {
            Ok(all) => all,
            Err(error) => {
                warn!(%error, "capabilities of workers are left out");
                configured
            }
        }
    }

    /// Tells the other hosts what this one can do and runs.
    pub(super) fn publish_facts(&self) {
        let types = if self.stopping { Default::default() } else { self.types.names() };
        self.parts.convention.set_capabilities(self.capabilities());
        self.parts.convention.set_types(types);
    }

    /// A serial for an actor that is placed in that worker.
    pub(super) fn next_serial(&mut self, worker: WorkerId) -> Option<Serial> {
        let full = self.workers.get(&worker)?.is_block_used_up();
        if full {
            let block = self.new_block();
            self.parts.router.lease(block, worker);
            self.workers.get_mut(&worker)?.take_block(block);
        }
        let worker = self.workers.get_mut(&worker)?;
        let serial = worker.next;
        worker.next = Serial(serial.0 + 1);
        Some(serial)
    }

    /// Workers report their actors now and then; those with a record are known at any time.
    pub(super) fn count_actors(&mut self) {
        let mut known: BTreeMap<WorkerId, u64> = BTreeMap::new();
        for record in self.records.values() {
            *known.entry(record.worker).or_default() += 1;
        }
        for (id, worker) in &mut self.workers {
            worker.actors = worker.reported.max(known.get(id).copied().unwrap_or(0));
        }
    }

    fn count_processes(&self) {
        self.parts.metrics.workers.set(self.workers.len() as u64);
        self.parts.metrics.clients.set(self.clients.len() as u64);
    }
}

impl Worker {
    fn new(hello: &Hello, (unit, pid, dedicated): (u32, u32, bool), placed_block: u64) -> Self {
        let mut worker = Self {
            name: hello.name.clone(),
            unit,
            pid,
            types: hello.types.clone(),
            capabilities: hello.capabilities.clone(),
            actors: 0,
            waiting: 0,
            reported: 0,
            next: Serial(0),
            last: Serial(0),
            admitted: false,
            dedicated,
            closed: false,
            ended: None,
            stopping: false,
        };
        worker.take_block(placed_block);
        worker
    }

    fn take_block(&mut self, block: u64) {
        let first = Serial::first_of(block);
        (self.next, self.last) = (first, Serial(first.0 + Serial::BLOCK - 1));
    }

    fn is_block_used_up(&self) -> bool {
        self.next > self.last
    }

    /// Whether actors may be placed in it.
    pub(super) fn takes_actors(&self) -> bool {
        self.admitted && !self.closed && !self.stopping && self.ended.is_none()
    }
}

/// Loss.
impl Controller {
    /// A process's link has ended: of a client that is all; a worker's process has to end, too.
    pub(super) fn on_closed(&mut self, process: WorkerId, why: Option<&str>) {
        if let Some(name) = self.clients.remove(&process) {
            if let Some(why) = why {
                warn!(%process, name, "client closed: {why}");
            }
            return self.count_processes();
        }
        let Some(worker) = self.workers.get_mut(&process) else { return };
        worker.closed = true;
        let unit = worker.unit;
        if unit == EMBEDDED {
            return self.worker_lost(process, &ExitCause::WorkerExited { code: 0 });
        }
        match worker.ended.clone() {
            Some(cause) => self.worker_lost(process, &cause),
            None => {
                if let Some(why) = why {
                    warn!(worker = worker.name, %process, "link closed: {why}");
                }
                // It may still be tidying up; a process without a link is of no use for long.
                self.types.remove(process);
                self.later(LINK_WAIT, move |controller| controller.end_deaf(unit, process));
            }
        }
    }

    fn end_deaf(&mut self, unit: u32, process: WorkerId) {
        if self.workers.get(&process).is_some_and(|worker| worker.ended.is_none()) {
            warn!(%process, "closed its link and did not end: it is killed");
            self.order(unit, Order::Kill);
        }
    }

    pub(super) fn on_process_ended(&mut self, unit: u32, process: WorkerId, admitted: bool, end: End) {
        if let Some(unit) = self.units.get_mut(&unit) {
            unit.worker = None;
        }
        if admitted && !end.asked {
            self.parts.metrics.workers_lost.add(1);
        }
        let Some(worker) = self.workers.get_mut(&process) else { return };
        worker.ended = Some(end.cause.clone());
        if !admitted || worker.closed {
            return self.worker_lost(process, &end.cause);
        }
        // Its last words are still being read.
        self.later(LINK_WAIT, move |controller| {
            if controller.workers.contains_key(&process) {
                controller.parts.router.detach(process);
                controller.worker_lost(process, &end.cause);
            }
        });
    }

    fn worker_lost(&mut self, process: WorkerId, cause: &ExitCause) {
        if self.workers.remove(&process).is_none() {
            return;
        }
        self.types.remove(process);
        self.count_processes();
        self.publish_facts();
        self.forget_listing(process);
        self.actors_lost(process, cause);
        self.rest_if_quiet();
    }

    /// Kills the workers that run named actors: this host may not run these any more.
    pub(super) fn kill_named(&mut self) {
        let named: BTreeSet<_> =
            self.records.values().filter(|record| record.name.is_some()).map(|record| record.worker).collect();
        if !named.is_empty() {
            warn!("the lease was not renewed in time: workers with named actors are ended");
        }
        for worker in named {
            match self.unit_of(worker) {
                Some(unit) => drop(self.order(unit, Order::Kill)),
                // Of the agent's own process: it loses its link.
                None => self.parts.router.detach(worker),
            }
        }
        self.drop_named_troupes();
    }
}

/// Lists.
impl Controller {
    /// This host's workers.
    pub(super) fn worker_infos(&self) -> Vec<WorkerInfo> {
        let infos = self.units.iter().filter_map(|(id, unit)| {
            let worker = unit.worker.and_then(|worker| self.workers.get(&worker));
            Some(WorkerInfo {
                worker: unit.worker?,
                name: worker.map_or_else(|| unit.command.name(), |worker| worker.name.clone()),
                pid: unit.pid,
                actors: worker.map_or(0, |worker| worker.actors),
                types: worker
                    .map(|worker| worker.types.iter().map(|info| info.name.clone()).collect())
                    .unwrap_or_default(),
                listeners: self.listeners.of(*id),
                starts: unit.starts,
            })
        });
        infos.collect()
    }

    /// Asks every worker for its actors.
    pub(super) fn list_actors(&mut self) -> oneshot::Receiver<Vec<(WorkerId, ActorInfo)>> {
        let (reply, answer) = oneshot::channel();
        let missing: Vec<_> = self.workers.iter().filter(|(_, worker)| worker.admitted).map(|(id, _)| *id).collect();
        let request = self.new_request();
        missing.iter().for_each(|worker| self.parts.router.control(*worker, &FromAgent::List { request }));
        self.lists.insert(request, Listing { missing, found: Vec::new(), reply });
        self.finish_listing(request, false);
        self.later(LIST_WAIT, move |controller| controller.finish_listing(request, true));
        answer
    }

    pub(super) fn on_listed(&mut self, process: WorkerId, request: u64, actors: Vec<ActorInfo>) {
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.reported = actors.len() as u64;
        }
        if let Some(listing) = self.lists.get_mut(&request) {
            listing.missing.retain(|worker| *worker != process);
            listing.found.extend(actors.into_iter().map(|actor| (process, actor)));
        }
        self.finish_listing(request, false);
    }

    fn forget_listing(&mut self, process: WorkerId) {
        for request in self.lists.keys().copied().collect::<Vec<_>>() {
            if let Some(listing) = self.lists.get_mut(&request) {
                listing.missing.retain(|worker| *worker != process);
            }
            self.finish_listing(request, false);
        }
    }

    fn finish_listing(&mut self, request: u64, at_once: bool) {
        if self.lists.get(&request).is_some_and(|listing| at_once || listing.missing.is_empty())
            && let Some(mut listing) = self.lists.remove(&request)
        {
            listing.found.sort_by_key(|(worker, actor)| (*worker, actor.serial));
            // Whoever asked may have gone.
            let _ = listing.reply.send(listing.found);
        }
    }

    /// Whether nothing runs any more.
    pub(super) fn is_at_rest(&self) -> bool {
        self.workers.is_empty()
            && self.units.is_empty()
            && (self.names.is_at_rest() || self.rest_until <= Instant::now())
    }

    /// Stops every unit; what is named is released as its actor ends.
    pub(super) fn begin_stop(&mut self) {
        self.stopping = true;
        self.rest_until = Instant::now() + STOP_GRACE + CALL_WAIT;
        self.publish_facts();
        info!("stopping: {} workers", self.units.len());
        for unit in self.units.keys().copied().collect::<Vec<_>>() {
            self.order(unit, Order::Stop);
        }
        let embedded: Vec<_> =
            self.workers.iter().filter(|(_, worker)| worker.unit == EMBEDDED).map(|(id, _)| *id).collect();
        for worker in embedded {
            self.parts.router.control(worker, &FromAgent::Stop);
            self.later(STOP_GRACE, move |controller| controller.parts.router.detach(worker));
        }
    }
}
