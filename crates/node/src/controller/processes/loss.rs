//! Processes that end, or are to.

use super::{EMBEDDED, END_WAIT, LINK_WAIT};
use crate::{
    controller::Controller,
    workers::{End, Order},
};
use odeon_protocol::{
    ExitCause, Time, WorkerId,
    control::{Signal, encode},
};
use std::collections::BTreeSet;
use tracing::warn;

impl Controller {
    /// A process's link has ended: of a client that is all; a worker's process has to end, too.
    pub(in crate::controller) fn on_closed(&mut self, process: WorkerId, why: Option<&str>) {
        self.on_listen(process, false);
        self.forget_watcher(process);
        if let Some(client) = self.clients.remove(&process) {
            if let Some(why) = why {
                warn!(%process, name = client.name, "client closed: {why}");
            }
            self.messages.end(process, (&client.name, client.pid), client.said);
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

    pub(in crate::controller) fn on_process_ended(&mut self, unit: u32, process: WorkerId, admitted: bool, end: End) {
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
        let Some(worker) = self.workers.remove(&process) else { return };
        self.messages.end(process, (&worker.name, worker.pid), worker.said);
        self.types.remove(process);
        self.count_processes();
        self.forget_listing(process);
        self.actors_lost(process, cause);
        self.capabilities_changed();
        self.rest_if_quiet();
    }

    /// The named actors of a process rest since a lease ran out.
    pub(in crate::controller) fn on_at_rest(&mut self, process: WorkerId, pause_at: Time) {
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.rests_since = Some(pause_at);
        }
    }

    /// Kills the workers with named actors that do not rest since then: this host may not run these any more.
    pub(in crate::controller) fn kill_restless(&mut self, pause_at: Time) {
        let rests =
            |worker: &WorkerId| self.workers.get(worker).is_some_and(|worker| worker.rests_since == Some(pause_at));
        let (resting, restless): (BTreeSet<_>, BTreeSet<_>) = self.workers_with_names().into_iter().partition(rests);
        if !resting.is_empty() {
            warn!(workers = resting.len(), "the lease was not renewed in time: named actors rest");
        }
        self.kill_workers(restless, "the lease was not renewed in time, and its named actors do not rest");
    }

    /// Ends all named actors: their names are lost to other hosts.
    pub(in crate::controller) fn end_named(&mut self) {
        let body = encode(&Signal::Kill);
        for (serial, _) in self.records.named() {
            self.parts.router.signal(self.place(*serial), None, &body);
        }
        self.drop_named_troupes();
        self.later(END_WAIT, |controller| {
            if controller.names_are_lost() {
                let workers = controller.workers_with_names();
                controller.kill_workers(workers, "its named actors are lost to other hosts, and it does not end them");
            }
        });
    }

    fn workers_with_names(&self) -> BTreeSet<WorkerId> {
        self.records.named().map(|(_, record)| record.worker).collect()
    }

    fn kill_workers(&mut self, workers: BTreeSet<WorkerId>, why: &str) {
        for worker in workers {
            let name = self.workers.get(&worker).map_or("", |worker| &worker.name);
            warn!(%worker, name, "a worker is ended: {why}");
            match self.unit_of(worker) {
                Some(unit) => drop(self.order(unit, Order::Kill)),
                // Of the agent's own process: it loses its link.
                None => self.parts.router.detach(worker),
            }
        }
    }
}
