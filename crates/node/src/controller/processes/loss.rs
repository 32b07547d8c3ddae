//! Processes that end, or are to.

use super::{EMBEDDED, LINK_WAIT};
use crate::{
    controller::Controller,
    workers::{End, Order},
};
use odeon_protocol::{ExitCause, WorkerId};
use std::collections::BTreeSet;
use tracing::warn;

impl Controller {
    /// A process's link has ended: of a client that is all; a worker's process has to end, too.
    pub(in crate::controller) fn on_closed(&mut self, process: WorkerId, why: Option<&str>) {
        self.on_listen(process, false);
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
        self.publish_facts();
        self.forget_listing(process);
        self.actors_lost(process, cause);
        self.rest_if_quiet();
    }

    /// Kills the workers that run named actors: this host may not run these any more.
    pub(in crate::controller) fn kill_named(&mut self) {
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
