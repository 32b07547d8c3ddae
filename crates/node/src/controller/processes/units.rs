//! Worker executables that are kept running.

use super::{Unit, UnitState};
use crate::{
    config::WorkerCommand,
    controller::Controller,
    workers::{self, Order},
};
use odeon_protocol::WorkerId;

impl Controller {
    /// Starts a worker executable; `dedicated` to one actor, or for every actor of its types.
    pub(in crate::controller) fn start_unit(&mut self, command: WorkerCommand, dedicated: bool) -> u32 {
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

    pub(in crate::controller) fn on_unit_started(&mut self, unit: u32, worker: WorkerId, pid: u32) {
        if let Some(unit) = self.units.get_mut(&unit) {
            (unit.worker, unit.pid, unit.state) = (Some(worker), pid, UnitState::Starting);
            unit.starts += 1;
            self.parts.metrics.workers_started.add(1);
        }
    }

    pub(in crate::controller) fn on_unit_waits(&mut self, unit: u32, why: Option<String>) {
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

    pub(in crate::controller) fn on_unit_ended(&mut self, unit: u32) {
        self.listeners.release(unit);
        self.units.remove(&unit);
        self.dedicated_failed(unit, "it was stopped");
        self.report_registered();
        self.names_without_worker();
    }

    /// Tells a unit; false if there is none.
    pub(in crate::controller) fn order(&mut self, unit: u32, order: Order) -> bool {
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
    pub(in crate::controller) fn unit_of(&self, worker: WorkerId) -> Option<u32> {
        self.units.iter().find(|(_, unit)| unit.worker == Some(worker)).map(|(unit, _)| *unit)
    }

    /// Says whether every configured worker runs, or what is waited for.
    pub(in crate::controller) fn report_registered(&self) {
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
