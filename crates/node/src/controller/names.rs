//! Global names: found, claimed, started, started again.
//!
//! For each name that something is being done about there is one [`Work`]; whoever wants the name joins it. Steps:
//!
//! ```text
//!   Looking ──▶ Elsewhere (another host places it, or has it)
//!      │
//!      └──────▶ Claiming ──▶ Starting ──▶ (live: no work)
//!                  ▲   ▲                    │
//!   AwaitingWorker ┘   └──── Releasing ◀─── Stopping
//! ```

use super::{
    CALL_WAIT, Controller, Placement, Record, Reply,
    create::{Wish, wait_of},
    refusal,
};
use crate::{
    convention::ProposeError,
    router::{Known, Why},
};
use odeon_cluster::directory::{Answer, Claim, Command, Declaration, Denied, NameRecord, NameState};
use odeon_protocol::{
    Address, Direct, NodeId, Reason, Serial, WorkerId,
    control::{FromAgent, Placed, Refusal, Restart, Spec, WireCodec},
    limits::HELD_FOR,
    peer::{PeerReply, PeerRequest},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// A claim that meets a moving record is made again, at most so often.
const TRIES: u32 = 10;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at a name that cannot be claimed again for want of a quorum.
const REVIVE_PAUSE: Duration = Duration::from_secs(1);
/// A start that lost its worker so often is taken to be the reason.
const LOST_STARTS: u32 = 3;

/// All names of this agent.
#[derive(Default)]
pub(super) struct Names {
    /// Names that live here.
    held: HashMap<Arc<str>, Serial>,
    /// Names that something is being done about.
    work: HashMap<Arc<str>, Work>,
    /// Releases that are not logged yet.
    releasing: usize,
    /// When actors were started again after a failure.
    restarts: HashMap<Arc<str>, Vec<Instant>>,
}

impl Names {
    pub(super) fn is_at_rest(&self) -> bool {
        self.releasing == 0 && self.held.is_empty() && self.work.is_empty()
    }

    pub(super) fn is_held(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// The name is no longer this host's.
    pub(super) fn forget(&mut self, name: &str) {
        self.held.remove(name);
    }
}

/// What is being done about a name, and for whom.
struct Work {
    step: Step,
    waiters: Vec<Waiter>,
    /// What to start, if it is not declared yet.
    spec: Option<Spec>,
    /// Whether it is to be started if nobody bears it.
    starts: bool,
    /// Only on this host.
    here: bool,
    /// Hosts that refused it.
    not: BTreeSet<NodeId>,
    tries: u32,
    lost_starts: u32,
    /// The grant is this host's and its actor is gone: it is started again whether or not anybody waits.
    revives: bool,
    since: Instant,
}

#[derive(Clone, Debug)]
enum Step {
    Looking,
    Elsewhere,
    Claiming,
    Starting(Serial),
    Stopping,
    Releasing,
    /// No worker runs its type at the moment; that one is coming. Claimed under the epoch before.
    AwaitingWorker(Box<Declaration>, u64),
}

/// Who wants a name.
enum Waiter {
    Create { type_name: Arc<str>, until: Instant, reply: Reply },
    Frames { was_start: bool },
}

/// How a name is wanted.
struct Want {
    spec: Option<Spec>,
    starts: bool,
    stale: bool,
    here: bool,
}

/// Wanting a name.
impl Controller {
    pub(super) fn create_named(&mut self, name: &Arc<str>, spec: Spec, reply: Reply) {
        let waiter =
            Waiter::Create { type_name: spec.type_name.clone(), until: Instant::now() + wait_of(&spec), reply };
        self.want(name, Want { spec: Some(spec), starts: true, stale: false, here: false }, waiter);
    }

    /// Another agent chose this host for a name.
    pub(super) fn place_named_here(&mut self, name: &Arc<str>, spec: Spec, reply: Reply) {
        let waiter =
            Waiter::Create { type_name: spec.type_name.clone(), until: Instant::now() + wait_of(&spec), reply };
        self.want(name, Want { spec: Some(spec), starts: true, stale: true, here: true }, waiter);
    }

    pub(super) fn on_missed(&mut self, name: &Arc<str>, starts: bool, stale: bool) {
        let waiter = Waiter::Frames { was_start: starts };
        self.want(name, Want { spec: None, starts, stale, here: false }, waiter);
    }

    fn want(&mut self, name: &Arc<str>, want: Want, waiter: Waiter) {
        tracing::debug!(name = &**name, stale = want.stale, here = want.here, work = ?self.names.work.get(name).map(|w| &w.step), "wanted");
        if let Some(serial) = self.names.held.get(name).copied()
            && !self.names.work.contains_key(name)
        {
            if self.is_going(serial) {
                // Its process is gone, or it has begun to stop: what becomes of the name is about to be known.
                self.step_or_new(name, Step::Stopping);
                return self.want(name, want, waiter);
            }
            let outcome = self.placement_of(serial, false);
            return self.answer(name, waiter, &outcome);
        }
        if let Some(work) = self.names.work.get_mut(name) {
            work.starts |= want.starts;
            if work.spec.is_none() {
                work.spec = want.spec;
            }
            return work.waiters.push(waiter);
        }
        let work = Work {
            step: Step::Looking,
            waiters: vec![waiter],
            spec: want.spec,
            starts: want.starts,
            here: want.here,
            not: BTreeSet::new(),
            tries: 0,
            lost_starts: 0,
            revives: false,
            since: Instant::now(),
        };
        self.names.work.insert(name.clone(), work);
        self.look(name, want.stale);
    }

    fn is_going(&self, serial: Serial) -> bool {
        let Some(record) = self.records.get(&serial) else { return true };
        let in_process = record.policy.troupe.is_none();
        in_process && self.parts.router.process_of(self.place(serial)).is_none()
    }

    /// Looks into this agent's copy; what it does not know, or knew wrong, the leader is asked.
    fn look(&mut self, name: &Arc<str>, stale: bool) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        work.step = Step::Looking;
        let record = self.parts.convention.directory(|directory| directory.name(name).cloned());
        if !stale && (record.is_some() || work.starts) {
            return self.decide(name, record);
        }
        let (convention, asked) = (self.parts.convention.clone(), name.clone());
        let name = name.clone();
        self.begin(async move { convention.linear_read_name(&asked).await }, move |controller, read| match read {
            Ok(record) => controller.decide(&name, record),
            Err(error) => controller.fail(&name, error.into()),
        });
    }

    fn decide(&mut self, name: &Arc<str>, record: Option<NameRecord>) {
        let Some(work) = self.names.work.get(name) else { return };
        tracing::debug!(name = &**name, record = ?record.as_ref().map(|r| (r.state, r.holder, r.epoch)), "decides");
        match record {
            Some(NameRecord { state: NameState::Live | NameState::Starting, holder: Some(holder), .. })
                if work.here && !self.is_here(holder) =>
            {
                self.at(name, holder, record);
            }
            Some(NameRecord {
                state: NameState::Live | NameState::Starting,
                holder: Some(holder),
                epoch,
                ref declaration,
                ..
            }) => {
                if self.is_here(holder) {
                    // This boot's grant for an actor that is gone: follow it.
                    self.revives(name);
                    return self.claim(name, declaration.clone(), epoch);
                }
                self.at(name, holder, record);
            }
            Some(record) => self.begin_claim(name, record.declaration, record.epoch),
            None if work.starts => match self.declaration(name) {
                Ok(declaration) => self.begin_claim(name, declaration, 0),
                Err(why) => self.fail(name, why),
            },
            None => self.fail(name, no_such(name)),
        }
    }

    /// The name is on another host.
    fn at(&mut self, name: &Arc<str>, holder: Direct, record: Option<NameRecord>) {
        let Some(record) = record else { return };
        let starting_for_creators = record.state == NameState::Starting
            && self.names.work.get(name).is_some_and(|work| {
                !work.here
                    && work.spec.is_some()
                    && work.waiters.iter().any(|waiter| matches!(waiter, Waiter::Create { .. }))
            });
        if starting_for_creators {
            // They are to learn whether its start succeeds.
            return self.place_elsewhere(name, holder.node);
        }
        let wrong: Vec<_> = self.take_creators_of_other_type(name, &record.declaration.type_name);
        for reply in wrong {
            reply(Err(taken(name, &record.declaration.type_name)));
        }
        let placed = Placed {
            address: Address::Named { name: name.clone(), starts: false, hint: holder, epoch: record.epoch },
            created: false,
            host: self.host_name(holder.node),
        };
        self.finish(name, &Ok(Placement { placed, place: holder, epoch: record.epoch }));
    }

    /// What to start for a name that nobody has declared.
    fn declaration(&self, name: &Arc<str>) -> Result<Declaration, Refusal> {
        let spec = match self.names.work.get(name).and_then(|work| work.spec.clone()) {
            Some(spec) => spec,
            None => by_key(name).ok_or_else(|| no_such(name))?,
        };
        let policy = self.policy_of(&spec);
        Ok(Declaration {
            type_name: spec.type_name,
            args: spec.args,
            codec: spec.codec,
            policy,
            on: spec.on,
            parent: spec.parent,
        })
    }
}

/// Claiming.
impl Controller {
    /// Chooses the host that claims.
    fn begin_claim(&mut self, name: &Arc<str>, declaration: Declaration, follows: u64) {
        let Some(work) = self.names.work.get(name) else { return };
        if work.here {
            return self.claim(name, declaration, follows);
        }
        let mut spec = spec_of(name, &declaration);
        spec.near = work.spec.as_ref().and_then(|spec| spec.near);
        let wish = Wish { spec, not: work.not.clone(), own: None, tries: 0 };
        let name = name.clone();
        self.choose_host(
            wish,
            Box::new(move |controller, chosen| match chosen {
                Ok((host, _)) if host == controller.me() => controller.claim(&name, declaration, follows),
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

    fn place_elsewhere(&mut self, name: &Arc<str>, host: NodeId) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        work.step = Step::Elsewhere;
        let Some(spec) = work.spec.clone() else { return self.fail(name, no_such(name)) };
        let (convention, within) = (self.parts.convention.clone(), wait_of(&spec));
        let request = PeerRequest::Place(Box::new(spec));
        let name = name.clone();
        self.begin(
            async move { convention.call(host, request, within).await },
            move |controller, answer| match answer {
                Ok(PeerReply::Placed { placed, place, epoch }) => {
                    controller.finish(&name, &Ok(Placement { placed, place, epoch }));
                }
                Ok(PeerReply::Refused(why)) => controller.refused_elsewhere(&name, host, why),
                Ok(other) => {
                    controller.fail(&name, refusal(Reason::Protocol, format!("host {host} answered {other:?}")))
                }
                // It may have started the name: only the directory knows.
                Err(error) => controller.refused_elsewhere(&name, host, error.into()),
            },
        );
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
    fn claim(&mut self, name: &Arc<str>, declaration: Declaration, follows: u64) {
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
    fn again(&mut self, name: &Arc<str>, record: Option<NameRecord>) {
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

    fn try_later(&mut self, name: &Arc<str>, why: Refusal) {
        let Some(work) = self.names.work.get_mut(name) else { return };
        work.tries += 1;
        if work.since.elapsed() > HELD_FOR {
            return self.fail(name, why);
        }
        let name = name.clone();
        self.later(PAUSE, move |controller| controller.look(&name, true));
    }

    fn granted(&mut self, name: &Arc<str>, (worker, serial): (WorkerId, Serial), declaration: Declaration, epoch: u64) {
        if !self.workers.get(&worker).is_some_and(super::processes::Worker::takes_actors) {
            // Lost while the claim was under way: this grant is followed by another.
            return self.claim(name, declaration, epoch);
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
            troupe: None,
            stopping: false,
            restarts: Vec::new(),
        };
        if record.policy.troupe.is_some() {
            return self.start_named_troupe(name, serial, record);
        }
        self.start(serial, record);
    }
}

/// Lives.
impl Controller {
    /// A named actor's start has succeeded.
    pub(super) fn name_started(&mut self, name: &Arc<str>, serial: Serial, epoch: u64) {
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
    pub(super) fn name_start_failed(&mut self, name: &Arc<str>, epoch: u64, why: Refusal) {
        self.names.held.remove(name);
        self.step(name, Step::Releasing);
        let name = name.clone();
        self.release(Command::StartFailed { name: name.clone(), epoch }, move |controller| controller.fail(&name, why));
    }

    /// A named actor stops: what is sent to its name waits for the next instance.
    pub(super) fn name_stopping(&mut self, name: &Arc<str>, serial: Serial, epoch: u64) {
        self.parts.router.stopping(name, epoch, serial);
        self.step_or_new(name, Step::Stopping);
    }

    /// A named actor has stopped.
    pub(super) fn name_stopped(&mut self, name: &Arc<str>, epoch: u64, dormant: bool) {
        self.names.held.remove(name);
        self.names.restarts.remove(name);
        self.parts.router.unresolved(name, epoch);
        self.step_or_new(name, Step::Releasing);
        let freed = name.clone();
        self.release(Command::Released { name: name.clone(), epoch, dormant }, move |controller| {
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
    pub(super) fn name_again(&mut self, name: &Arc<str>, record: &Record, lost: bool) {
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
        info!(name = &**name, "starts again under a new epoch");
        self.claim(name, declaration_of(record), record.epoch);
    }

    /// Whether the policy allows one more start after a failure; notes it.
    pub(super) fn may_restart(&mut self, name: &Arc<str>, policy: Restart) -> bool {
        allows(policy, self.names.restarts.entry(name.clone()).or_default())
    }

    /// A worker was registered: names that waited for its types go on.
    pub(super) fn names_with_worker(&mut self) {
        for (name, declaration, follows) in self.awaiting() {
            if self.runs_type(&declaration.type_name) {
                self.claim(&name, declaration, follows);
            }
        }
    }

    /// A unit ended for good: names that waited for it are given to other hosts.
    pub(super) fn names_without_worker(&mut self) {
        for (name, declaration, follows) in self.awaiting() {
            if !self.awaits_type(&declaration.type_name) {
                self.hand_over(&name, declaration, follows);
            }
        }
    }

    /// No worker here runs the type any more: the name goes to another host.
    fn hand_over(&mut self, name: &Arc<str>, declaration: Declaration, epoch: u64) {
        self.step(name, Step::Releasing);
        let moved = name.clone();
        self.release(Command::Released { name: name.clone(), epoch, dormant: true }, move |controller| {
            if let Some(work) = controller.names.work.get_mut(&moved) {
                work.spec = Some(spec_of(&moved, &declaration));
                (work.starts, work.here, work.revives) = (true, false, false);
            }
            controller.look(&moved, true);
        });
    }

    fn revives(&mut self, name: &str) {
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

    fn step(&mut self, name: &Arc<str>, step: Step) {
        if let Some(work) = self.names.work.get_mut(name) {
            work.step = step;
        }
    }

    fn step_or_new(&mut self, name: &Arc<str>, step: Step) {
        let new = || Work {
            step: Step::Looking,
            waiters: Vec::new(),
            spec: None,
            starts: false,
            here: false,
            not: BTreeSet::new(),
            tries: 0,
            lost_starts: 0,
            revives: false,
            since: Instant::now(),
        };
        self.names.work.entry(name.clone()).or_insert_with(new).step = step;
    }

    /// Has a command logged whose outcome nobody waits for.
    fn propose(&self, command: Command) {
        let convention = self.parts.convention.clone();
        self.begin(async move { convention.propose(command).await }, |_, answer| {
            if let Err(error) = answer {
                warn!(%error, "the directory was not told");
            }
        });
    }

    /// Frees a name, then goes on. Without a quorum the name stays with this host until its lease ends.
    fn release(&mut self, command: Command, then: impl FnOnce(&mut Self) + Send + 'static) {
        self.names.releasing += 1;
        let convention = self.parts.convention.clone();
        self.begin(async move { convention.propose(command).await }, move |controller, answer| {
            controller.names.releasing -= 1;
            if let Err(error) = answer {
                warn!(%error, "a global name was not released");
            }
            then(controller);
        });
    }
}

/// Answers.
impl Controller {
    fn placement_of(&self, serial: Serial, created: bool) -> Result<Placement, Refusal> {
        let Some(record) = self.records.get(&serial) else {
            return Err(refusal(Reason::NoSuchActor, "it ended just now"));
        };
        let place = self.place(serial);
        let placed = Placed { address: record.address(place), created, host: self.parts.config.name.clone() };
        Ok(Placement { placed, place, epoch: record.epoch })
    }

    fn finish(&mut self, name: &Arc<str>, outcome: &Result<Placement, Refusal>) {
        let Some(work) = self.names.work.remove(name) else { return };
        tracing::debug!(name = &**name, outcome = ?outcome.as_ref().map(|p| (p.place, p.epoch)), waiters = work.waiters.len(), "done");
        let mut outcome = outcome.clone();
        for waiter in work.waiters {
            let is_creator = matches!(waiter, Waiter::Create { .. });
            self.answer(name, waiter, &outcome);
            if let (true, Ok(placement)) = (is_creator, &mut outcome) {
                // One request made it; the others found it.
                placement.placed.created = false;
            }
        }
        if let Ok(placement) = &outcome
            && self.is_here(placement.place)
        {
            // Frames that came while it started may not have been asked for yet.
            self.parts.router.resolved(name, Known { place: placement.place, epoch: placement.epoch });
        }
    }

    pub(super) fn fail(&mut self, name: &Arc<str>, why: Refusal) {
        let revives = why.reason == Reason::NoQuorum
            && !self.stopping
            && self.names.work.get(name).is_some_and(|work| work.revives);
        self.finish(name, &Err(why));
        if revives {
            // The name is still this host's, or the leader gives it to another: look again until that is known.
            self.step_or_new(name, Step::Looking);
            self.revives(name);
            let name = name.clone();
            self.later(REVIVE_PAUSE, move |controller| controller.look(&name, true));
        }
    }

    /// Creators whose time has run out learn so; the name is cared for all the same.
    pub(super) fn expire_creators(&mut self) {
        let now = Instant::now();
        for (name, work) in &mut self.names.work {
            let (late, waiters): (Vec<_>, Vec<_>) = std::mem::take(&mut work.waiters)
                .into_iter()
                .partition(|waiter| matches!(waiter, Waiter::Create { until, .. } if *until <= now));
            work.waiters = waiters;
            for waiter in late {
                if let Waiter::Create { reply, .. } = waiter {
                    let text = format!("{name}: it was not started in time: see `odeon names` and the worker's output");
                    reply(Err(refusal(Reason::Deadline, text)));
                }
            }
        }
    }

    fn answer(&self, name: &Arc<str>, waiter: Waiter, outcome: &Result<Placement, Refusal>) {
        match (waiter, outcome) {
            (Waiter::Create { type_name, reply, .. }, Ok(placement)) => {
                let bearer = self.records.get(&placement.place.serial).filter(|_| self.is_here(placement.place));
                match bearer.filter(|record| record.type_name != type_name) {
                    Some(record) => reply(Err(taken(name, &record.type_name))),
                    None => reply(Ok(placement.clone())),
                }
            }
            (Waiter::Create { reply, .. }, Err(why)) => reply(Err(why.clone())),
            (Waiter::Frames { .. }, Ok(placement)) => {
                self.parts.router.resolved(name, Known { place: placement.place, epoch: placement.epoch });
            }
            (Waiter::Frames { was_start }, Err(why)) => {
                self.parts.router.missing(name, was_start, &Why::not_run(why.reason, why.text.clone()));
            }
        }
    }

    fn take_creators_of_other_type(&mut self, name: &str, bearer: &str) -> Vec<Reply> {
        let Some(work) = self.names.work.get_mut(name) else { return Vec::new() };
        let (wrong, right): (Vec<_>, Vec<_>) = std::mem::take(&mut work.waiters)
            .into_iter()
            .partition(|waiter| matches!(waiter, Waiter::Create { type_name, .. } if **type_name != *bearer));
        work.waiters = right;
        let reply_of = |waiter| match waiter {
            Waiter::Create { reply, .. } => Some(reply),
            Waiter::Frames { .. } => None,
        };
        wrong.into_iter().filter_map(reply_of).collect()
    }
}

/// Looking up and stopping.
impl Controller {
    pub(super) fn on_find(&self, process: WorkerId, request: u64, name: &Arc<str>) {
        if let Some(serial) = self.names.held.get(name).copied() {
            let found = self.placement_of(serial, false).map(|placement| Some(placement.placed));
            return self.parts.router.control(process, &FromAgent::Found { request, result: found });
        }
        if let Some(record) = self.parts.convention.directory(|directory| directory.name(name).cloned()) {
            let result = Ok(Some(self.found(&record)));
            return self.parts.router.control(process, &FromAgent::Found { request, result });
        }
        let (convention, asked) = (self.parts.convention.clone(), name.clone());
        self.begin(async move { convention.linear_read_name(&asked).await }, move |controller, read| {
            let result = read.map(|record| record.map(|record| controller.found(&record))).map_err(Refusal::from);
            controller.parts.router.control(process, &FromAgent::Found { request, result });
        });
    }

    fn found(&self, record: &NameRecord) -> Placed {
        let (hint, epoch) = record.holder.map_or((Direct::NONE, 0), |holder| (holder, record.epoch));
        Placed {
            address: Address::Named { name: record.name.clone(), starts: false, hint, epoch },
            created: false,
            host: self.host_name(record.host),
        }
    }

    /// Names that the leader gives to this host because theirs was lost.
    pub(super) fn adopt(&mut self, name: &Arc<str>, declaration: Declaration, reply: Reply) {
        let spec = spec_of(name, &declaration);
        self.place_named_here(name, spec, reply);
    }
}

/// Whether the policy allows one more start after those; notes it.
pub(super) fn allows(policy: Restart, restarts: &mut Vec<Instant>) -> bool {
    let Restart::UpTo { max, within_ms } = policy else { return false };
    let (now, within) = (Instant::now(), Duration::from_millis(u64::from(within_ms)));
    restarts.retain(|at| now - *at < within);
    if restarts.len() >= max as usize {
        return false;
    }
    restarts.push(now);
    true
}

fn declaration_of(record: &Record) -> Declaration {
    Declaration {
        type_name: record.type_name.clone(),
        args: record.args.clone(),
        codec: record.codec,
        policy: record.policy.clone(),
        on: record.on.clone(),
        parent: record.parent,
    }
}

fn spec_of(name: &Arc<str>, declaration: &Declaration) -> Spec {
    Spec {
        type_name: declaration.type_name.clone(),
        args: declaration.args.clone(),
        codec: declaration.codec,
        global_name: Some(name.clone()),
        on: declaration.on.clone(),
        near: None,
        policy: Some(declaration.policy.clone()),
        parent: declaration.parent,
        remaining_ms: u32::try_from(CALL_WAIT.as_millis()).unwrap_or(u32::MAX),
    }
}

/// What a name's first message starts: `type/key`.
fn by_key(name: &str) -> Option<Spec> {
    let (type_name, key) = name.split_once('/')?;
    Some(Spec {
        type_name: type_name.into(),
        args: key.as_bytes().to_vec(),
        codec: WireCodec::Key,
        global_name: Some(name.into()),
        on: None,
        near: None,
        policy: None,
        parent: Direct::NONE,
        remaining_ms: u32::try_from(CALL_WAIT.as_millis()).unwrap_or(u32::MAX),
    })
}

fn no_such(name: &str) -> Refusal {
    refusal(Reason::NoSuchActor, format!("nobody bears the global name {name}"))
}

fn taken(name: &str, has: &str) -> Refusal {
    refusal(Reason::Taken, format!("the global name {name} is borne by an actor of type {has}"))
}
