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
//!
//! - **N-1.** What was begun for a step that is over changes nothing.
//! - **N-2.** What this agent's copy of the directory says counts only if it has come as far as what this agent was told
//!   ([`heard`]).
//! - **N-3.** A host that another has chosen for a name claims it, and passes it to no third: hosts never wait for one
//!   another in a circle.

mod answers;
mod claim;
mod find;
mod heard;
mod life;

use super::{CALL_WAIT, Controller, Placement, Record, Reply, create::wait_of, refusal};
use heard::Heard;
use odeon_cluster::directory::{Declaration, NameRecord, NameState};
use odeon_protocol::{
    Address, Direct, NodeId, Reason, Serial,
    control::{Placed, Refusal, Restart, Spec, WireCodec},
    simulated::RandomState,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

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
    held: HashMap<Arc<str>, Serial, RandomState>,
    /// Names that something is being done about.
    work: HashMap<Arc<str>, Work, RandomState>,
    /// Releases that are not logged yet.
    releasing: usize,
    /// When actors were started again after a failure.
    restarts: HashMap<Arc<str>, Vec<Instant>>,
    heard: Heard,
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
    /// The request to another host that is not answered yet.
    request: Option<u64>,
    /// Whether such a request made the actor, of which no creator has been told.
    made: bool,
    tries: u32,
    lost_starts: u32,
    /// The grant is this host's and its actor is gone: it is started again whether or not anybody waits.
    revives: bool,
    since: Instant,
}

impl Work {
    /// Work that nobody waits for yet.
    fn new(step: Step) -> Self {
        Self {
            step,
            waiters: Vec::new(),
            spec: None,
            starts: false,
            here: false,
            not: BTreeSet::new(),
            request: None,
            made: false,
            tries: 0,
            lost_starts: 0,
            revives: false,
            since: Instant::now(),
        }
    }

    /// Milliseconds for which the most patient creator still waits.
    fn creators_wait(&self) -> u32 {
        let until = self.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Create { until, .. } => Some(*until),
            Waiter::Frames { .. } => None,
        });
        let left = until.max().map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Looking,
    /// Another host was asked to place it.
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
    Create { type_name: Arc<str>, until: Instant, reply: Reply, from_afar: bool },
    Frames { was_start: bool },
}

impl Waiter {
    /// `from_afar` if it is another agent's, for a creator of its own.
    fn creator(spec: &Spec, reply: Reply, from_afar: bool) -> Self {
        let until = Instant::now() + wait_of(spec);
        Self::Create { type_name: spec.type_name.clone(), until, reply, from_afar }
    }
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
        let waiter = Waiter::creator(&spec, reply, false);
        self.want(name, Want { spec: Some(spec), starts: true, stale: false, here: false }, waiter);
    }

    /// Another agent chose this host for a name.
    pub(super) fn place_named_here(&mut self, name: &Arc<str>, spec: Spec, reply: Reply) {
        let waiter = Waiter::creator(&spec, reply, true);
        self.want(name, Want { spec: Some(spec), starts: true, stale: true, here: true }, waiter);
    }

    pub(super) fn on_missed(&mut self, name: &Arc<str>, starts: bool, stale: bool) {
        let waiter = Waiter::Frames { was_start: starts };
        self.want(name, Want { spec: None, starts, stale, here: false }, waiter);
    }

    fn want(&mut self, name: &Arc<str>, want: Want, waiter: Waiter) {
        tracing::debug!(name = &**name, starts = want.starts, stale = want.stale, here = want.here, work = ?self.names.work.get(name).map(|w| &w.step), "wanted");
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
            work.here |= want.here;
            if work.spec.is_none() {
                work.spec = want.spec;
            }
            work.waiters.push(waiter);
            if want.here && matches!(work.step, Step::Elsewhere) {
                // That host, or one that it asked in turn, may be waiting for this one: this one claims meanwhile, and
                // the directory decides.
                self.look(name, true);
            }
            return;
        }
        let work = Work {
            waiters: vec![waiter],
            spec: want.spec,
            starts: want.starts,
            here: want.here,
            ..Work::new(Step::Looking)
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
        if !stale {
            let (record, epoch) =
                self.parts.convention.directory(|directory| (directory.name(name).cloned(), directory.epoch()));
            if self.names.heard.is_in(epoch) && (record.is_some() || work.starts) {
                return self.decide(name, record);
            }
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
            // An evicted host keeps its names until its lease has run out.
            Some(NameRecord { holder: Some(holder), .. }) if self.is_dead(holder.node, holder.boot) => {
                self.try_later(
                    name,
                    refusal(Reason::HostLost, format!("{name}: its host is lost, and it is not free yet")),
                );
            }
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
        let mut placement = Placement { placed, place: holder, epoch: record.epoch };
        if self.await_elsewhere(name, &placement) {
            return;
        }
        placement.placed.created = self.names.work.get(name).is_some_and(|work| work.made);
        self.finish(name, &Ok(placement));
    }

    /// Whether creators here wait on for the host that was asked for them: its answer says which of them made the actor.
    /// Everybody else learns the place now. Two hosts may have asked each other, and a third one have been faster.
    fn await_elsewhere(&mut self, name: &Arc<str>, placement: &Placement) -> bool {
        let Some(work) = self.names.work.get_mut(name).filter(|work| work.request.is_some()) else { return false };
        let (own, others): (Vec<_>, Vec<_>) = std::mem::take(&mut work.waiters)
            .into_iter()
            .partition(|waiter| matches!(waiter, Waiter::Create { from_afar: false, .. }));
        let waits = !own.is_empty();
        (work.waiters, work.step) = (own, Step::Elsewhere);
        others.into_iter().for_each(|waiter| self.answer(name, waiter, &Ok(placement.clone())));
        waits
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
