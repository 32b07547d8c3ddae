//! What becomes of actors: started, stopping, ended, lost with their worker.

use super::{Controller, Record, names::allows, refusal};
use odeon_protocol::{
    Address, Direct, ExitCause, Reason, Serial, WorkerId,
    control::{OnStop, Signal, encode},
};
use std::sync::Arc;

impl Controller {
    pub(super) fn on_started(&mut self, process: WorkerId, serial: Serial) {
        let Some(record) = self.record_of(process, serial) else { return };
        if let Some(name) = record.name.clone() {
            let epoch = record.epoch;
            self.name_started(&name, serial, epoch);
        }
    }

    pub(super) fn on_stopping(&mut self, process: WorkerId, serial: Serial) {
        let Some(record) = self.records.get_mut(&serial).filter(|record| record.worker == process) else { return };
        record.stopping = true;
        let (name, epoch, troupe) = (record.name.clone(), record.epoch, record.troupe());
        if let Some(name) = name {
            self.name_stopping(&name, serial, epoch);
        }
        if let Some(troupe) = troupe {
            self.member_ended(troupe, self.place(serial));
        }
    }

    pub(super) fn on_ended(&mut self, process: WorkerId, serial: Serial, cause: ExitCause, not_found: bool) {
        if self.record_of(process, serial).is_none() {
            return;
        }
        let Some(mut record) = self.records.remove(serial) else { return };
        self.parts.metrics.records.set(self.records.len() as u64);
        let place = self.place(serial);
        let cause = record.cause(cause);
        match record.name.clone() {
            Some(name) => {
                self.named_ended(&name, (serial, record), cause, not_found);
                self.rest_if_quiet();
            }
            None if record.may_go_on(&cause)
                && allows(record.policy.restart, &mut record.restarts)
                && !self.stopping =>
            {
                self.start(serial, Record { stopping: false, ..record });
            }
            None => {
                if let Some(troupe) = record.troupe() {
                    self.member_ended(troupe, place);
                }
                self.release_dedicated(record.worker);
                self.child_exited(record.parent, record.address(place), cause);
            }
        }
    }

    fn named_ended(&mut self, name: &Arc<str>, (serial, record): (Serial, Record), cause: ExitCause, not_found: bool) {
        self.release_dedicated(record.worker);
        self.parts.router.stopped(serial);
        if let ExitCause::NeverStarted(text) = &cause {
            let reason = if not_found { Reason::NoSuchActor } else { Reason::StartFailed };
            self.name_start_failed(name, record.epoch, refusal(reason, format!("{name}: {text}")));
            return self.child_exited(record.parent, record.address(self.place(serial)), cause);
        }
        if self.names_are_lost() && (cause == ExitCause::Killed || !record.stopping) {
            // It was ended for that: the actor goes on under its name, on whatever host.
            return self.name_again(name, &record, false);
        }
        if record.may_go_on(&cause) && !self.stopping && self.may_restart(name, record.policy.restart) {
            return self.name_again(name, &record, false);
        }
        if self.is_stopped_by_agent(record.worker) {
            // Its process stops, not the actor: it goes on elsewhere, or here in the next process.
            return self.name_again(name, &record, false);
        }
        if record.unfit.is_some() {
            self.name_unfit(name, &record);
        } else {
            self.name_stopped(name, record.epoch, record.policy.on_stop == OnStop::Dormant);
        }
        self.child_exited(record.parent, record.address(self.place(serial)), cause);
    }

    fn is_stopped_by_agent(&self, worker: WorkerId) -> bool {
        self.stopping || self.workers.get(&worker).is_some_and(|worker| worker.stopping && !worker.dedicated)
    }

    /// A worker is gone with everything that ran in it.
    pub(super) fn actors_lost(&mut self, process: WorkerId, cause: &ExitCause) {
        let lost = self.records.take(|record| record.worker == process);
        self.parts.metrics.records.set(self.records.len() as u64);
        let gone = |parent: Direct, controller: &Self| {
            controller.is_here(parent) && controller.parts.router.process_of(parent).is_none()
        };
        for (serial, record) in lost {
            let place = self.place(serial);
            if !gone(record.parent, self) {
                self.child_exited(record.parent, record.address(place), cause.clone());
            }
            match (&record.name, record.troupe()) {
                (Some(name), _) if record.stopping && record.unfit.is_none() && !self.stopping => {
                    self.name_stopped(&name.clone(), record.epoch, record.policy.on_stop == OnStop::Dormant);
                }
                (Some(name), _) => self.name_again(&name.clone(), &record, true),
                (None, Some(troupe)) => self.member_ended(troupe, place),
                (None, None) => {}
            }
        }
    }

    /// Stops or kills whoever has that address. The signal travels like a message: after what was sent before.
    pub(super) fn end(&mut self, target: &Address, kill: bool) {
        let body = encode(&if kill { Signal::Kill } else { Signal::Stop });
        match target {
            Address::Direct(place) if self.is_troupe_here(*place) => self.end_troupe(*place, kill),
            Address::Direct(place) => self.parts.router.signal(*place, None, &body),
            Address::Named { name, .. } => self.parts.router.signal(Direct::NONE, Some(name), &body),
            Address::Troupe(troupe) => self.end_troupe(*troupe, kill),
        }
    }

    fn record_of(&self, process: WorkerId, serial: Serial) -> Option<&Record> {
        self.records.get(&serial).filter(|record| record.worker == process)
    }
}

impl Record {
    /// The troupe that it is a member of.
    pub(super) fn troupe(&self) -> Option<Direct> {
        self.parent.some().filter(|parent| parent.serial.is_troupe())
    }

    /// Whether a restart policy is about such an end.
    pub(super) fn may_go_on(&self, cause: &ExitCause) -> bool {
        self.unfit.is_none() && matches!(cause, ExitCause::Panicked(_) | ExitCause::Failed(_))
    }

    /// Why it ended, as those concerned are told.
    pub(super) fn cause(&self, said: ExitCause) -> ExitCause {
        match (&self.unfit, said) {
            (Some(lacks), ExitCause::Stopped | ExitCause::Killed) => ExitCause::Unfit(lacks.clone()),
            (_, said) => said,
        }
    }
}
