//! The lives of names: started, stopping, stopped, lost, started again, given to another host.

use super::{LOST_STARTS, Step, Work, allows, declaration_of, spec_of};
use crate::controller::{Controller, Record, refusal};
use odeon_cluster::directory::{Command, Declaration};
use odeon_protocol::{
    Reason, Serial,
    control::{Refusal, Restart},
};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

impl Controller {
    /// A named actor's start has succeeded.
    pub(in crate::controller) fn name_started(&mut self, name: &Arc<str>, serial: Serial, epoch: u64) {
        let starting =
            self.names.work.get(name).is_some_and(|work| matches!(work.step, Step::Starting(of) if of == serial));
        if !starting {
            return;
        }
        self.propose(Command::Started { name: name.clone(), epoch });
        let outcome = self.placement_of(serial, true);
        self.finish(name, &outcome);
    }

    /// A named actor's start has failed: the name is free, and everybody learns why.
    pub(in crate::controller) fn name_start_failed(&mut self, name: &Arc<str>, epoch: u64, why: Refusal) {
        self.names.held.remove(name);
        self.step(name, Step::Releasing);
        let name = name.clone();
        self.release(Command::StartFailed { name: name.clone(), epoch }, move |controller, _| {
            controller.fail(&name, why)
        });
    }

    /// A named actor stops: what is sent to its name waits for the next instance.
    pub(in crate::controller) fn name_stopping(&mut self, name: &Arc<str>, serial: Serial, epoch: u64) {
        self.parts.router.stopping(name, epoch, serial);
        self.step_or_new(name, Step::Stopping);
    }

    /// A named actor has stopped.
    pub(in crate::controller) fn name_stopped(&mut self, name: &Arc<str>, epoch: u64, dormant: bool) {
        self.names.held.remove(name);
        self.names.restarts.remove(name);
        self.parts.router.unresolved(name, epoch);
        self.step_or_new(name, Step::Releasing);
        let freed = name.clone();
        self.release(Command::Released { name: name.clone(), epoch, dormant }, move |controller, _| {
            controller.released(&freed);
        });
    }

    fn released(&mut self, name: &Arc<str>) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        if work.waiters.is_empty() {
            self.names.work.remove(name);
            return;
        }
        (work.since, work.tries) = (Instant::now(), 0);
        self.look(name, true);
    }

    /// A named actor was lost with its worker, or failed and is to be started again: it is claimed under a new epoch.
    pub(in crate::controller) fn name_again(&mut self, name: &Arc<str>, record: &Record, lost: bool) {
        self.names.held.remove(name);
        self.parts.router.unresolved(name, record.epoch);
        self.step_or_new(name, Step::Claiming);
        let Some(work) = self.names.work.get_mut(name) else { return };
        work.revives = true;
        work.lost_starts += u32::from(lost);
        if work.lost_starts > LOST_STARTS {
            let text =
                format!("{name}: its worker ended {LOST_STARTS} times while it started: see the worker's output");
            return self.name_start_failed(name, record.epoch, refusal(Reason::StartFailed, text));
        }
        match self.stopping {
            true => debug!(name = &**name, "is handed over"),
            false => info!(name = &**name, "starts again under a new epoch"),
        }
        self.claim(name, declaration_of(record), record.epoch);
    }

    /// Whether the policy allows one more start after a failure; notes it.
    pub(in crate::controller) fn may_restart(&mut self, name: &Arc<str>, policy: Restart) -> bool {
        allows(policy, self.names.restarts.entry(name.clone()).or_default())
    }

    /// A worker was registered: names that waited for its types go on.
    pub(in crate::controller) fn names_with_worker(&mut self) {
        for (name, declaration, follows) in self.awaiting() {
            if self.runs_type(&declaration.type_name) {
                self.claim(&name, declaration, follows);
            }
        }
    }

    /// A unit ended for good: names that waited for it are given to other hosts.
    pub(in crate::controller) fn names_without_worker(&mut self) {
        for (name, declaration, follows) in self.awaiting() {
            if !self.awaits_type(&declaration.type_name) {
                self.hand_over(&name, declaration, follows);
            }
        }
    }

    /// No worker here runs the type any more, or this host does not fit: the name goes to another one. The leader finds
    /// one sooner or later; where somebody waits, or this agent is about to be gone, it is sought from here.
    pub(super) fn hand_over(&mut self, name: &Arc<str>, declaration: Declaration, epoch: u64) {
        self.step(name, Step::Releasing);
        let moved = name.clone();
        let command = match self.stopping {
            true => Command::Released { name: name.clone(), epoch, dormant: true },
            false => Command::GivenUp { name: name.clone(), epoch },
        };
        self.release(command, move |controller, released| {
            let Some(work) = controller.names.work.get_mut(&moved) else { return };
            if released && !controller.stopping && work.waiters.is_empty() {
                controller.names.work.remove(&moved);
                return;
            }
            work.spec = Some(spec_of(&moved, &declaration));
            (work.starts, work.here, work.revives) = (true, false, false);
            controller.look(&moved, true);
        });
    }

    /// This host no longer fits a named actor, which has ended: the name goes to one that does, now or once there is one.
    pub(in crate::controller) fn name_unfit(&mut self, name: &Arc<str>, record: &Record) {
        self.names.held.remove(name);
        self.names.restarts.remove(name);
        self.parts.router.unresolved(name, record.epoch);
        self.step_or_new(name, Step::Releasing);
        self.hand_over(name, declaration_of(record), record.epoch);
    }

    pub(super) fn revives(&mut self, name: &str) {
        if let Some(work) = self.names.work.get_mut(name) {
            work.revives = true;
        }
    }

    fn awaiting(&self) -> Vec<(Arc<str>, Declaration, u64)> {
        let awaiting = self.names.work.iter().filter_map(|(name, work)| match &work.step {
            Step::AwaitingWorker(declaration, follows) => Some((name.clone(), (**declaration).clone(), *follows)),
            _ => None,
        });
        awaiting.collect()
    }

    pub(super) fn step(&mut self, name: &Arc<str>, step: Step) {
        if let Some(work) = self.names.work.get_mut(name) {
            work.step = step;
        }
    }

    pub(super) fn step_or_new(&mut self, name: &Arc<str>, step: Step) {
        match self.names.work.get_mut(name) {
            Some(work) => work.step = step,
            None => drop(self.names.work.insert(name.clone(), Work::new(step))),
        }
    }

    /// Has a command logged whose outcome nobody waits for.
    pub(in crate::controller) fn propose(&self, command: Command) {
        let convention = self.parts.convention.clone();
        self.begin(async move { convention.propose(command).await }, |_, answer| {
            if let Err(error) = answer {
                warn!(%error, "the directory was not told");
            }
        });
    }

    /// Frees a name, then goes on, told whether that is logged. Without a quorum the name stays with this host until its
    /// lease ends.
    pub(in crate::controller) fn release(
        &mut self,
        command: Command,
        then: impl FnOnce(&mut Self, bool) + Send + 'static,
    ) {
        self.names.releasing += 1;
        let convention = self.parts.convention.clone();
        self.begin(async move { convention.propose(command).await }, move |controller, answer| {
            controller.names.releasing -= 1;
            if let Err(error) = &answer {
                warn!(%error, "a global name was not released");
            }
            then(controller, answer.is_ok());
        });
    }
}
