//! Processes that say hello: let in or refused, and what they may do from then on.

use super::{Client, EMBEDDED, Said, UnitState, Worker};
use crate::{
    controller::Controller,
    event::{Admission, Greeting},
};
use odeon_protocol::{
    Serial, WorkerId,
    control::{FromAgent, Hello, Role, Value, Welcome},
    limits::{BLOCKS_MAX, CLIENTS_MAX, WORKERS_MAX},
};
use std::collections::BTreeMap;
use tracing::{info, warn};

impl Controller {
    pub(in crate::controller) fn on_hello(
        &mut self,
        id: WorkerId,
        greeting: Greeting,
        hello: Hello,
    ) -> Result<Admission, String> {
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
                let client = Client { name: hello.name.clone(), pid: hello.pid, said: Said::default() };
                self.clients.insert(id, client);
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
            capabilities: self.capabilities().clone().into_iter().collect(),
        };
        Ok(Admission { welcome: Box::new(welcome), name: hello.name, descriptors })
    }

    pub(in crate::controller) fn on_admitted(&mut self, id: WorkerId) {
        self.count_processes();
        self.tell_letters_wanted(id);
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
            self.capabilities_changed();
            return self.dedicated_ready(unit, id);
        }
        self.types.add(id, &types);
        self.capabilities_changed();
        self.report_registered();
        self.names_with_worker();
        self.names_without_worker();
    }

    pub(in crate::controller) fn on_listening(&self, process: WorkerId) {
        if let Some(worker) = self.workers.get(&process) {
            let listeners = self.listeners.of(worker.unit);
            info!(worker = worker.name, ?listeners, "worker serves");
        }
    }

    pub(in crate::controller) fn on_lease(&mut self, process: WorkerId, request: u64) {
        let block = self.new_block();
        if self.parts.router.lease(block, process) {
            return self.parts.router.control(process, &FromAgent::Leased { request, block });
        }
        warn!(%process, "link closed: it leased {BLOCKS_MAX} blocks of serials, the limit");
        self.parts.router.detach(process);
    }

    pub(in crate::controller) fn on_capabilities(&mut self, process: WorkerId, capabilities: Vec<(String, Value)>) {
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.capabilities = capabilities;
            self.capabilities_changed();
        }
    }

    pub(in crate::controller) fn on_load(&mut self, process: WorkerId, actors: u64, waiting: u64) {
        if let Some(worker) = self.workers.get_mut(&process) {
            (worker.reported, worker.waiting) = (actors, waiting);
        }
    }

    /// Tells the other hosts what this one can do and runs.
    pub(in crate::controller) fn publish_facts(&self) {
        let types = if self.stopping { Default::default() } else { self.types.names() };
        self.parts.convention.set_capabilities(self.capabilities().clone());
        self.parts.convention.set_types(types);
    }

    /// A serial for an actor that is placed in that worker.
    pub(in crate::controller) fn next_serial(&mut self, worker: WorkerId) -> Option<Serial> {
        let full = self.workers.get(&worker)?.is_block_used_up();
        if full {
            let block = self.new_block();
            if !self.parts.router.lease(block, worker) {
                return None;
            }
            self.workers.get_mut(&worker)?.take_block(block);
        }
        let worker = self.workers.get_mut(&worker)?;
        let serial = worker.next;
        worker.next = Serial(serial.0 + 1);
        // Until the next count, so that those who are placed now do not all come here.
        worker.actors += 1;
        Some(serial)
    }

    /// Workers report their actors now and then; those with a record are known at any time.
    pub(in crate::controller) fn count_actors(&mut self) {
        let mut known: BTreeMap<WorkerId, u64> = BTreeMap::new();
        for record in self.records.values() {
            *known.entry(record.worker).or_default() += 1;
        }
        for (id, worker) in &mut self.workers {
            worker.actors = worker.reported.max(known.get(id).copied().unwrap_or(0));
        }
    }

    pub(super) fn count_processes(&self) {
        self.parts.metrics.workers.set(self.workers.len() as u64);
        self.parts.metrics.clients.set(self.clients.len() as u64);
    }
}
