//! What happens at its time: faults, and what controllers and directory do.

use super::{
    Action, DEAD, Direct, Duration, Fault, Host, LEASE, Name, NodeId, PHASE_COMES, PHASES, Phase, Place, Time, World,
    faults, stage,
};
use odeon_protocol::{Boot, WorkerId};
use std::sync::Arc;

impl World {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Inject(fault, phase, at_last) => self.wait_for(fault, phase, at_last),
            Action::Resolve(node, boot, name, starts) => self.resolve(node, boot, name, starts),
            Action::Unresolved(node, name, epoch) => self.host(node).agent.unresolved(&name, epoch),
            Action::BlocksLost(node, of, boot, blocks) => match self.hears(node, of) {
                true => self.host(node).agent.blocks_lost(of, boot, blocks),
                false => self.later(Duration::from_millis(50), Action::BlocksLost(node, of, boot, blocks)),
            },
            Action::PlaceLost(node, name, place, epoch) => {
                if self.hosts[&node].up {
                    self.host(node).agent.place_lost(place);
                    self.host(node).agent.unresolved(&name, epoch);
                }
            }
            Action::HostDead(node, of, boot) => {
                if self.hosts[&node].up {
                    self.host(node).agent.host_dead(of, boot);
                }
            }
            Action::Free(key, epoch) => self.free(&key, epoch),
            Action::AddWorker(node, boot) => {
                if self.hosts[&node].up
                    && self.hosts[&node].boot == boot
                    && let Some(worker) = self.add_worker(node)
                {
                    self.hire_for_orphans(node, worker);
                }
            }
            Action::Begin(node, worker, source, order) => self.go((node, worker), source, order),
            Action::Return(node) => self.come_back(node),
            Action::Quick(receiver) => _ = stage::with(|stage| stage.slowness.remove(&receiver)),
            Action::Tick => {
                let now = self.now;
                self.hosts.values_mut().filter(|host| host.up && host.paused_until <= now).for_each(|host| {
                    host.agent.at(now);
                    host.agent.tick();
                });
                self.later(Duration::from_millis(500), Action::Tick);
            }
        }
    }

    /// Whether word from another host reaches this one now.
    fn hears(&self, node: NodeId, of: NodeId) -> bool {
        let pipe = &self.pipes[&(node.min(of), node.max(of))];
        // A host that is gone says nothing, but its end is known.
        !self.hosts[&of].up || self.hosts[&node].up && !pipe.is_cut(self.now)
    }

    fn resolve(&mut self, node: NodeId, boot: Boot, key: Arc<str>, starts: bool) {
        let host = &self.hosts[&node];
        if !host.up || host.boot != boot {
            return;
        }
        let again = Action::Resolve(node, boot, key.clone(), starts);
        if host.paused_until > self.now {
            return self.later(Duration::from_millis(20), again);
        }
        let Some(name) = self.directory.names.get(&key).cloned() else { return };
        match name.place {
            Place::Live(_, _, place) => self.host(node).agent.resolved(&key, place, name.epoch),
            Place::Starting(..) | Place::Stopping(..) => self.later(Duration::from_millis(5), again),
            Place::Dormant => {
                self.start(&key, name);
                self.later(Duration::from_millis(5), again);
            }
        }
    }

    fn start(&mut self, key: &Arc<str>, name: Name) {
        let now = self.now;
        let fits = |host: &&Host| host.up && host.paused_until <= now;
        let places: Vec<(NodeId, WorkerId)> = self
            .hosts
            .values()
            .filter(fits)
            .flat_map(|host| host.workers.iter().filter(|(_, worker)| !worker.dead).map(|(id, _)| (host.node, *id)))
            .collect();
        let Some((node, worker)) = self.random.one(&places) else { return };
        let epoch = self.directory.next_epoch();
        if let Some(place) = self.host(node).start(worker, "sim.sink", Some((key, epoch))) {
            let place = Place::Starting(node, worker, place);
            self.directory.names.insert(key.clone(), Name { place, epoch, ..name });
        }
    }

    /// What is going on now.
    fn phases(&mut self) -> Vec<Phase> {
        PHASES.into_iter().filter(|phase| self.is_in(*phase)).collect()
    }

    fn is_in(&mut self, phase: Phase) -> bool {
        let mut workers = self.hosts.values().flat_map(|host| host.workers.values()).filter(|worker| !worker.dead);
        let mut outstanding = || workers.any(|worker| worker.process.system().stats().outstanding > 0);
        match phase {
            Phase::Flowing => outstanding(),
            Phase::WindowFull => stage::with(|stage| stage.waiting > 0) && outstanding(),
            Phase::Unplaced => self.hosts.values().any(|host| host.agent.held_bytes() > 0),
            Phase::Stopping => self.directory.names.values().any(|name| matches!(name.place, Place::Stopping(..))),
            Phase::Unconnected => self.pipes.values().any(|pipe| pipe.connection.is_none()),
            Phase::Fencing => workers.any(|worker| worker.process.is_fencing()),
            Phase::Large => self.hosts.values_mut().any(Host::has_large),
        }
    }

    /// Injects a fault once that is going on. What does not come by itself is brought about.
    fn wait_for(&mut self, fault: Fault, phase: Phase, at_last: Time) {
        if self.now >= at_last || self.is_in(phase) {
            return self.inject(fault);
        }
        if at_last.since(self.now) + Duration::from_millis(1) > PHASE_COMES {
            match phase {
                Phase::Flowing | Phase::Large => {}
                Phase::WindowFull => self.slow_down(),
                Phase::Unplaced | Phase::Stopping => self.stop_one(),
                Phase::Unconnected => {
                    let pairs: Vec<_> = self.pipes.keys().copied().collect();
                    let (pair, now) = (self.random.one(&pairs).expect("there are pipes"), self.now);
                    self.pipes.get_mut(&pair).expect("pipes stay").break_off(now, &mut self.random);
                }
                Phase::Fencing => {
                    let node = self.random.one(&self.nodes()).expect("there are hosts");
                    self.kill_worker(node);
                }
            }
        }
        self.later(Duration::from_micros(500), Action::Inject(fault, phase, at_last));
    }

    fn inject(&mut self, fault: Fault) {
        for phase in self.phases() {
            *self.report.met.entry((fault, phase)).or_default() += 1;
        }
        self.report.faults += 1;
        let pairs: Vec<_> = self.pipes.keys().copied().collect();
        let pair = self.random.one(&pairs).expect("there are pipes");
        let nodes = self.nodes();
        let node = self.random.one(&nodes).expect("there are hosts");
        match fault {
            Fault::Cut | Fault::OneWayCut => {
                let span = faults::cut(&mut self.random);
                let one = self.random.below(2) as usize;
                let until = self.now + span;
                let now = self.now;
                let pipe = self.pipes.get_mut(&pair).expect("pipes stay");
                for end in [0, 1] {
                    if fault == Fault::Cut || end == one {
                        pipe.cut(end, now, until);
                    }
                }
                self.tell_story(format!("{fault:?} of {pair:?} for {span:?}"));
            }
            Fault::Loss => {
                let until = self.now + Duration::from_secs(1 + self.random.below(5));
                self.pipes.get_mut(&pair).expect("pipes stay").lossy_until = until;
                self.tell_story(format!("loss between {pair:?}"));
            }
            Fault::Close => {
                let now = self.now;
                self.pipes.get_mut(&pair).expect("pipes stay").break_off(now, &mut self.random);
                self.tell_story(format!("the connection of {pair:?} closes"));
            }
            Fault::PauseAgent => {
                let span = Duration::from_millis(50 + self.random.below(3_000));
                self.host(node).paused_until = self.now + span;
                self.tell_story(format!("the agent of {node} pauses for {span:?}"));
            }
            Fault::PauseWorker => {
                let span = Duration::from_millis(50 + self.random.below(12_000));
                let until = self.now + span;
                if let Some(id) = self.some_worker(node) {
                    self.host(node).workers.get_mut(&id).expect("it is there").paused_until = until;
                    self.tell_story(format!("{id} of {node} pauses for {span:?}"));
                }
            }
            Fault::KillWorker => self.kill_worker(node),
            Fault::KillHost => self.kill_host(node),
            Fault::Slow => self.slow_down(),
            Fault::Stop => self.stop_one(),
        }
    }

    fn some_worker(&mut self, node: NodeId) -> Option<WorkerId> {
        let alive = self.hosts[&node].workers.iter().filter(|(_, worker)| !worker.dead).map(|(id, _)| *id);
        let alive: Vec<_> = alive.collect();
        self.random.one(&alive)
    }

    fn kill_worker(&mut self, node: NodeId) {
        let Some(id) = self.some_worker(node) else { return };
        self.tell_story(format!("{id} of {node} is killed"));
        let worker = self.host(node).workers.get_mut(&id).expect("it is there");
        worker.dead = true;
        let (sources, blocks) = (worker.sources.clone(), worker.blocks);
        let receivers = self.directory.receivers_at(node, Some(&blocks));
        self.orphan(&sources);
        stage::with(|stage| {
            receivers.iter().for_each(|receiver| stage.log.receiver_lost(*receiver));
        });
    }

    fn kill_host(&mut self, node: NodeId) {
        // One at a time, as with three voters.
        if self.hosts.values().any(|host| !host.up) {
            return;
        }
        self.tell_story(format!("host {node} goes down"));
        let receivers = self.directory.receivers_at(node, None);
        let host = self.host(node);
        host.up = false;
        let (boot, workers) = (host.boot, std::mem::take(&mut host.workers));
        for (id, worker) in &workers {
            self.note_counts((node, boot), *id, worker);
            self.orphan(&worker.sources);
            worker.process.end();
        }
        stage::with(|stage| receivers.iter().for_each(|receiver| stage.log.receiver_lost(*receiver)));
        let back = LEASE + Duration::from_millis(self.random.below(8_000));
        self.later(back, Action::Return(node));
        for other in self.nodes().into_iter().filter(|other| *other != node) {
            let soon = self.soon();
            self.later(DEAD.min(back) + soon, Action::HostDead(other, node, boot));
        }
        // Its names are free once its lease is over.
        let names: Vec<_> = self.directory.names.iter().map(|(key, name)| (key.clone(), name.clone())).collect();
        for (key, name) in names {
            if let Some((.., place)) = name.place.at().filter(|(at, ..)| *at == node) {
                for other in self.nodes() {
                    let soon = self.soon();
                    self.later(LEASE + soon, Action::PlaceLost(other, key.clone(), place, name.epoch));
                }
                self.later(LEASE, Action::Free(key.clone(), name.epoch));
            }
        }
    }

    fn come_back(&mut self, node: NodeId) {
        self.boots += 1;
        let boot = Boot(self.boots);
        self.tell_story(format!("host {node} comes back in start {boot}"));
        self.hosts.insert(node, Host::new(node, boot));
        for other in self.nodes() {
            self.introduce(node, other);
            self.introduce(other, node);
        }
        for _ in 0..super::WORKERS {
            if let Some(worker) = self.add_worker(node) {
                self.hire_for_orphans(node, worker);
            }
        }
    }

    fn slow_down(&mut self) {
        let receiver = self.random.below(u64::from(super::RECEIVERS)) as u32;
        let slowness = Duration::from_millis(1 + self.random.below(300));
        stage::with(|stage| stage.slowness.insert(receiver, slowness));
        let span = Duration::from_millis(500 + self.random.below(8_000));
        self.later(span, Action::Quick(receiver));
        self.tell_story(format!("receiver {receiver} takes {slowness:?} for {span:?}"));
    }

    fn stop_one(&mut self) {
        let live = self.directory.names.values().filter_map(|name| match name.place {
            Place::Live(node, _, place) => Some((node, place)),
            _ => None,
        });
        let live: Vec<(NodeId, Direct)> = live.collect();
        let Some((node, place)) = self.random.one(&live) else { return };
        self.tell_story(format!("{place} stops"));
        let host = self.host(node);
        if host.up {
            let boot = host.boot;
            host.agent.stop((node, boot), place);
        }
    }

    /// A grant that was lost with its host.
    pub(super) fn free(&mut self, key: &Arc<str>, epoch: u64) {
        if let Some(name) = self.directory.names.get_mut(key).filter(|name| name.epoch == epoch) {
            name.place = Place::Dormant;
        }
    }
}
