//! Creation: a host is chosen, a worker there, a serial; then the actor is started.

use super::{CALL_WAIT, Controller, Placement, Record, Reply, choosing::Wish, refusal};
use crate::workers::Order;
use odeon_cluster::Requirement;
use odeon_protocol::{
    Address, NodeId, Reason, Serial, WorkerId,
    address::check_name,
    control::{FromAgent, Placed, Policy, Refusal, Spec, Start},
    limits::ARGS_BYTES_MAX,
    peer::{PeerReply, PeerRequest},
};
use std::{collections::BTreeSet, time::Duration};

/// How many hosts are tried for one actor.
const HOSTS_TRIED: usize = 4;

/// Chooses another host.
type Again = fn(&mut Controller, Spec, BTreeSet<NodeId>, Reply);

/// What goes on when there is a worker for an actor, or none.
type WithWorker = Box<dyn FnOnce(&mut Controller, Result<WorkerId, Refusal>) + Send>;

/// Processes that are being started for one actor each.
#[derive(Default)]
pub(super) struct Dedicated(std::collections::BTreeMap<u32, WithWorker>);

impl Controller {
    /// Places and starts an actor, or finds the one that bears the name.
    pub(super) fn create(&mut self, spec: Spec, reply: Reply) {
        if let Err(why) = check(&spec) {
            return reply(Err(why));
        }
        if self.stopping {
            return reply(Err(refusal(Reason::Unreachable, "the agent is stopping")));
        }
        let reply = self.notice_away(&spec, reply);
        if self.wants_troupe(&spec) {
            return self.create_troupe(spec, reply);
        }
        match spec.global_name.clone() {
            Some(name) => self.create_named(&name, spec, reply),
            None => self.place_unnamed(spec, BTreeSet::new(), reply),
        }
    }

    /// Places an actor without a name on the best host; `not` are hosts that refused it.
    fn place_unnamed(&mut self, spec: Spec, not: BTreeSet<NodeId>, reply: Reply) {
        let wish = Wish::new(spec, not);
        self.choose_host(
            wish,
            Box::new(move |controller, chosen| match chosen {
                Ok((host, wish)) if host == controller.me() => controller.place_here(wish.spec, reply),
                Ok((host, wish)) => controller.place_on(host, (wish.spec, wish.not), reply, Self::place_unnamed),
                Err(why) => reply(Err(why)),
            }),
        );
    }

    /// Has another host place an actor; where it refuses, `again` chooses anew.
    pub(super) fn place_on(&self, host: NodeId, (spec, not): (Spec, BTreeSet<NodeId>), reply: Reply, again: Again) {
        let (convention, within) = (self.parts.convention.clone(), wait_of(&spec));
        let request = PeerRequest::Place(Box::new(spec.clone()));
        self.begin(
            async move { convention.call(host, request, within).await },
            move |controller, answer| match answer {
                Ok(PeerReply::Placed { placed, place, epoch }) => reply(Ok(Placement { placed, place, epoch })),
                Ok(PeerReply::Refused(why)) if may_try_another(&why) && not.len() < HOSTS_TRIED => {
                    again(controller, spec, with(not, host), reply);
                }
                Ok(PeerReply::Refused(why)) => reply(Err(why)),
                Ok(other) => reply(Err(refusal(Reason::Protocol, format!("host {host} answered {other:?}")))),
                Err(error) if !error.may_have_run() && not.len() < HOSTS_TRIED => {
                    again(controller, spec, with(not, host), reply);
                }
                Err(error) => reply(Err(error.into())),
            },
        );
    }

    /// What the creation and the type ask of the host.
    pub(super) fn requires_of(&self, spec: &Spec) -> Result<Requirement, Refusal> {
        let policy = self.policy_of(spec);
        policy
            .requires
            .parse()
            .map_err(|error| refusal(Reason::NoHost, format!("the requirement does not parse: {error}")))
    }

    /// The policy of an actor: the creation's in place of the type's. One that says nothing but a requirement adds that
    /// to the type's.
    pub(super) fn policy_of(&self, spec: &Spec) -> Policy {
        let declared = self.types.policy(&spec.type_name).cloned().unwrap_or_default();
        let Some(asked) = spec.policy.clone() else { return declared };
        if asked != (Policy { requires: asked.requires.clone(), ..Policy::default() }) {
            return asked;
        }
        let requires = match (declared.requires.trim(), asked.requires.trim()) {
            ("", asked) => asked.to_owned(),
            (declared, "") => declared.to_owned(),
            (declared, asked) if declared == asked => asked.to_owned(),
            (declared, asked) => format!("({declared}) && ({asked})"),
        };
        Policy { requires, ..declared }
    }

    /// Whether this host may run the actor.
    pub(super) fn check_here(&self, spec: &Spec) -> Result<(), Refusal> {
        let config = &self.parts.config;
        let requires = self.requires_of(spec)?;
        let lacks =
            if config.witness { Some("it is a witness".to_owned()) } else { requires.explain(self.capabilities()) };
        match lacks {
            Some(why) => {
                Err(refusal(Reason::NoHost, format!("host {} does not fit {}: {why}", config.name, spec.type_name)))
            }
            None => Ok(()),
        }
    }

    /// Places an unnamed actor, or a troupe's member, on this host.
    pub(super) fn place_here(&mut self, spec: Spec, reply: Reply) {
        if let Err(why) = self.check_here(&spec) {
            return reply(Err(why));
        }
        let policy = self.policy_of(&spec);
        let type_name = spec.type_name.clone();
        self.with_worker(
            &type_name,
            policy.own_process,
            Box::new(move |controller, worker| {
                let started = worker.and_then(|worker| controller.start_unnamed(&spec, policy, worker));
                reply(started);
            }),
        );
    }

    fn start_unnamed(&mut self, spec: &Spec, policy: Policy, worker: WorkerId) -> Result<Placement, Refusal> {
        // Its process may have taken its time.
        self.check_here(spec)?;
        if spec.parent.serial.is_troupe() && self.is_dead(spec.parent.node, spec.parent.boot) {
            return Err(refusal(Reason::HostLost, "the host that kept the troupe is gone"));
        }
        let serial =
            self.next_serial(worker).ok_or_else(|| refusal(Reason::WorkerLost, "the worker ended just now"))?;
        let record = Record {
            type_name: spec.type_name.clone(),
            args: spec.args.clone(),
            codec: spec.codec,
            name: None,
            epoch: 0,
            parent: spec.parent,
            worker,
            policy,
            on: spec.on.clone(),
            stopping: false,
            unfit: None,
            restarts: Vec::new(),
        };
        self.start(serial, record);
        let place = self.place(serial);
        let placed = Placed { address: Address::Direct(place), created: true, host: self.parts.config.name.clone() };
        Ok(Placement { placed, place, epoch: 0 })
    }

    /// Has the worker start the actor.
    pub(super) fn start(&mut self, serial: Serial, record: Record) {
        let start = Start {
            serial,
            type_name: record.type_name.clone(),
            args: record.args.clone(),
            codec: record.codec,
            global_name: record.name.clone(),
            epoch: record.epoch,
            parent: record.parent,
            policy: record.policy.clone(),
            troupe: record.troupe(),
        };
        self.parts.router.control(record.worker, &FromAgent::Start(start));
        if let Some(name) = &record.name {
            self.watched.news(name);
        }
        self.records.insert(serial, record);
        self.parts.metrics.records.set(self.records.len() as u64);
    }
}

/// Workers for actors.
impl Controller {
    /// Goes on with a worker that runs the type; with a process of its own if the actor wants one.
    pub(super) fn with_worker(&mut self, type_name: &str, own_process: bool, then: WithWorker) {
        let Some(worker) = self.pick_worker(type_name) else {
            let text = format!("no worker of host {} runs the type {type_name}", self.parts.config.name);
            return then(self, Err(refusal(Reason::NoSuchType, text)));
        };
        if !own_process {
            return then(self, Ok(worker));
        }
        let command =
            self.workers.get(&worker).and_then(|worker| self.units.get(&worker.unit)).map(|unit| unit.command.clone());
        let Some(command) = command else {
            return then(self, Err(refusal(Reason::NoSuchType, "its worker is stopping")));
        };
        let unit = self.start_unit(command, true);
        self.dedicated.0.insert(unit, then);
    }

    /// The worker with the fewest actors of those that run the type.
    fn pick_worker(&self, type_name: &str) -> Option<WorkerId> {
        let able =
            self.types.workers(type_name).filter(|id| self.workers.get(id).is_some_and(|worker| worker.takes_actors()));
        able.min_by_key(|id| self.workers.get(id).map_or(u64::MAX, |worker| worker.actors))
    }

    /// Whether a worker could run the type now.
    pub(super) fn runs_type(&self, type_name: &str) -> bool {
        self.pick_worker(type_name).is_some()
    }

    /// Whether a worker that runs the type is expected to come (again) soon.
    pub(super) fn awaits_type(&self, type_name: &str) -> bool {
        self.units.values().any(|unit| unit.brings(type_name))
    }

    pub(super) fn dedicated_ready(&mut self, unit: u32, worker: WorkerId) {
        match self.dedicated.0.remove(&unit) {
            Some(then) => then(self, Ok(worker)),
            None => drop(self.order(unit, Order::Stop)),
        }
    }

    pub(super) fn dedicated_failed(&mut self, unit: u32, why: &str) {
        if let Some(then) = self.dedicated.0.remove(&unit) {
            then(self, Err(refusal(Reason::StartFailed, format!("its own process did not start: {why}"))));
        }
    }

    /// The actor of a process of its own has ended: so may the process.
    pub(super) fn release_dedicated(&mut self, worker: WorkerId) {
        let Some(state) = self.workers.get(&worker).filter(|worker| worker.dedicated) else { return };
        let unit = state.unit;
        self.order(unit, Order::Stop);
    }
}

fn check(spec: &Spec) -> Result<(), Refusal> {
    if let Some(name) = &spec.global_name {
        check_name(name).map_err(|error| refusal(Reason::Protocol, error.to_string()))?;
    }
    if spec.args.len() > ARGS_BYTES_MAX {
        let text = format!(
            "the arguments of {} have {} bytes, over the limit of {ARGS_BYTES_MAX}",
            spec.type_name,
            spec.args.len()
        );
        return Err(refusal(Reason::TooBig, text));
    }
    Ok(())
}

/// Whether another host may do what this one refused.
pub(super) fn may_try_another(why: &Refusal) -> bool {
    matches!(why.reason, Reason::NoHost | Reason::NoSuchType | Reason::WorkerLost | Reason::Unreachable)
}

pub(super) fn wait_of(spec: &Spec) -> Duration {
    if spec.remaining_ms == 0 { CALL_WAIT } else { Duration::from_millis(u64::from(spec.remaining_ms)) }
}

fn with(mut not: BTreeSet<NodeId>, node: NodeId) -> BTreeSet<NodeId> {
    not.insert(node);
    not
}
