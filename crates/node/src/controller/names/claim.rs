//! Claiming: a host is chosen, the directory asked, the actor started.

use super::{PAUSE, Step, TRIES, no_such, spec_of, taken};
use crate::{
    controller::{Controller, Placement, Record, choosing::Wish, create::wait_of, refusal},
    convention::{CallError, ProposeError},
};
use odeon_cluster::directory::{Answer, Claim, Command, Declaration, Denied, Directory, NameRecord};
use odeon_protocol::{
    NodeId, Reason, Serial, WorkerId,
    control::Refusal,
    limits::HELD_FOR,
    peer::{PeerReply, PeerRequest},
    planted::{self, Fault},
};
use std::sync::Arc;

impl Controller {
    /// Chooses the host that claims.
    pub(super) fn begin_claim(&mut self, name: &Arc<str>, declaration: Declaration, follows: u64) {
        let Some(work) = self.names.work.get(name) else { return };
        if work.here {
            return self.claim(name, declaration, follows);
        }
        let mut spec = spec_of(name, &declaration);
        spec.near = work.spec.as_ref().and_then(|spec| spec.near);
        spec.remaining_ms = spec.remaining_ms.max(work.creators_wait());
        let wish = Wish::new(spec, work.not.clone());
        let name = name.clone();
        self.choose_host(
            wish,
            Box::new(move |controller, chosen| match chosen {
                // It may have been asked for here while hosts were looked at.
                Ok((host, _)) if host == controller.me() || controller.is_wanted_here(&name) => {
                    controller.claim(&name, declaration, follows);
                }
                Ok((host, wish)) => {
                    if let Some(work) = controller.names.work.get_mut(&name) {
                        work.spec.get_or_insert(wish.spec);
                    }
                    controller.place_elsewhere(&name, host);
                }
                Err(why) => controller.fail(&name, why),
            }),
        );
    }

    fn is_wanted_here(&self, name: &str) -> bool {
        self.names.work.get(name).is_some_and(|work| work.here)
    }

    pub(super) fn place_elsewhere(&mut self, name: &Arc<str>, host: NodeId) {
        let number = self.new_request();
        let Some(work) = self.names.work.get_mut(name) else { return };
        (work.step, work.request) = (Step::Elsewhere, Some(number));
        let Some(spec) = work.spec.clone() else { return self.fail(name, no_such(name)) };
        let (convention, within) = (self.parts.convention.clone(), wait_of(&spec));
        let request = PeerRequest::Place(Box::new(spec));
        let name = name.clone();
        self.begin(async move { convention.call(host, request, within).await }, move |controller, answer| {
            controller.answered_elsewhere(&name, (host, number), answer)
        });
    }

    fn answered_elsewhere(
        &mut self,
        name: &Arc<str>,
        (host, number): (NodeId, u64),
        answer: Result<PeerReply, CallError>,
    ) {
        let Some(work) = self.names.work.get_mut(name).filter(|work| work.request == Some(number)) else { return };
        work.request = None;
        if !matches!(work.step, Step::Elsewhere) {
            // It is being claimed here meanwhile.
            work.made = matches!(answer, Ok(PeerReply::Placed { placed, .. }) if placed.created);
            return;
        }
        match answer {
            Ok(PeerReply::Placed { placed, place, epoch }) => {
                self.finish(name, &Ok(Placement { placed, place, epoch }));
            }
            Ok(PeerReply::Refused(why)) => self.refused_elsewhere(name, host, why),
            Ok(other) => self.fail(name, refusal(Reason::Protocol, format!("host {host} answered {other:?}"))),
            // It may have started the name: only the directory knows.
            Err(error) => self.refused_elsewhere(name, host, error.into()),
        }
    }

    fn refused_elsewhere(&mut self, name: &Arc<str>, host: NodeId, why: Refusal) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        let again =
            matches!(why.reason, Reason::NoHost | Reason::NoSuchType | Reason::Unreachable | Reason::WorkerLost);
        work.not.insert(host);
        work.tries += 1;
        if again && work.tries < TRIES && work.since.elapsed() < HELD_FOR {
            return self.look(name, true);
        }
        self.fail(name, why);
    }

    /// Claims the name for this host and starts its actor; `follows` is the grant before, 0 if there is none.
    pub(super) fn claim(&mut self, name: &Arc<str>, declaration: Declaration, follows: u64) {
        if let Err(why) = self.check_here(&spec_of(name, &declaration)) {
            return self.not_here(name, declaration, follows, why);
        }
        let type_name = declaration.type_name.clone();
        if !self.runs_type(&type_name) {
            if follows != 0 && !self.stopping && self.awaits_type(&type_name) {
                return self.step(name, Step::AwaitingWorker(Box::new(declaration), follows));
            }
            let text = format!("no worker of host {} runs the type {type_name}", self.parts.config.name);
            return self.not_here(name, declaration, follows, refusal(Reason::NoSuchType, text));
        }
        self.step(name, Step::Claiming);
        let name = name.clone();
        self.with_worker(
            &type_name,
            declaration.policy.own_process,
            Box::new(move |controller, worker| match worker {
                Ok(worker) => controller.propose_claim(&name, worker, declaration, follows),
                Err(why) => controller.fail(&name, why),
            }),
        );
    }

    /// This host cannot run the actor: if the grant is this host's, it is given up.
    fn not_here(&mut self, name: &Arc<str>, declaration: Declaration, follows: u64, why: Refusal) {
        let mine = self.names.work.get(name).is_some_and(|work| work.revives);
        if mine { self.hand_over(name, declaration, follows) } else { self.fail(name, why) }
    }

    fn propose_claim(&mut self, name: &Arc<str>, worker: WorkerId, declaration: Declaration, follows: u64) {
        let serial =
            if declaration.policy.troupe.is_some() { Some(self.troupes.next_id()) } else { self.next_serial(worker) };
        let Some(serial) = serial else {
            return self.fail(name, refusal(Reason::WorkerLost, "the worker ended just now"));
        };
        let convention = self.parts.convention.clone();
        let generation = convention.lease().borrow().generation;
        let claim = Claim {
            request: convention.next_request(),
            name: name.clone(),
            declaration: declaration.clone(),
            holder: self.place(serial),
            generation,
            epoch_seen: follows,
        };
        if planted::is(Fault::ClaimAfterStart) {
            let epoch = self.parts.convention.directory(Directory::epoch) + 1;
            self.granted(name, (worker, serial), declaration, epoch);
            return self.propose(Command::Claim(claim));
        }
        let name = name.clone();
        self.begin(async move { convention.propose(Command::Claim(claim)).await }, move |controller, answer| {
            // A grant under a lease that was lost meanwhile is void: the name is unplaced, or another's by now.
            let (lease, node) = (*controller.parts.convention.lease().borrow(), controller.parts.convention.me());
            let void = lease.generation != generation || lease.lost;
            let answer = if void { Ok(Answer::Denied(Denied::LeaseOver { node, generation })) } else { answer };
            controller.on_claimed(&name, (worker, serial), declaration, answer);
        });
    }

    fn on_claimed(
        &mut self,
        name: &Arc<str>,
        (worker, serial): (WorkerId, Serial),
        declaration: Declaration,
        answer: Result<Answer, ProposeError>,
    ) {
        match answer {
            Ok(Answer::Granted { epoch }) => {
                self.parts.metrics.names_granted.add(1);
                self.granted(name, (worker, serial), declaration, epoch);
            }
            Ok(Answer::Held(record)) => self.again(name, Some(*record)),
            Ok(Answer::Changed { record }) => self.again(name, record.map(|record| *record)),
            Ok(Answer::TypeMismatch { has, .. }) => self.fail(name, taken(name, &has)),
            Ok(Answer::Denied(denied)) => self.claim_denied(name, denied.into()),
            Ok(other) => self.fail(name, refusal(Reason::Protocol, format!("the directory answered {other:?}"))),
            Err(ProposeError::Denied(denied)) => self.claim_denied(name, denied.into()),
            Err(error) => self.fail(name, error.into()),
        }
    }

    /// The lease may just be renewed under a new generation.
    fn claim_denied(&mut self, name: &Arc<str>, why: Refusal) {
        if why.reason != Reason::Fenced {
            return self.fail(name, why);
        }
        self.try_later(name, why);
    }

    /// The record was another than was thought.
    pub(in crate::controller) fn again(&mut self, name: &Arc<str>, record: Option<NameRecord>) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        work.tries += 1;
        if work.tries > TRIES {
            return self.fail(
                name,
                refusal(Reason::Unreachable, format!("{name}: its record changes all the time: try again")),
            );
        }
        self.decide(name, record);
    }

    /// Looks again in a moment, as long as messages wait for a name; then that is why it fails.
    pub(super) fn try_later(&mut self, name: &Arc<str>, why: Refusal) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        work.tries += 1;
        if work.since.elapsed() > HELD_FOR {
            return self.fail(name, why);
        }
        let name = name.clone();
        self.later(PAUSE, move |controller| controller.look(&name, true));
    }

    fn granted(&mut self, name: &Arc<str>, (worker, serial): (WorkerId, Serial), declaration: Declaration, epoch: u64) {
        self.names.heard.of(epoch);
        if !self.workers.get(&worker).is_some_and(crate::controller::processes::Worker::takes_actors) {
            // Lost while the claim was under way: this grant is followed by another.
            return self.claim(name, declaration, epoch);
        }
        if self.check_here(&spec_of(name, &declaration)).is_err() {
            // It fitted when it was claimed.
            return self.hand_over(name, declaration, epoch);
        }
        for reply in self.take_creators_of_other_type(name, &declaration.type_name) {
            reply(Err(taken(name, &declaration.type_name)));
        }
        self.step(name, Step::Starting(serial));
        self.names.held.insert(name.clone(), serial);
        let record = Record {
            type_name: declaration.type_name,
            args: declaration.args,
            codec: declaration.codec,
            name: Some(name.clone()),
            epoch,
            parent: declaration.parent,
            worker,
            policy: declaration.policy,
            on: declaration.on,
            stopping: false,
            unfit: None,
            restarts: Vec::new(),
        };
        if record.policy.troupe.is_some() {
            return self.start_named_troupe(name, serial, record);
        }
        self.start(serial, record);
    }
}
